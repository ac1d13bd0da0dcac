// Which is better? Two pictures without their scores; what follows from the answers, beside what verifiers say.

import {ask, empty, h, picture, plural, query, tell, trying, waitingFor, written} from "./dom.js";
import {image} from "./slider.js";

export function choose(run, place, open) {
  const pair = h("div.choice", waitingFor("choosing a pair")), said = h("div.opinions");
  place.replaceChildren(h("div.choose", pair, said));
  let now = null, busy = false, skipped = [];

  async function next() {
    try {
      const found = await ask(`/api/pair?${[query({run: run.name}), ...skipped.map((ids) => query({skip: ids.join(",")}))].join("&")}`);
      now = found.pair;
    } catch (error) {
      pair.replaceChildren(empty("No pair", error.message));
      return;
    }
    if (!now) {
      pair.replaceChildren(empty("No pair to compare yet", "There must be two scored images that are not rejected."));
      return;
    }
    const [left, right] = now.map((id) => run.byId.get(id) ?? {id, scores: []});
    const side = (row, choice, name, key) => h("button.side", {type: "button", onclick: () => answer(choice), "aria-label": `The ${name} one is better`}, blind(row), h("span.caption", h("kbd", key), ` ${name} is better`));
    pair.replaceChildren(h("h2", "Which is better?"), h("p.quiet", run.head.prompt ?? ""), h("div.sides", side(left, "a", "left", "←"), side(right, "b", "right", "→")),
      h("div.buttons.middle", h("button", {type: "button", onclick: () => answer("tie")}, h("kbd", "space"), " no difference"), h("button", {type: "button", onclick: another}, "another pair")));
  }

  function another() {
    skipped = [...skipped, now].slice(-50);
    next();
  }

  // Neither seed nor score is told: that is what makes it blind.
  function blind(row) {
    const made = image(run, row);
    made.alt = "one of the two";
    return made;
  }

  async function answer(choice) {
    if (!now || busy) return;
    busy = true;
    const [a, b] = now;
    const found = await trying(() => ask("/api/vote", {run: run.name, a, b, choice}));
    busy = false;
    if (!found) return;
    run.choose(found);
    tell(`${plural(found.votes, "choice")} so far`);
    next();
  }

  function draw() {
    const {votes, human, agreement} = run.choices;
    const ranked = Object.entries(human).sort((one, other) => other[1][0] - one[1][0]);
    if (!votes) {
      said.replaceChildren(h("h2", "What your choices say"), h("p.quiet", "Nothing yet. After a few pairs this shows the strength of each image, with the doubt that is left, and how often each verifier would have chosen as you did."),
        h("p.quiet", "Keys: ← → choose, space says that there is no difference."));
      return;
    }
    const low = Math.min(...ranked.map((one) => one[1][1])), high = Math.max(...ranked.map((one) => one[1][2])), share = (value) => `${100 * (value - low) / (high - low || 1)}%`;
    const shown = ranked.slice(0, 12);
    said.replaceChildren(h("h2", `What ${plural(votes, "choice")} say`),
      h("h3", "Agreement with you"), h("p.quiet", "How often a verifier prefers the image that you chose, with its 95 % interval. At 50 % it says nothing of your taste."),
      agreement.length ? h("ul.rates", agreement.map((one) => h("li", h("span.name", one.name), bar(one.low * 100, one.high * 100, one.rate * 100), h("b", `${Math.round(one.rate * 100)} %`), h("small", `of ${one.choices}`)))) : h("p.quiet", "No verifier has scores of what you compared."),
      h("h3", `human:${run.name}`), h("p.quiet", "Strength by Bradley and Terry, with its 95 % interval: a verifier, which the gallery sorts by, and the command line takes as human:DIRECTORY of this run."),
      h("ul.strengths", shown.map(([id, [value, from, to, count]]) => {
        const row = run.byId.get(id);
        const track = h("span.track", h("span.range"), h("span.point"));
        track.children[0].style.left = share(from);
        track.children[0].style.width = `${100 * (to - from) / (high - low || 1)}%`;
        track.children[1].style.left = share(value);
        return h("li", h("button.thumb", {type: "button", disabled: !row, "aria-label": row ? `Open ${run.called(row)}` : "gone", onclick: () => open(row)}, h("img", {src: picture(run.name, id, 96), alt: ""})), track, h("b", written(value, 2)), h("small", plural(count, "choice")));
      })), ranked.length > shown.length ? h("p.quiet", `and ${ranked.length - shown.length} more`) : "");
  }

  function bar(low, high, rate) {
    const track = h("span.track", h("span.half-way"), h("span.range"), h("span.point"));
    track.children[1].style.left = `${low}%`;
    track.children[1].style.width = `${high - low}%`;
    track.children[2].style.left = `${rate}%`;
    return track;
  }

  function key(event) {
    if (!pair.offsetParent || document.querySelector("dialog[open]") || event.target.matches("input, select, textarea, [role=tab]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const choice = {ArrowLeft: "a", ArrowRight: "b", " ": "tie"}[event.key];
    if (!choice || (event.key === " " && event.target.matches("button"))) return;
    event.preventDefault();
    answer(choice);
  }
  document.addEventListener("keydown", key);
  run.addEventListener("choices", draw);
  draw();
  next();
  return {refresh() { if (!now && run.rows.length > 1) next(); }, close() { document.removeEventListener("keydown", key); run.removeEventListener("choices", draw); }};
}
