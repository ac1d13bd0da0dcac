// Candidates beside each other: a tray that two to four are put into, and a window that shows them.

import {dialog, h, picture, tell} from "./dom.js";
import {scoreTable} from "./detail.js";
import {image, slider} from "./slider.js";

const MOST = 4;

export function tray(run) {
  const held = [], thumbs = h("span.thumbs");
  const look = h("button.main", {type: "button", onclick: () => show(run, held)}, "Compare");
  const made = h("div.tray", {role: "region", "aria-label": "To be compared", hidden: true}, thumbs, look, h("button", {type: "button", onclick: () => { held.length = 0; draw(); }}, "Clear"));

  function draw() {
    made.hidden = !held.length;
    look.disabled = held.length < 2;
    look.textContent = held.length < 2 ? "Choose another" : `Compare ${held.length}`;
    thumbs.replaceChildren(...held.map((row) => h("button.thumb", {type: "button", "aria-label": `Take ${run.called(row)} out`, onclick: () => toggle(row)}, h("img", {src: picture(run.name, row.id, 96), alt: ""}))));
  }

  function toggle(row) {
    if (row.unfinished) return;
    const place = held.indexOf(row);
    if (place >= 0) held.splice(place, 1);
    else if (held.length < MOST) held.push(row);
    else return tell(`Up to ${MOST} are compared at once`, true);
    tell(place >= 0 ? `${run.called(row)} taken out` : `${run.called(row)} is number ${held.length} of those to be compared`);
    draw();
  }

  return {element: made, toggle};
}

export function show(run, rows) {
  const names = rows.map((row) => (row.id === run.head.best ? "best, " : row.id === run.head.baseline ? "baseline, " : "") + run.called(row));
  const grid = h("div.side-by-side", {data: {count: rows.length}}, rows.map((row, n) => h("figure", image(run, row), h("figcaption", names[n]))));
  const made = dialog(`Compare ${rows.length}`, h("div.compare", grid, h("div.scroll", scoreTable(run, rows, names))));
  made.classList.add("wide");
  if (rows.length === 2) {
    const over = h("button", {type: "button", "aria-pressed": "false", onclick: () => {
      const on = over.getAttribute("aria-pressed") === "false";
      over.setAttribute("aria-pressed", String(on));
      grid.replaceChildren(...(on ? [slider(run, rows[0], rows[1], names)] : rows.map((row, n) => h("figure", image(run, row), h("figcaption", names[n])))));
      grid.dataset.count = on ? 1 : 2;
    }}, "Over each other");
    made.querySelector("header h2").after(over);
  }
}
