// The page: which part is shown at which address, and what stands above all of them.

import {ask, empty, h} from "./dom.js";
import {evidence} from "./evidence.js";
import {queue} from "./queue.js";
import {runPage} from "./run.js";
import {runs} from "./runs.js";
import {start} from "./start.js";

const PAGES = {"/": ["runs", runs], "/run": ["runs", runPage], "/new": ["new", start], "/queue": ["queue", queue], "/evidence": ["evidence", evidence]};
const main = document.getElementById("main");
let leave = () => {};

/** Show another address without loading the page anew. */
export function go(address, replace = false) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  show();
}

function show(focus = true) {
  leave();
  leave = () => {};
  for (const one of document.querySelectorAll("dialog")) one.close();
  const [name, part] = PAGES[location.pathname] ?? [];
  for (const link of document.querySelectorAll("header nav a")) {
    link.toggleAttribute("aria-current", link.dataset.page === name);
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
  }
  main.replaceChildren();
  main.className = "";
  document.title = "noisewright";
  scrollTo(0, 0);
  if (!part) main.append(empty("There is nothing at this address", h("p", h("a", {href: "/"}, "All runs"))));
  else leave = part(main, new URLSearchParams(location.search), go) ?? (() => {});
  if (focus) main.focus({preventScroll: true});
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || link.target || link.hasAttribute("download") || !(to.pathname in PAGES) || to.hash) return;
  event.preventDefault();
  go(to.pathname + to.search);
});
addEventListener("popstate", () => show());

const queued = document.getElementById("queued");
async function countJobs() {
  try {
    const {jobs} = document.hidden ? {jobs: null} : await ask("/api/jobs");
    if (jobs) {
      const open = jobs.filter((one) => one.state === "waiting" || one.state === "running").length;
      queued.textContent = open;
      queued.hidden = !open;
    }
  } catch {  // said where it matters
  }
  setTimeout(countJobs, 3000);
}

show(false);
countJobs();
