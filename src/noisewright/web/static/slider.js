// Two pictures over each other, with a line between them that is moved by hand or by keys.

import {h, picture} from "./dom.js";

export function slider(run, one, other, names = ["baseline", "best"]) {
  const under = image(run, other), over = image(run, one);
  over.classList.add("over");
  const line = h("span.line", {"aria-hidden": "true"}, h("span.grip", "⇔"));
  const range = h("input", {type: "range", min: 0, max: 100, value: 50, step: 1, "aria-label": `How much of ${names[0]} is seen before ${names[1]}`, oninput: move});
  const made = h("div.slider", under, over, line, h("span.tag.left", names[0]), h("span.tag.right", names[1]), range);

  function move() {
    made.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % ${names[0]}`);
  }
  move();
  return made;
}

export function image(run, row, side = 0) {
  const made = h("img", {src: picture(run.name, row.id, side, row.unfinished), alt: run.alt(row), decoding: "async"});
  made.addEventListener("load", () => made.classList.toggle("exact", Math.max(made.naturalWidth, made.naturalHeight) <= 128));
  made.addEventListener("error", () => made.classList.add("lost"));
  return made;
}
