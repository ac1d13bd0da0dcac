// Jobs that wait for the model, the one that it does, and those that have ended.

import {ago, ask, chip, empty, h, query, trying, waitingFor} from "./dom.js";

export function queue(main) {
  document.title = "Queue · noisewright";
  const body = h("div", waitingFor("reading the queue")), lost = h("span.wrong", {role: "status"});
  main.append(h("div.bar", h("h1", "Queue"), lost, h("p.quiet", "One model is in memory at a time; jobs wait their turn, and survive a restart of the server. Requests of programs to /v1/images take turns with them.")), body);
  let gone = false, timer, before = "";

  async function look() {
    try {
      const {jobs} = await ask("/api/jobs"), now = JSON.stringify(jobs);
      if (!gone && now !== before) draw(jobs);
      before = now;
      lost.textContent = "";
    } catch (error) {
      if (before) lost.textContent = `${error.message}, trying again`;
      else if (!gone) body.replaceChildren(empty("The server does not answer", "This page tries again by itself."));
    }
    if (!gone) timer = setTimeout(look, 1500);
  }

  function draw(jobs) {
    const open = jobs.filter((one) => one.state === "running" || one.state === "waiting"), ended = jobs.filter((one) => !open.includes(one)).reverse();
    if (!jobs.length) return body.replaceChildren(empty("Nothing waits", "Runs that are started here stand in line for the model.", h("p", h("a.button.main", {href: "/new"}, "Start a run"))));
    body.replaceChildren(open.length ? h("ul.jobs", {"aria-label": "Open jobs"}, open.map(row)) : h("p.quiet", "Nothing waits."), ended.length ? h("h2", "Ended") : "", h("ul.jobs", {"aria-label": "Jobs that have ended"}, ended.map(row)));
  }

  function row(one) {
    const open = one.state === "running" || one.state === "waiting";
    const stop = one.state === "waiting" ? "Take out" : "Stop";
    return h("li", chip(one.state), h("div.what", one.state === "cancelled" ? h("b", one.said) : h("a", {href: `/run?${query({name: one.run})}`}, one.said), h("span", {class: one.state === "failed" ? "wrong" : "quiet"}, [one.note, ago(one.ended ?? one.began ?? one.asked)].filter(Boolean).join(" · "))),
      open ? h("button", {type: "button", onclick: () => trying(() => ask("/api/cancel", {job: one.id}), one.state === "waiting" ? "taken out" : "it ends after the micro-batch in flight").then(look)}, stop) : "");
  }

  look();
  return () => { gone = true; clearTimeout(timer); };
}
