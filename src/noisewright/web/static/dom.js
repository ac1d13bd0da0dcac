// Elements, requests and numbers: what all parts of the page share. Texts are text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(made, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.setAttribute("class", value);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

/** An element: h("button.small", {onclick}, "Stop"). */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  const isChild = props instanceof Node || Array.isArray(props) || (props !== null && props !== undefined && typeof props !== "object");
  if (isChild) [props, children] = [{}, [props, ...children]];
  if (classes.length) made.className = classes.join(" ");
  const more = props?.class;
  fill(made, more ? {...props, class: [...classes, more].join(" ")} : props, children);
  return made;
}

/** The same of SVG. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** A request; errors are thrown as one line. */
export async function ask(address, body) {
  const given = body === undefined ? {} :
    {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
  let answer;
  try {
    answer = await fetch(address, {...given, headers: {Accept: "application/json", ...given.headers}});
  } catch {
    throw Object.assign(new Error("the server does not answer"), {status: 0});
  }
  if (answer.status === 401) enter();
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(found.error?.message ?? `it failed (${answer.status})`), {status: answer.status});
  return found;
}

/** The door, and from there back to where one wanted to go. */
export const enter = () => location.assign(`/login?${query({to: location.pathname + location.search})}`);

export const query = (values) => new URLSearchParams(values).toString();
export const picture = (run, id, side = 0, preview = false) => `/picture?${query({run, id, side, ...(preview ? {preview: 1} : {})})}`;

/** How many decimals numbers deserve: three significant digits of their spread. */
export function decimals(values) {
  let low = Infinity, high = -Infinity;
  for (const one of values) if (Number.isFinite(one)) { low = Math.min(low, one); high = Math.max(high, one); }
  if (low > high) return 2;
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const exponent = (value) => Math.floor(Math.log10(value));
  const wanted = 2 - exponent(high - low || largest || 1), held = 6 - exponent(largest || 1);
  return Math.max(0, Math.min(wanted, held, 6));
}

export const written = (value, places) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = value.toFixed(places);
  return /^-0(\.0*)?$/.test(text) ? text.slice(1) : text.replace("-", "\u2212");
};

export const signed = (value, places) => value === null || Number.isNaN(value) ? "" :
  (value > 0 ? "+" : "") + written(value, places);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return minutes < 1440 ? `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min` : `${Math.round(minutes / 1440)} d`;
}

export function ago(text) {
  const then = Date.parse(text ?? "");
  if (Number.isNaN(then)) return "";
  const seconds = (Date.now() - then) / 1000;
  if (seconds < 60) return "just now";
  if (seconds < 7 * 86400) return `${duration(seconds)} ago`;
  return new Date(then).toLocaleDateString(undefined, {year: "numeric", month: "short", day: "numeric"});
}

export const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** The end of a model's name: of a path what it is called. */
export const short = (model) => !model ? "a sampler" : /^([/~.]|[A-Za-z]:)/.test(model) ? model.split(/[\\/]/).filter(Boolean).pop() : model;

let told;
/** A line at the foot of the page, for a while. */
export function tell(text, wrong = false) {
  document.querySelector(".told")?.remove();  // what is behind an open window is neither seen nor read out
  const place = h("div.told", {id: "told", role: wrong ? "alert" : "status", class: wrong ? "wrong" : null});
  ([...document.querySelectorAll("dialog[open]")].pop() ?? document.body).append(place);
  requestAnimationFrame(() => { place.textContent = text; });
  clearTimeout(told);
  told = setTimeout(() => place.remove(), wrong ? 8000 : 3000);
}

/** Do something that may fail, and say so. */
export async function trying(work, done) {
  try {
    const found = await work();
    if (done) tell(done);
    return found;
  } catch (error) {
    tell(error.message, true);
    return undefined;
  }
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a page that is no secure context has no clipboard
    const area = h("textarea", {value: text, class: "off"});
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  tell(`${what} copied`);
}

/** A window above the page; it is gone when it is closed. */
export function dialog(title, ...children) {
  const close = h("button.icon.close", {type: "button", "aria-label": "Close", onclick: () => made.close()}, "✕");
  const made = h("dialog", {"aria-label": title}, h("header", h("h2", title), close), ...children);
  made.addEventListener("close", () => {
    const said = made.querySelector(":scope > .told");
    if (said) document.body.append(said);
    made.remove();
  });
  made.addEventListener("click", (event) => { if (event.target === made) made.close(); });
  document.body.append(made);
  made.showModal();
  return made;
}

/** What stands where there is nothing to see: never a blank. */
export const empty = (title, ...said) => h("div.empty", h("h2", title), ...said.map((one) => typeof one === "string" ? h("p", one) : one));

export const chip = (status) => h("span.chip", {class: `is-${status}`}, status);

export const waitingFor = (text) => h("div.loading", {role: "status"}, h("span.spinner", {"aria-hidden": "true"}), text);

/** A bar of how much is used. */
export const meter = (part, label) => {
  const inner = h("span");
  inner.style.width = `${Math.round(100 * Math.min(1, Math.max(0, part)))}%`;
  return h("div.meter", {role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(100 * part), "aria-label": label}, inner);
};
