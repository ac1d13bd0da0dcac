// A run: best and baseline, how it came to that and how far it is, all candidates, their lineage, and going on.

import {ago, ask, chip, copy, dialog, duration, empty, h, meter, plural, query, short, trying, waitingFor} from "./dom.js";
import {choose} from "./choose.js";
import {show as compareNow, tray as makeTray} from "./compare.js";
import {curve} from "./curve.js";
import {detail, scoreTable, toggleMark} from "./detail.js";
import {gallery} from "./gallery.js";
import {lineage} from "./lineage.js";
import {Run} from "./model.js";
import {image, slider} from "./slider.js";

const TABS = [["gallery", "Candidates"], ["lineage", "Lineage"], ["choose", "Choose"], ["about", "About"]];
const DRAW_MS = 120;

export function runPage(main, params, go) {
  const name = params.get("name") ?? "";
  const run = new Run(name), closing = [];
  let parts = null, timer = 0, last = 0, waited = 0;
  document.title = `${name} · noisewright`;
  main.className = "run";
  main.append(waitingFor("reading the run"));

  function changed() {
    if (timer) return;
    timer = setTimeout(() => { timer = 0; last = performance.now(); draw(); }, Math.max(0, DRAW_MS - (performance.now() - last)));
  }

  function draw() {
    if (!run.head) return;
    parts ??= build();
    for (const part of Object.values(parts)) part();
  }

  function build() {
    const state = h("div.status"), budget = h("div.budget"), title = h("h1"), meta = h("p.quiet.meta"), buttons = h("div.buttons");
    const pair = h("div.pairing"), scores = h("div.pairscores"), chart = h("figure.chart"), warnings = h("div.warnings");
    const overview = h("div.overview", h("div.left", pair), h("div.right", scores, chart));
    const byImages = h("button", {type: "button", "aria-pressed": "true", onclick: () => turn(0)}, "images"), bySeconds = h("button", {type: "button", "aria-pressed": "false", onclick: () => turn(2)}, "seconds");
    const tabs = h("div.tabs", {role: "tablist", "aria-label": "Parts of the run"}, TABS.map(([key, word]) => h("button", {type: "button", role: "tab", id: `tab-${key}`, "aria-controls": "panel", "aria-selected": "false", tabindex: -1, onclick: () => open(key), onkeydown: alongTabs}, word)));
    const panel = h("section", {id: "panel", role: "tabpanel", tabindex: 0});
    const tray = makeTray(run);
    const acts = {open: (row, rows) => detail(run, row, rows, {go, compare: tray.toggle}), mark: (row, mark) => row.unfinished || toggleMark(run, row, mark), compare: tray.toggle};
    let axis = 0, tab = "", shown = null, pictured = "";

    main.replaceChildren(h("div.head", h("div", h("p.crumbs", h("a", {href: "/"}, "Runs"), " / ", h("span", run.name)), title, meta), h("div.side", state, buttons)), budget, warnings,
      tabs, overview, panel, tray.element);

    function turn(to) {
      axis = to;
      byImages.setAttribute("aria-pressed", String(!to));
      bySeconds.setAttribute("aria-pressed", String(Boolean(to)));
      drawChart();
    }

    function open(key, replace = true) {
      if (tab === key) return;
      tab = key;
      shown?.close?.();
      shown = null;
      for (const one of tabs.children) {
        one.setAttribute("aria-selected", String(one.id === `tab-${key}`));
        one.tabIndex = one.id === `tab-${key}` ? 0 : -1;
      }
      overview.hidden = key !== "gallery";  // a blind choice is made without it
      if (key === "gallery") drawChart();
      panel.setAttribute("aria-labelledby", `tab-${key}`);
      panel.replaceChildren();
      const one = (row) => acts.open(row, [row]);
      if (key === "gallery") { shown = gallery(run, acts); panel.append(shown.element); shown.refresh(); }
      else if (key === "lineage") shown = lineage(run, panel, one);
      else if (key === "choose") shown = choose(run, panel, one);
      else shown = about(run, panel);
      if (replace && key === "choose") panel.focus({preventScroll: true});  // arrows choose from here on
      if (replace) history.replaceState(null, "", `/run?${query(key === "gallery" ? {name} : {name, part: key})}`);
    }

    function alongTabs(event) {
      const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (!by) return;
      const all = [...tabs.children], next = all[(all.indexOf(event.target) + by + all.length) % all.length];
      next.click();
      next.focus();
    }

    function drawHead() {
      const head = run.head;
      title.textContent = head.prompt || (head.label !== null && head.label !== undefined ? `class ${head.label}` : head.name);
      document.title = `${title.textContent} · noisewright`;
      meta.textContent = [head.search, short(head.model), `seed ${head.seed}`, plural(head.steps, "step"), head.draft && `draft ${head.draft}`, ago(head.created)].filter(Boolean).join(" · ");
      const why = head.status === "running" || !head.stopped || head.stopped === head.status ? "" : head.stopped;
      const next = JSON.stringify([head.status, why, run.connected]);
      if (state.dataset.now === next) return;
      state.dataset.now = next;
      state.replaceChildren(chip(head.status), why ? h("span.quiet", why) : "", run.connected ? "" : h("span.wrong", "no connection, trying again"));
      buttons.replaceChildren(head.status === "running" ? h("button", {type: "button", onclick: async (event) => { const button = event.target; button.disabled = true; button.disabled = await trying(() => ask("/api/stop", {run: run.name}), "it ends after the micro-batch in flight") !== undefined; }}, "Stop") : h("button.main", {type: "button", onclick: () => goOn(run, go)}, "Go on…"),
        h("a.button", {href: `/new?${query({from: run.name})}`}, "Start another like it"));
    }

    function drawBudget() {
      const {spent, budget: limits, status, left, used, waiting} = run.head;
      const texts = Object.entries(limits).map(([unit, limit]) => unit === "seconds" ? `${duration(spent.seconds)} of ${duration(limit)}` : `${(spent[unit] ?? 0).toLocaleString("en")} of ${limit.toLocaleString("en")} ${unit === "nfe" ? "NFE" : unit}`);
      if (!limits.images) texts.push(plural(spent.images, "image"));
      if (!limits.seconds) texts.push(duration(spent.seconds));
      if (status === "running" && waiting) texts.push(`${waiting} being scored`);
      budget.replaceChildren(meter(used, "budget used"), h("span", texts.join(" · ")), status === "running" ? h("b", left === null ? "beginning" : left < .05 ? "about to end" : `about ${duration(left)} left`) : "");
      budget.classList.toggle("running", status === "running");
    }

    function drawPair() {
      const best = run.byId.get(run.head.best), base = run.byId.get(run.head.baseline);
      const next = `${best?.id} ${base?.id}`;
      if (next !== pictured) {
        pictured = next;
        if (!best) pair.replaceChildren(h("div.slider.none", run.head.status === "running" ? waitingFor("the first image is being made") : "no scored image"));
        else if (!base || base === best) pair.replaceChildren(h("div.slider.single", image(run, best), h("span.tag.right", base ? "the baseline is the best so far" : "best")));
        else pair.replaceChildren(slider(run, base, best));
        if (best) pair.append(h("div.buttons", h("button", {type: "button", onclick: () => acts.open(best, [best])}, "Open the best"), base && base !== best ? h("button", {type: "button", onclick: () => compareNow(run, [base, best])}, "Side by side") : null, h("a.button", {href: `/download?${query({run: run.name, id: best.id})}`, download: `${best.id}.png`}, "Download")));
      }
      if (best) scores.replaceChildren(base && base !== best ? scoreTable(run, [base, best], ["baseline", "best"]) : scoreTable(run, [best], ["best"]));
    }

    function drawChart() {
      const base = run.byId.get(run.head.baseline), last = run.rows.at(-1);
      const alike = base && !run.head.drafts;
      const drawn = last && curve(run.curve, {wide: chart.clientWidth || 600, axis, end: axis ? Math.max(last.seconds, 0) : last.images, baseline: alike ? run.value(base) : null, name: run.head.value_name, pick: (id) => { const row = run.byId.get(id); if (row) acts.open(row, [row]); }});
      chart.replaceChildren(h("figcaption", h("span", `Best ${run.head.value_name} ${run.head.drafts ? "of drafts " : ""}so far`), h("span.spring"), h("span.quiet", "against"), h("span.sizes", {role: "group", "aria-label": "Against"}, byImages, bySeconds)), drawn ?? h("p.quiet", "The curve begins with the first score."));
    }

    function drawWarnings() {
      const found = run.head.warnings.slice(0, 6);
      if (warnings.dataset.now === found.join("\n")) return;
      warnings.dataset.now = found.join("\n");
      warnings.replaceChildren(...(found.length > 2 ? [h("details", h("summary", plural(run.head.warnings.length, "warning")), found.map((one) => h("p", one)))] : found.map((one) => h("p", one))));
    }

    const wanted = params.get("part");
    const drawAll = {head: drawHead, budget: drawBudget, pair: drawPair, chart: drawChart, warnings: drawWarnings, tab: () => shown?.refresh?.()};
    run.addEventListener("choices", () => { drawPair(); shown?.refresh?.(); });
    run.addEventListener("connection", () => drawHead());
    closing.push(() => shown?.close?.());
    setTimeout(() => open(TABS.some(([key]) => key === wanted) ? wanted : "gallery", false));
    return drawAll;
  }

  async function gone() {
    const job = await ask("/api/jobs").then(({jobs}) => jobs.findLast((one) => one.run === name), () => null);
    if (closed) return;
    if (job && (job.state === "waiting" || job.state === "running")) {
      main.replaceChildren(empty(job.state === "waiting" ? "In the queue" : "Starting", job.said, h("p", chip(job.state)), h("p", h("a", {href: "/queue"}, "The queue")), waitingFor(job.state === "waiting" ? "it begins when the model is free" : "the model is being loaded")));
      waited = setTimeout(begin, 1000);
      return;
    }
    const had = Boolean(run.head);
    main.replaceChildren(empty(job?.state === "failed" ? "This run did not begin" : had ? "This run is gone" : "There is no such run",
      job?.state === "failed" ? h("p.wrong", job.note) : had ? "Its directory was moved or removed while you looked. Nothing here removes runs." : `No run called ${name} is in this server's directory.`,
      h("p", h("a.button", {href: "/"}, "All runs"))));
  }

  function begin() {
    run.ended = false;
    ask(`/api/run?${query({run: name, head: 1})}`).then(({head}) => { if (closed) return; if (head) run.open(); else gone(); }, (error) => {
      if (closed) return;
      if (error.status === 404) gone();
      else if (error.status === 400) wrong(error.message);
      else { main.replaceChildren(empty("The server does not answer", "This page tries again by itself.")); waited = setTimeout(begin, 3000); }
    });
  }

  function wrong(said) {
    parts = null;
    main.replaceChildren(empty("This run cannot be read", h("p.wrong", said), h("p", h("a.button", {href: "/"}, "All runs"))));
  }

  let closed = false;
  run.addEventListener("change", changed);
  run.addEventListener("gone", () => { parts = null; clearTimeout(timer); timer = 0; gone(); });
  run.addEventListener("wrong", () => wrong(run.said));
  begin();
  return () => {
    closed = true;
    run.close();
    clearTimeout(timer);
    clearTimeout(waited);
    for (const one of closing) one();
  };
}

function about(run, place) {
  const head = run.head, phases = Object.entries(head.phases).map(([name, value]) => `${name} ${duration(value)}`).join(", ");
  const facts = [["directory", head.name], ["prompt", head.prompt], ["model", head.model], ["search", head.search], ["verifiers", head.verifiers.join(", ")], ["judges", head.judges.join(", ") || "none"], ["seed", head.seed], ["steps", head.steps], ["draft", head.draft],
    ["target", Object.entries(head.target).map(([name, value]) => `${name} ${value}`).join(", ")], ["cost", `${plural(head.spent.images, "image")}, ${head.spent.nfe.toLocaleString("en")} NFE, ${head.spent.forwards.toLocaleString("en")} forwards`], ["time", `${duration(head.spent.seconds)} (${phases})`], ["stopped", head.stopped]];
  const command = h("p.quiet", "…");
  place.append(h("dl.facts", facts.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [h("dt", name), h("dd", String(value))])), h("h3", "The command"), command,
    ...(head.warnings.length ? [h("h3", "Warnings"), ...head.warnings.map((one) => h("p", one))] : []));
  if (head.best) {
    ask(`/api/candidate?${query({run: run.name, id: head.best})}`).then((found) => {
      command.replaceWith(found.command ? h("pre", {tabindex: 0}, found.command) : h("p.quiet", "This run was started from Python by a version that did not write it down."), found.command ? h("div.buttons", h("button", {type: "button", onclick: () => copy(found.command, "Command")}, "Copy command")) : "");
    }, () => command.remove());
  } else command.remove();
  return {};
}

/** More of what is there: budget, or another verifier's opinion. */
async function goOn(run, go) {
  const {budget, spent, status} = run.head, times = status === "done" ? 2 : 1;  // what was cut short has some left
  const wanted = Object.entries(budget).map(([unit, limit]) => `${Math.ceil(Math.max(limit, spent[unit] ?? 0) * times)} ${unit}`).join(", ");
  const more = h("input", {type: "text", value: wanted || "64 images", "aria-label": "Budget of the whole run"});
  const verifier = h("select", {"aria-label": "Verifier"}), body = h("div.goon");
  const made = dialog("Go on", body);
  const send = (work, then) => async (event) => {
    event.preventDefault();
    const found = await trying(work, "in the queue");
    if (found) { made.close(); then?.(found); }
  };
  body.append(h("form", {onsubmit: send(() => ask("/api/more", {run: run.name, budget: more.value}))}, h("h3", status === "done" ? "More budget" : "Continue"), h("p.quiet", "The budget is that of the whole run: what it has spent counts. It goes on where it stopped, and makes nothing twice."), h("div.inline", more, h("button.main", {type: "submit"}, "Go on"))),
    h("form", {onsubmit: send(() => ask("/api/score", {run: run.name, verifier: verifier.value}))}, h("h3", "Another verifier"), h("p.quiet", "Scores the images that are there; no new ones are made. Its scores stand beside the others."), h("div.inline", verifier, h("button", {type: "submit"}, "Score"))));
  const form = await trying(() => ask("/api/form"));
  const choices = form?.groups.flatMap((one) => one.fields).find((one) => one.name === "verifier")?.choices ?? [];
  verifier.replaceChildren(...choices.filter((one) => !run.head.verifiers.includes(one.name)).map((one) => h("option", {value: one.name}, one.summary ? `${one.name}: ${one.summary}` : one.name)));
}
