// The evidence: benchmarks with their reports, and comparisons of schedules.

import {ago, ask, chip, decimals, empty, h, plural, query, short, signed, waitingFor, written} from "./dom.js";

export function evidence(main, params) {
  document.title = "Evidence · noisewright";
  const name = params.get("name"), body = h("div", waitingFor("reading the benchmarks"));
  main.append(body);
  let gone = false;
  ask("/api/evidence").then((found) => { if (!gone) body.replaceChildren(...(name ? report(found, name) : list(found))); },
    (error) => body.replaceChildren(empty("The benchmarks cannot be read", error.message)));
  return () => { gone = true; };
}

function list({benchmarks, comparisons}) {
  const parts = [h("div.bar", h("h1", "Evidence"))];
  if (!benchmarks.length && !comparisons.length) {
    return [...parts, empty("No evidence yet", "A benchmark compares searches, verifiers and budgets on the same seeds, with intervals; its report appears here.", h("p", h("code", "noisewright benchmark quick --out runs/quick")), h("p", h("code", "noisewright schedule compare pipeline karras --json > runs/schedules.json")))];
  }
  if (benchmarks.length) parts.push(h("h2", "Benchmarks"), h("ul.runs", benchmarks.map((one) => one.status === "damaged" ? h("li", h("div.row", h("div.thumb.none", "?"), h("div.what", h("b", one.name), h("span.wrong", one.error)), h("div"), chip("damaged"))) :
    h("li", h("a.row", {href: `/evidence?${query({name: one.name})}`}, one.picture ? h("img.thumb", {src: `/figure?${query({run: one.name, kind: "benchmark", file: one.picture, side: 192})}`, alt: "", loading: "lazy"}) : h("div.thumb.none.bench", {"aria-hidden": "true"}, "▦"), h("div.what", h("b.prompt", one.prompt), h("span.quiet", [one.name, short(one.model), ago(one.created)].filter(Boolean).join(" · "))), h("div.score.quiet", plural(one.prompts, "prompt")), h("div.state", chip(one.status)))))));
  if (comparisons.length) parts.push(h("h2", "Schedules"), ...comparisons.map(comparison));
  return parts;
}

function report({benchmarks}, name) {
  const one = benchmarks.find((other) => other.name === name);
  if (!one) return [empty("There is no such benchmark", h("p", h("a.button", {href: "/evidence"}, "All evidence")))];
  const head = h("div.head", h("div", h("p.crumbs", h("a", {href: "/evidence"}, "Evidence"), " / ", h("span", name)), h("h1", one.prompt ?? name)), h("div.side", chip(one.status), one.report ? h("a.button", {href: `/report?${query({run: name})}`, target: "_blank", rel: "noopener"}, "The report alone") : null));
  if (!one.report) return [head, empty("No report yet", "It is written when the benchmark ends. What there is so far:", h("p", h("code", `noisewright benchmark --report ${name}`)))];
  return [head, h("iframe.report", {src: `/report?${query({run: name})}`, title: `Report of ${name}`})];
}

function comparison({file, rows, metrics, samples, prompts, over}) {
  const places = Object.fromEntries(metrics.map((name) => [name, decimals(rows.map((row) => row.metrics[name]?.value ?? NaN))]));
  const cell = (one, name) => !one ? h("td", "–") : h("td", h("b", written(one.value, places[name])), h("small", `${written(one.low, places[name])} to ${written(one.high, places[name])}`), one.change === null ? null : h("small", `${signed(one.change, places[name])} (${signed(one.change_low, places[name])} to ${signed(one.change_high, places[name])})`));
  return h("section", h("h3", file), h("div.scroll", h("table", h("thead", h("tr", ["schedule", "solver", "steps", "NFE", ...metrics].map((one) => h("th", {scope: "col"}, one)))), h("tbody", rows.map((row) => h("tr", h("th", {scope: "row"}, row.schedule), h("td", row.solver), h("td", row.steps), h("td", row.nfe), metrics.map((name) => cell(row.metrics[name], name))))))),
    h("p.quiet", `${samples} noises of ${plural(prompts, "prompt")}, 95 % intervals over ${over}; changes are against the first.`));
}
