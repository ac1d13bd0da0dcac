// All candidates: only the pictures that are seen are there, however many there are.

import {copy, h, picture, plural, written} from "./dom.js";

const SIZES = {S: 104, M: 168, L: 264}, CAPTION = 40, GAP = 8, OVER = 2;
const FILTERS = {all: "all", star: "starred", pin: "pinned", kept: "not rejected", reject: "rejected", unfinished: "unfinished"};

export function gallery(run, {open, mark, compare}) {
  const kept = JSON.parse(sessionStorage.getItem("gallery") ?? "{}");
  const sort = h("select", {"aria-label": "Sort by", onchange: again});
  const turn = h("button.icon", {type: "button", "aria-label": "Turn the order around", title: "Turn the order around", onclick: () => { up = !up; again(); }}, "↓");
  const filter = h("select", {"aria-label": "Show", onchange: again}, Object.entries(FILTERS).map(([key, name]) => h("option", {value: key}, name)));
  const least = h("input.number", {type: "text", inputmode: "decimal", placeholder: "score ≥", "aria-label": "Only scores of at least", oninput: again});
  const size = h("div.sizes", {role: "group", "aria-label": "Size of pictures"}, Object.keys(SIZES).map((name) => h("button", {type: "button", "aria-pressed": String(name === (kept.size ?? "M")), onclick: () => resize(name)}, name)));
  const count = h("span.quiet", {role: "status"});
  const space = h("div.tiles", {role: "listbox", "aria-label": "Candidates", tabindex: 0, "aria-describedby": "gallery-keys"});
  const hint = h("p.quiet.keys", {id: "gallery-keys"}, "Arrows move, space opens, s stars, p pins, x rejects, c compares");
  const made = h("div.gallery", h("div.bar", h("label.pair", h("span", "Sort by"), sort), turn, h("label.pair", h("span", "Show"), filter), least, count, h("span.spring"), size), space, hint);
  let side = SIZES[kept.size ?? "M"], up = false, rows = [], columns = 1, tiles = new Map(), at = 0, frame = 0, keys = "", places = 2, wide = 0;
  const fields = () => run.columns();

  function resize(name) {
    side = SIZES[name];
    for (const one of size.children) one.setAttribute("aria-pressed", String(one.textContent === name));
    sessionStorage.setItem("gallery", JSON.stringify({size: name}));
    drop();
    lay();
  }

  function drop() {
    for (const [, tile] of tiles) tile.remove();
    tiles = new Map();
  }

  /** Sort and filter anew. */
  function again() {
    const before = rows[at]?.id, names = fields();
    const now = JSON.stringify(names);
    if (now !== keys) {
      const chosen = sort.value;
      keys = now;
      sort.replaceChildren(...names.map((one) => h("option", {value: one.key}, one.role === "verifier" || one.role === "value" ? one.name : `${one.name} (${one.role})`)), h("option", {value: "order"}, "order in the run"), h("option", {value: "seed"}, "seed"));
      sort.value = [...sort.options].some((one) => one.value === chosen) ? chosen : names[0].key;
    }
    const key = sort.value, wanted = parseFloat(least.value.replace(",", "."));
    const of = (row) => key === "order" ? -(row.number ?? 0) : key === "seed" ? -(row.seed ?? Infinity) : run.score(row, key);
    const field = key === "order" || key === "seed" ? names[0].key : key;
    let some = filter.value === "unfinished" ? run.previews : run.rows;
    const shows = {star: (marks) => marks.includes("star"), pin: (marks) => marks.includes("pin"), reject: (marks) => marks.includes("reject"), kept: (marks) => !marks.includes("reject")}[filter.value];
    if (shows) some = some.filter((row) => shows(run.marks(row.id)));
    if (Number.isFinite(wanted)) some = some.filter((row) => (run.score(row, field) ?? -Infinity) >= wanted);
    const ranked = some.map((row) => [of(row) ?? -Infinity, row]);
    const apart = key === "value" || key[0] === "v";  // scores of drafts and of full images do not compare
    ranked.sort((a, b) => (apart ? Boolean(a[1].draft) - Boolean(b[1].draft) : 0) || (up ? a[0] - b[0] : b[0] - a[0]) || (a[1].number ?? 0) - (b[1].number ?? 0));
    rows = ranked.map((one) => one[1]);
    places = run.places(field);
    made.dataset.field = field;
    turn.textContent = up ? "↑" : "↓";
    const whole = run.rows.length;
    count.textContent = rows.length === whole || filter.value === "unfinished" ? plural(rows.length, filter.value === "unfinished" ? "preview" : "image") : `${rows.length.toLocaleString("en")} of ${whole.toLocaleString("en")}`;
    const place = before ? rows.findIndex((row) => row.id === before) : -1;
    at = place >= 0 ? place : Math.min(at, Math.max(0, rows.length - 1));
    lay();
  }

  function lay() {
    wide = space.clientWidth;
    columns = Math.max(2, Math.floor((wide + GAP) / (side + GAP)));
    draw();
  }

  function draw() {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(paint);
  }

  function paint() {
    if (!space.isConnected || !wide) return;
    const width = (wide - GAP * (columns - 1)) / columns, high = width + CAPTION + GAP;
    const lines = Math.ceil(rows.length / columns);
    space.style.height = `${Math.max(lines * high, 120)}px`;
    if (!rows.length) {
      drop();
      if (!space.querySelector(".empty")) space.append(h("div.empty", h("p", emptySaid())));
      else space.querySelector(".empty p").textContent = emptySaid();
      return;
    }
    space.querySelector(".empty")?.remove();
    const top = -space.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / high) - OVER), last = Math.min(lines, Math.max(OVER, Math.ceil((top + innerHeight) / high) + OVER));
    const seen = new Map();
    for (let place = first * columns; place < Math.min(rows.length, last * columns); place++) {
      const row = rows[place], tile = tiles.get(row.id) ?? tileOf(row);
      tile.style.transform = `translate(${(place % columns) * (width + GAP)}px, ${Math.floor(place / columns) * high}px)`;
      tile.style.width = `${width}px`;
      describe(tile, row, place);
      seen.set(row.id, tile);
      if (!tile.isConnected) space.append(tile);
    }
    for (const [id, tile] of tiles) if (!seen.has(id)) tile.remove();
    tiles = seen;
    const active = tiles.get(rows[at]?.id);
    if (active) space.setAttribute("aria-activedescendant", active.id);
    else space.removeAttribute("aria-activedescendant");
  }

  function emptySaid() {
    if (filter.value === "unfinished") return "No preview of an unfinished candidate: this search finishes what it begins, or all are finished.";
    if (!run.rows.length) return run.head.status === "running" ? "The first images are being made." : "This run ended without an image.";
    return "No candidate is like that.";
  }

  function tileOf(row) {
    const image = row.unfinished && !row.pictured ? h("div.half", h("b", `${row.index}`), h("span", `of ${row.steps} steps`)) :
      h("img", {src: picture(run.name, row.id, side > 192 || devicePixelRatio > 1 && side > 104 ? 384 : 192, row.unfinished), alt: run.alt(row), decoding: "async", draggable: false});
    image.addEventListener?.("load", () => image.classList.toggle("exact", Math.max(image.naturalWidth, image.naturalHeight) <= 128));
    image.addEventListener?.("error", () => { image.classList.add("lost"); image.alt = "its file is gone"; });
    const tile = h("div.tile", {role: "option", id: `tile-${row.id}`, onclick: (event) => pick(row, event)}, image, h("span.marks", {"aria-hidden": "true"}), h("span.caption", h("b"), h("span.quiet")));
    return tile;
  }

  function describe(tile, row, place) {
    const marks = run.marks(row.id), best = row.id === run.head.best, base = row.id === run.head.baseline;
    const value = run.score(row, made.dataset.field);
    const said = row.broken ? (row.broken === "nan" ? "broken" : "blacked out") : written(value, places);
    const state = [place === at, best, base, marks.join(), said, row.steps].join("|");
    if (tile.dataset.state === state) return;
    tile.dataset.state = state;
    tile.setAttribute("aria-selected", String(place === at));
    tile.className = ["tile", best && "best", base && "base", marks.includes("reject") && "rejected"].filter(Boolean).join(" ");
    tile.querySelector(".marks").textContent = (marks.includes("pin") ? "◆" : "") + (marks.includes("star") ? "★" : "");
    const [score, name] = tile.querySelector(".caption").children;
    score.textContent = said;
    name.textContent = row.unfinished ? `step ${row.index} of ${row.steps}` : [best ? "best" : base ? "baseline" : "", run.called(row), row.draft ? "draft" : ""].filter(Boolean).join(" · ");
    tile.setAttribute("aria-label", [run.alt(row), best && "best", base && "baseline", ...marks].filter(Boolean).join(", "));
  }

  function pick(row, event) {
    at = rows.indexOf(row);
    space.focus({preventScroll: true});
    draw();
    if (event.shiftKey || event.ctrlKey || event.metaKey) compare(row);
    else open(row, rows);
  }

  function moveTo(place) {
    at = Math.max(0, Math.min(rows.length - 1, place));
    const width = (wide - GAP * (columns - 1)) / columns, high = width + CAPTION + GAP, box = space.getBoundingClientRect();
    const y = Math.floor(at / columns) * high + box.top;
    if (y < 120) scrollBy(0, y - 120);
    else if (y + high > innerHeight) scrollBy(0, y + high - innerHeight + 8);
    draw();
  }

  space.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !rows.length) return;
    const row = rows[at], page = Math.max(1, Math.floor(innerHeight / 220)) * columns;
    const moves = {ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: rows.length - 1, PageDown: at + page, PageUp: at - page};
    const acts = {" ": () => open(row, rows), Enter: () => open(row, rows), s: () => mark(row, "star"), p: () => mark(row, "pin"), x: () => mark(row, "reject"), c: () => compare(row), y: () => row.seed !== null && copy(String(row.seed), "Seed")};
    if (event.key in moves) moveTo(moves[event.key]);
    else if (event.key in acts) acts[event.key]();
    else return;
    event.preventDefault();
  });
  const moved = () => draw(), sized = new ResizeObserver(() => { if (space.clientWidth !== wide) lay(); });
  addEventListener("scroll", moved, {passive: true});
  sized.observe(space);
  return {element: made, refresh: again, redraw: draw, close() { removeEventListener("scroll", moved); sized.disconnect(); cancelAnimationFrame(frame); }};
}
