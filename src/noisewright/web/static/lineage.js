// What came of what: the tree of a search. Hover shows the picture, a click opens the candidate.

import {ask, decimals, empty, h, picture, plural, query, s, waitingFor, written} from "./dom.js";

const VERBS = {vary: "neighbour of the one before", blend: "blended of those before", place: "placed around the one before", ascend: "climbed from the one before", fork: "copied at step", renoise: "noised back to step"};
const PICTURES = 160;  // nodes: up to so many each is a picture

export function lineage(run, place, open) {
  const body = h("div.lineage", waitingFor("drawing the tree"));
  const legend = h("p.quiet.legend");
  const anew = h("button", {type: "button", onclick: look, hidden: true}, "Draw anew");
  const count = h("span.quiet", {role: "status"});
  place.replaceChildren(h("div.bar", legend, h("span.spring"), count, anew), body);
  const card = h("div.hovercard", {hidden: true, "aria-hidden": "true"});
  place.append(card);
  let drawn = -1;

  async function look() {
    try {
      const found = await ask(`/api/lineage?${query({run: run.name})}`);
      drawn = run.rows.length;
      anew.hidden = true;
      body.replaceChildren(...draw(found));
      const tree = body.querySelector(".scroll"), best = body.querySelector(".node.best");
      if (best) tree.scrollTop += best.getBoundingClientRect().top - tree.getBoundingClientRect().top - tree.clientHeight / 2;
    } catch (error) {
      body.replaceChildren(empty("The tree cannot be drawn", error.message));
    }
  }

  function draw(found) {
    const {nodes, width, height} = found;
    count.textContent = plural(nodes.length + found.left_out, "draw") + (found.left_out ? `, ${nodes.length} shown: those that led to the best` : "");
    if (!nodes.length) return [empty("Nothing was drawn yet")];
    const pictures = nodes.length <= PICTURES, size = pictures ? 44 : 12, cut = 17, across = found.flat ? size + 8 : Math.max(pictures ? 120 : 80, Math.min(300, (body.clientWidth - size - 60) / Math.max(1, width - 1))), down = size + 8;
    const wide = Math.max(40, (found.flat ? width : width - 1) * across + size + (found.flat ? 24 : 110)), head = found.flat ? 0 : 22, high = height * down + 34 + head;
    legend.replaceChildren(h("span.key.way"), "the way to the best", h(pictures ? "span.key.base" : "span.key.node"), pictures ? "the baseline" : "finished; the darker, the better", h(pictures ? "span.key.early" : "span.key.cut"), "not finished", h("span.keys", "Arrows move, space opens"));
    const x = (one) => 12 + size / 2 + one.x * across, y = (one) => 12 + head + size / 2 + one.y * down;
    const values = nodes.map((one) => one.value).filter((one) => one !== null), low = Math.min(...values), high_ = Math.max(...values), places = decimals(values);
    const share = (one) => one.value === null ? 0 : high_ > low ? (one.value - low) / (high_ - low) : 1;
    const edges = s("g", {class: "edges"}), dots = s("g", {class: "nodes"}), defs = s("defs");
    const made = s("svg", {width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: "group", "aria-label": "Lineage of the search"}, defs, edges, dots);
    for (let generation = 0; head && generation < width; generation++) {
      const same = new Set(nodes.filter((one) => one.x === generation).map((one) => `${one.verb} ${one.at}`));
      const text = same.size === 1 ? heading(nodes.find((one) => one.x === generation)) : generation ? `generation ${generation}` : "beginning";
      made.append(s("text", {x: 12 + generation * across, y: 14, class: "faint"}, text));
    }
    for (const one of nodes) {
      one.parents.forEach((parent, number) => {
        const from = nodes[parent], bend = (x(from) + x(one)) / 2;
        edges.append(s("path", {d: `M${x(from)} ${y(from)}C${bend} ${y(from)} ${bend} ${y(one)} ${x(one)} ${y(one)}`, class: [one.last && from.last && "way", number && "further"].filter(Boolean).join(" ")}));
      });
    }
    for (const one of nodes) {
      const row = one.candidate && run.byId.get(one.candidate);
      const said = describe(one, row, found, places);
      const node = s("g", {class: ["node", one.best && "best", one.last && "way", !one.candidate && "cut", row?.id === run.head.baseline && "base"].filter(Boolean).join(" "), transform: `translate(${x(one)} ${y(one)})`, tabindex: -1, role: row ? "button" : "img", "aria-label": said.join(", ")});
      if (pictures && row) {
        node.append(s("image", {href: picture(run.name, row.id, 96), x: -size / 2, y: -size / 2, width: size, height: size, preserveAspectRatio: "xMidYMid slice"}), s("rect", {x: -size / 2, y: -size / 2, width: size, height: size, rx: 3, class: "frame"}));
      } else if (pictures && one.preview?.id) {
        node.append(s("image", {href: picture(run.name, one.preview.id, 96, true), x: -cut / 2, y: -cut / 2, width: cut, height: cut, preserveAspectRatio: "xMidYMid slice"}), s("rect", {x: -cut / 2, y: -cut / 2, width: cut, height: cut, rx: 3, class: "frame"}));
      } else {
        const dot = s("circle", {r: row ? (one.best ? 8 : 5.5) : 4, class: "dot"});
        if (row) dot.style.setProperty("--share", `${Math.round(20 + 80 * share(one))}%`);
        node.append(dot);
      }
      node.addEventListener("pointerenter", () => hover(node, one, row, said));
      node.addEventListener("pointerleave", () => { card.hidden = true; });
      node.addEventListener("focus", () => hover(node, one, row, said));
      node.addEventListener("blur", () => { card.hidden = true; });
      if (row) {
        node.addEventListener("click", () => open(row));
        node.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(row); } });
      }
      dots.append(node);
    }
    const space = h("div.scroll", {tabindex: 0, role: "region", "aria-label": "Tree, scrolls"}, made);
    alongBranches(space, [...dots.children], found);
    const flat = found.flat ? [h("p.quiet", "Each image of this search is a fresh draw: none came of another.")] : [];
    return [...flat, space];
  }

  /** One stop for Tab; from there arrows lead to what a draw came of, what came of it, and those beside it. */
  function alongBranches(space, drawn, {nodes, flat}) {
    const best = nodes.findIndex((one) => one.best);
    let at = Math.max(0, best);
    drawn[at].setAttribute("tabindex", 0);
    const nearest = (some, axis) => some.reduce((found, n) => found < 0 || Math.abs(nodes[n][axis] - nodes[at][axis]) < Math.abs(nodes[found][axis] - nodes[at][axis]) ? n : found, -1);
    const beside = (axis, by) => nearest([...nodes.keys()].filter((n) => nodes[n][axis === "y" ? "x" : "y"] === nodes[at][axis === "y" ? "x" : "y"] && (nodes[n][axis] - nodes[at][axis]) * by > 0), axis);
    const children = () => nearest([...nodes.keys()].filter((n) => nodes[n].parents[0] === at), "y");
    const moves = {ArrowUp: () => beside("y", -1), ArrowDown: () => beside("y", 1), ArrowLeft: () => flat ? beside("x", -1) : nodes[at].parents[0] ?? -1, ArrowRight: () => flat ? beside("x", 1) : children(), Home: () => 0, End: () => nodes.length - 1};
    space.addEventListener("focusin", (event) => {  // what is drawn hears of no focus itself: browsers would give it some
      const next = drawn.indexOf(event.target.closest(".node"));
      if (next < 0) return;
      drawn[at].setAttribute("tabindex", -1);
      drawn[at = next].setAttribute("tabindex", 0);
    });
    space.addEventListener("keydown", (event) => {
      if (!(event.key in moves) || event.target === space || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      drawn[moves[event.key]()]?.focus();
    });
  }

  const heading = (one) => one.verb === "noise" ? "fresh noise" : one.verb === "fork" ? `copied at step ${one.at}` : one.verb === "renoise" ? `noised to step ${one.at}` : {vary: "varied", blend: "blended", place: "placed", ascend: "climbed"}[one.verb] ?? one.verb;

  function describe(one, row, found, places) {
    const from = one.verb === "noise" ? `noise${one.seed === null ? "" : ` of seed ${one.seed}`}` : `${VERBS[one.verb] ?? one.verb}${one.verb === "fork" || one.verb === "renoise" ? ` ${one.at}` : one.at ? ` at step ${one.at}` : ""}`;
    const said = [from];
    if (row) said.unshift(`${run.head.value_name} ${written(one.value, places)}`);
    else said.push(`reached step ${one.reached} of ${one.steps}`);
    if (one.preview) said.push(`preview at step ${one.preview.index}: ${one.preview.scores.map((value, n) => `${found.verifiers[n]} ${written(value, 3)}`).join(", ")}`);
    if (one.best) said.unshift("the best");
    else if (row?.id === run.head.baseline) said.unshift("baseline");
    return said;
  }

  function hover(node, one, row, said) {
    const shown = row?.id ?? one.preview?.id;
    card.replaceChildren(shown ? h("img", {src: picture(run.name, shown, 384, !row), alt: "", class: "exact-if-small", onload: (event) => event.target.classList.toggle("exact", event.target.naturalWidth <= 128)}) : "", h("div", said.map((one, n) => h(n ? "div" : "b", one))));
    card.hidden = false;
    const box = node.getBoundingClientRect(), wide = card.offsetWidth, high = card.offsetHeight;
    card.style.left = `${Math.max(8, Math.min(innerWidth - wide - 8, box.right + 12 + wide > innerWidth ? box.left - wide - 12 : box.right + 12))}px`;
    card.style.top = `${Math.max(8, Math.min(innerHeight - high - 8, box.top + box.height / 2 - high / 2))}px`;
  }

  look();
  return {refresh() { if (drawn >= 0 && run.rows.length !== drawn) anew.hidden = false; }};
}
