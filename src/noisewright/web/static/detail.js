// One candidate: its picture as large as it goes, what it scored, how it was made, what can be done with it.

import {ask, copy, dialog, h, query, signed, trying, written} from "./dom.js";
import {image} from "./slider.js";

const MARKS = [["star", "★", "Star", "s"], ["pin", "◆", "Pin", "p"], ["reject", "✕", "Reject", "x"]];

export async function toggleMark(run, row, mark) {
  const on = !run.marks(row.id).includes(mark);
  const found = await trying(() => ask("/api/mark", {run: run.name, id: row.id, mark, on}));
  if (found) run.choose(found);
}

export function scoreTable(run, rows, heads) {
  const base = run.byId.get(run.head.baseline);
  const compares = heads && rows.length === 2;
  return h("table.scores", heads ? h("thead", h("tr", h("th", ""), heads.map((one) => h("th", {scope: "col"}, one)), compares ? h("th", {scope: "col"}, "change") : null)) : null, h("tbody", run.columns().map((column) => {
    const places = run.places(column.key), values = rows.map((row) => run.score(row, column.key));
    if (values.every((one) => one === null)) return null;
    const from = base && rows.length === 1 ? run.score(base, column.key) : null;
    const interval = column.key === "human" && rows.length === 1 ? run.choices.human[rows[0].id] : null;
    return h("tr", h("th", {scope: "row"}, column.name, column.role === "verifier" ? null : h("small", column.role)), values.map((one) => h("td", written(one, places), interval ? h("small", ` ${written(interval[1], places)} to ${written(interval[2], places)}`) : null)),
      compares ? h("td", {class: values[1] > values[0] ? "up" : "quiet"}, values.includes(null) ? "" : signed(values[1] - values[0], places)) : null,
      rows.length === 1 && from !== null && rows[0] !== base && values[0] !== null ? h("td", {class: values[0] > from ? "up" : "quiet"}, signed(values[0] - from, places)) : rows.length === 1 && base && rows[0] !== base ? h("td", "") : null);
  })));
}

export function detail(run, row, rows, {go, compare}) {
  const stage = h("div.stage"), side = h("div.about");
  const made = dialog("Candidate", h("div.detail", stage, side));
  made.classList.add("wide");
  let asked = 0;

  function step(by) {
    const place = rows.indexOf(row) + by;
    if (place >= 0 && place < rows.length) show(rows[place]);
  }

  function show(next) {
    row = next;
    const picture = row.unfinished && !row.pictured ? h("div.half", h("b", row.index), h("span", `of ${row.steps} steps`)) : image(run, row);
    stage.replaceChildren(h("button.icon.step.back", {type: "button", "aria-label": "The one before", onclick: () => step(-1)}, "‹"), picture, h("button.icon.step.on", {type: "button", "aria-label": "The next", onclick: () => step(1)}, "›"));
    const place = rows.indexOf(row);
    stage.firstChild.disabled = place <= 0;
    stage.lastChild.disabled = place === rows.length - 1;
    made.querySelector("header h2").replaceChildren(run.called(row), h("span.quiet", ` ${place + 1} of ${rows.length.toLocaleString("en")}`));
    about();
  }

  function about() {
    const tags = [row.id === run.head.best && h("span.chip.is-best", "best"), row.id === run.head.baseline && h("span.chip.is-base", "baseline"), row.broken && h("span.chip.is-failed", row.broken === "nan" ? "broken" : "blacked out")];
    const marks = row.unfinished ? null : h("div.buttons", MARKS.map(([name, sign, word]) => h("button", {type: "button", "aria-pressed": String(run.marks(row.id).includes(name)), onclick: () => toggleMark(run, row, name)}, h("span", {"aria-hidden": "true"}, sign), ` ${word}`)), h("button", {type: "button", onclick: () => { compare(row); }}, "Compare"));
    const facts = h("div.facts", h("p.quiet", row.unfinished ? `A clean estimate at step ${row.index} of ${row.steps}: scored on the way, and not finished. Its scores compare with other previews alone.` : `Image ${row.images} of the run, ${row.draft ? "a draft of " : ""}${row.steps} steps, after ${row.nfe.toLocaleString("en")} NFE`));
    side.replaceChildren(h("div.tags", tags), scoreTable(run, [row]), marks ?? "", facts);
    if (!row.unfinished) more(facts);
  }

  async function more(facts) {
    const number = ++asked;
    const found = await trying(() => ask(`/api/candidate?${query({run: run.name, id: row.id})}`));
    if (!found || number !== asked) return;
    if (found.film) stage.querySelector("img")?.replaceWith(h("video", {src: `/film?${query({run: run.name, id: row.id})}`, poster: stage.querySelector("img").src, controls: true, loop: true, muted: true, playsInline: true, preload: "metadata", "aria-label": run.alt(row)}));
    const alike = h("input.number", {type: "text", value: "16 images", "aria-label": "Budget"});
    const steps = h("input.number", {type: "number", min: 1, max: 1000, value: Math.min(1000, row.steps * 2), "aria-label": "Steps"});
    facts.append(
      h("p", h("b", "How it was made: "), found.how.replaceAll(" -> ", " → ")),
      h("div.buttons", row.seed === null ? null : h("button", {type: "button", onclick: () => copy(String(row.seed), "Seed")}, "Copy seed"),
        found.diffusers ? h("button", {type: "button", onclick: () => copy(found.diffusers, "Plain diffusers")}, "Copy plain diffusers") : null,
        found.command ? h("button", {type: "button", onclick: () => copy(found.command, "Command")}, "Copy command") : null,
        h("button", {type: "button", onclick: () => copy(found.replay, "Replay")}, "Copy replay"),
        h("a.button", {href: `/download?${query({run: run.name, id: row.id})}`, download: `${row.id}.png`}, "Download"),
        found.film ? h("a.button", {href: `/download?${query({run: run.name, id: row.id, film: 1})}`, download: `${row.id}.mp4`}, "Download film") : null),
      found.diffusers ? h("details", h("summary", "Plain diffusers"), h("pre", {tabindex: 0}, found.diffusers)) : h("p.quiet", `Plain diffusers: ${found.no_diffusers}`),
      h("details", {open: true}, h("summary", "Go on from here"),
        found.alone ? h("form.inline", {onsubmit: (event) => send(event, () => ask("/api/like", {run: run.name, id: row.id, budget: alike.value}))}, h("button", {type: "submit"}, "More like this"), alike) : h("p.quiet", "More like this: it was drawn on the way, not from its starting noise alone."),
        row.seed === null ? null : h("form.inline", {onsubmit: (event) => send(event, () => ask("/api/steps", {run: run.name, id: row.id, steps: Number(steps.value)}))}, h("button", {type: "submit"}, "This seed with"), steps, h("span", "steps"))));
  }

  async function send(event, work) {
    event.preventDefault();
    const found = await trying(work, "in the queue");
    if (found) {
      made.close();
      go(`/run?${query({name: found.run})}`);
    }
  }

  made.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key;
    if (key === "ArrowRight" || key === "ArrowDown") step(1);
    else if (key === "ArrowLeft" || key === "ArrowUp") step(-1);
    else if (key === " " && !event.target.matches("button, summary, a")) made.close();
    else if (key === "c" && !row.unfinished) compare(row);
    else if (!row.unfinished && MARKS.some((one) => one[3] === key)) toggleMark(run, row, MARKS.find((one) => one[3] === key)[0]);
    else return;
    event.preventDefault();
  });
  const changed = () => { if (made.isConnected) keepFocus(); };
  // Only the buttons of marks change: what was typed stays.
  function keepFocus() {
    for (const [place, [name]] of MARKS.entries()) side.querySelectorAll(".buttons")[0]?.children[place]?.setAttribute("aria-pressed", String(run.marks(row.id).includes(name)));
    side.querySelector("table.scores")?.replaceWith(scoreTable(run, [row]));
  }
  run.addEventListener("choices", changed);
  made.addEventListener("close", () => run.removeEventListener("choices", changed));
  show(row);
  return made;
}
