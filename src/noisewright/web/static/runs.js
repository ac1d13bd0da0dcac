// All runs: pictures first, what was searched, what it came to, how far it is.

import {ago, ask, chip, decimals, duration, empty, enter, h, meter, picture, plural, query, short, signed, waitingFor, written} from "./dom.js";

const SORTS = {
  newest: ["newest first", (a, b) => (b.created ?? "").localeCompare(a.created ?? "")],
  oldest: ["oldest first", (a, b) => (a.created ?? "").localeCompare(b.created ?? "")],
  gain: ["largest gain", (a, b) => gain(b) - gain(a)],
  score: ["best score", (a, b) => (b.best?.score ?? -Infinity) - (a.best?.score ?? -Infinity)],
  prompt: ["prompt, A to Z", (a, b) => (a.prompt ?? "").localeCompare(b.prompt ?? "")],
  images: ["most images", (a, b) => (b.spent?.images ?? 0) - (a.spent?.images ?? 0)],
};
const STATES = ["running", "done", "interrupted", "killed", "failed", "damaged"];
const POLL = 2000;

const gain = (one) => one.best?.score === undefined || one.best?.score === null || !one.baseline ? -Infinity : one.best.score - one.baseline.score;

export function runs(main) {
  const kept = JSON.parse(sessionStorage.getItem("runs") ?? "{}");
  const text = h("input", {type: "search", placeholder: "Prompt, model or name", "aria-label": "Filter by prompt, model or name", value: kept.text ?? "", oninput: changed});
  const state = h("select", {"aria-label": "State", onchange: changed}, h("option", {value: ""}, "any state"), STATES.map((one) => h("option", {value: one}, one)));
  const search = h("select", {"aria-label": "Search", onchange: changed}, h("option", {value: ""}, "any search"));
  const sort = h("select", {"aria-label": "Sort", onchange: changed}, Object.entries(SORTS).map(([key, [name]]) => h("option", {value: key}, name)));
  const count = h("span.quiet", {role: "status"}), lost = h("span.wrong", {role: "status"});
  const list = h("ul.runs", {"aria-label": "Runs"});
  const body = h("div", waitingFor("reading the runs"));
  main.append(h("div.bar", h("h1", "Runs"), count, lost, h("span.spring"), text, state, search, sort), body);
  if (kept.state) state.value = kept.state;
  if (kept.sort) sort.value = kept.sort;
  document.title = "Runs · noisewright";
  let found = null, jobs = [], tag = null, timer, gone = false, shown = new Map(), searches = null;

  function changed() {
    sessionStorage.setItem("runs", JSON.stringify({text: text.value, state: state.value, search: search.value, sort: sort.value}));
    draw();
  }

  function draw() {
    if (!found) return;
    const names = [...new Set(found.map((one) => one.search).filter(Boolean))].sort();
    if (names.join("\n") !== searches) {
      const before = searches === null ? kept.search : search.value;
      searches = names.join("\n");
      search.replaceChildren(h("option", {value: ""}, "any search"), ...names.map((one) => h("option", {value: one}, one)));
      search.value = names.includes(before) ? before : "";
    }
    const wanted = text.value.trim().toLowerCase();
    const some = found.filter((one) => (!state.value || one.status === state.value) && (!search.value || one.search === search.value)
      && (!wanted || `${one.prompt ?? ""} ${one.model ?? ""} ${one.name}`.toLowerCase().includes(wanted)));
    if (sort.value !== "newest") some.sort(SORTS[sort.value][1]);
    count.textContent = some.length === found.length ? plural(found.length, "run") : `${some.length.toLocaleString("en")} of ${found.length.toLocaleString("en")}`;
    const waiting = jobs.filter((one) => one.kind === "run" && !found.some((other) => other.name === one.run));
    if (!found.length && !waiting.length) {
      body.replaceChildren(empty("No runs yet", "A run is a search for a better image: it appears here as soon as it begins.",
        h("p", h("a.button.main", {href: "/new"}, "Start a run")), h("p.quiet", "or in a terminal: ", h("code", "noisewright generate \"two red circles\""))));
      return;
    }
    const next = new Map();
    const rows = some.map((one) => {
      const text = JSON.stringify(one), before = shown.get(one.name);
      const made = before && before[0] === text ? before[1] : row(one);
      next.set(one.name, [text, made]);
      return made;
    });
    shown = next;
    list.replaceChildren(...waiting.map(queuedRow), ...rows);
    if (!some.length && !waiting.length) body.replaceChildren(empty("No run is like that", h("p", h("button", {type: "button", onclick: clear}, "Show all"))));
    else if (list.parentNode !== body) body.replaceChildren(list);
  }

  function clear() {
    text.value = state.value = search.value = "";
    changed();
  }

  async function look() {
    clearTimeout(timer);
    try {
      if (!document.hidden || !found) {
        const answer = await fetch("/api/runs", {headers: tag ? {"If-None-Match": tag} : {}, cache: "no-store"});
        if (answer.status === 401) enter();
        if (answer.status === 200) {
          tag = answer.headers.get("ETag");
          ({runs: found, jobs} = await answer.json());
          if (!gone) draw();
        } else if (answer.status !== 304) throw new Error();
      }
      lost.textContent = "";
    } catch {
      if (found) lost.textContent = "the server does not answer, trying again";
      else if (!gone) body.replaceChildren(empty("The server does not answer", "This page tries again by itself."));
    }
    if (!gone) timer = setTimeout(look, POLL);
  }

  look();
  return () => { gone = true; clearTimeout(timer); };
}

function queuedRow(job) {
  return h("li", h("a.row", {href: "/queue"}, h("div.thumb.none"), h("div.what", h("b", job.said), h("span.quiet", "in the queue")), h("div"), h("div.state", chip(job.state))));
}

function row(one) {
  if (one.kind === "benchmark") return benchmarkRow(one);
  const address = `/run?${query({name: one.name})}`;
  if (one.status === "damaged") {
    return h("li", h("div.row", h("div.thumb.none", "?"), h("div.what", h("b", one.name), h("span.wrong", one.error)), h("div"), h("div.state", chip("damaged"))));
  }
  const image = one.best ? h("img", {src: picture(one.name, one.best.id, 192), alt: "", loading: "lazy", decoding: "async", class: "thumb"}) : h("div.thumb.none");
  image.addEventListener?.("load", () => image.classList.toggle("exact", image.naturalWidth <= 128));
  image.addEventListener?.("error", () => image.classList.add("none"));
  const about = [/^img_[0-9a-f]{24}$/.test(one.name) ? "a client's request" : null, one.search, short(one.model), ago(one.created)].filter(Boolean).join(" · ");
  const places = decimals([one.best?.score, one.baseline?.score]);
  const change = gain(one);
  const score = one.best && one.best.score !== null && one.best.score !== undefined ? h("div.score",
    h("span.quiet", one.verifier), h("span.numbers", h("span.base", written(one.baseline?.score, places)), " → ", h("b", written(one.best.score, places)),
      Number.isFinite(change) ? h("span", {class: change > 0 ? "up" : "quiet"}, ` ${signed(change, places)}`) : null)) : h("div.score.quiet", "no score yet");
  const running = one.status === "running";
  const left = running && one.left !== null ? (one.left < .05 ? "about to end" : `${duration(one.left)} left`) : plural(one.spent?.images ?? 0, "image");
  return h("li", h("a.row", {href: address}, image, h("div.what", h("b.prompt", one.prompt || "no prompt"), h("span.quiet", about)), score,
    h("div.state", chip(one.status), running ? meter(one.used, "budget used") : null, h("span.quiet", left))));
}

function benchmarkRow(one) {
  const image = one.picture ? h("img.thumb", {src: `/figure?${query({run: one.name, kind: "benchmark", file: one.picture, side: 192})}`, alt: "", loading: "lazy"}) : h("div.thumb.none.bench", {"aria-hidden": "true"}, "▦");
  return h("li", h("a.row", {href: `/evidence?${query({name: one.name})}`}, image,
    h("div.what", h("b.prompt", one.prompt), h("span.quiet", ["benchmark", short(one.model), ago(one.created)].filter(Boolean).join(" · "))),
    h("div.score.quiet", plural(one.prompts, "prompt")), h("div.state", chip(one.status))));
}
