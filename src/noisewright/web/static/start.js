// The form that starts a run. Its fields and their help are the command line's.

import {ask, empty, h, duration, plural, query, tell, trying, waitingFor} from "./dom.js";

export function start(main, params, go) {
  document.title = "New run · noisewright";
  const body = h("div", waitingFor("reading what can be chosen"));
  main.append(h("div.bar", h("h1", "New run")), body);
  let gone = false;

  async function begin() {
    let form, before = {}, leftOut = [];
    try {
      form = await ask("/api/form");
      if (params.get("from")) ({fields: before, left_out: leftOut} = await ask(`/api/asked?${query({run: params.get("from")})}`));
    } catch (error) {
      if (!form) return body.replaceChildren(empty("The form cannot be shown", error.message));
      tell(`What ${params.get("from")} was asked for cannot be read: ${error.message}`, true);
    }
    if (!gone) body.replaceChildren(leftOut.length ? h("p.wrong", `Not taken over from ${params.get("from")}, since this form or this server does not have it: ${leftOut.join(", ")}`) : "", draw(form, before, go));
  }
  begin();
  return () => { gone = true; };
}

function draw(form, before, go) {
  const fields = new Map(), args = h("div.fields"), wrong = h("p.wrong", {role: "alert"}), cost = h("div.cost", {role: "status"});
  const sections = form.groups.map((group) => {
    const inner = h("div.fields", group.fields.map((one) => field(one)));
    if (group.title === "Search") inner.append(args);
    return group.title === "More" ? h("details.group", h("summary", group.title), inner) : h("fieldset.group", group.title ? h("legend", group.title) : null, inner);
  });

  function field(one) {
    const id = `field-${one.name}`, given = before[one.name] ?? null, hint = `${id}-hint`;
    let input, read;
    if (one.name === "prompt" || one.name === "negative_prompt") {
      input = h("textarea", {id, rows: one.name === "prompt" ? 3 : 1, value: given ?? "", "aria-describedby": hint});
      read = () => input.value.trim() || null;
    } else if (one.kind === "flag") {
      input = h("input", {id, type: "checkbox", checked: given ?? false, "aria-describedby": hint});
      read = () => input.checked || null;
    } else if (one.name === "search_args") {
      drawArguments(given ?? {});
      fields.set(one.name, readArguments);
      return null;
    } else if (one.choices && one.several) {
      const chosen = new Set(given ?? []);
      input = h("div.checks", {id, role: "group", "aria-label": label(one), "aria-describedby": hint}, one.choices.map((choice) => h("label", {title: choice.summary ?? ""}, h("input", {type: "checkbox", value: choice.name, checked: chosen.has(choice.name)}), choice.name)));
      read = () => { const found = [...input.querySelectorAll("input:checked")].map((box) => box.value); return found.length ? found : null; };
    } else if (one.choices) {
      const must = one.name === "search" || one.name === "model", value = given ?? (must ? one.default : "");
      input = h("select", {id, "aria-describedby": hint}, must ? null : h("option", {value: ""}, "by default"), one.choices.map((choice) => h("option", {value: choice.name}, choice.name)));
      input.value = typeof value === "string" && [...input.options].some((option) => option.value === value) ? value : input.options[0]?.value;
      read = () => input.value || null;
      if (one.name === "search") {
        const about = h("p.hint");
        const tell = () => { const found = one.choices.find((choice) => choice.name === input.value); about.textContent = found ? `${found.summary}. Cost: ${found.cost}.` : ""; };
        input.addEventListener("change", () => { tell(); drawArguments({}); });
        setTimeout(tell);
        fields.set(one.name, read);
        setTimeout(() => drawArguments(before.search_args ?? {}));
        return h("div.field", h("label", {for: id}, label(one)), input, about, help(one, hint));
      }
    } else if (one.several) {
      input = h("input", {id, type: "text", value: texts(given).join(", "), placeholder: placeholder(one), "aria-describedby": hint});
      read = () => one.name === "target" ? target(input.value) : input.value.split(",").map((part) => part.trim()).filter(Boolean);
    } else if (one.kind === "number") {
      input = h("input", {id, type: "number", step: one.whole ? 1 : "any", min: one.least ?? null, value: given ?? "", placeholder: one.default ?? "", "aria-describedby": hint});
      read = () => input.value === "" ? null : Number(input.value);
    } else {
      input = h("input", {id, type: "text", value: given ?? "", placeholder: one.default ?? "", "aria-describedby": hint});
      read = () => one.name === "frames" && /^\d+$/.test(input.value) ? Number(input.value) : input.value.trim() || null;
    }
    fields.set(one.name, read);
    return h("div.field", {class: one.name === "prompt" || one.name === "negative_prompt" || one.choices && one.several ? "whole" : null}, h("label", {for: id}, label(one)), input, help(one, hint));
  }

  function drawArguments(given) {
    const name = document.getElementById("field-search")?.value ?? before.search ?? "random";
    const found = form.searches[name] ?? [];
    args.dataset.search = name;
    args.replaceChildren(...found.map((one) => {
      const id = `argument-${one.name}`, value = given[one.name] ?? "";
      const input = one.choices ? h("select", {id, data: {name: one.name}}, h("option", {value: ""}, `by default ${one.default ?? "none"}`), one.choices.map((choice) => h("option", {value: choice}, choice))) : h("input", {id, data: {name: one.name}, type: "text", placeholder: one.default ?? "by default"});
      input.value = String(value);
      return h("div.field.small", h("label", {for: id}, one.name), input);
    }));
    args.hidden = !found.length;
  }

  function readArguments() {
    const found = {};
    for (const one of args.querySelectorAll("[data-name]")) if (one.value.trim()) found[one.dataset.name] = one.value.trim();
    return found;
  }

  function read() {
    const found = {};
    for (const [name, reader] of fields) {
      const value = reader();
      if (value !== null && value !== "" && !(Array.isArray(value) && !value.length)) found[name] = value;
    }
    return found;
  }

  async function plan() {
    wrong.textContent = "";
    cost.replaceChildren(waitingFor("planning: the model is loaded, and one step is timed"));
    try {
      const found = await ask("/api/forecast", {fields: read()});
      cost.replaceChildren(...(found.busy ? [h("p.quiet", found.busy)] : [h("p", h("b", `About ${duration(found.seconds)}`), ` for ${plural(found.images, "image")}, ${found.nfe.toLocaleString("en")} NFE, ${found.forwards.toLocaleString("en")} forwards`), ...found.warnings.map((one) => h("p.quiet", one))]));
    } catch (error) {
      cost.replaceChildren();
      wrong.textContent = error.message;
    }
  }

  async function send(event) {
    event.preventDefault();
    wrong.textContent = "";
    try {
      const found = await ask("/api/start", {fields: read()});
      go(`/run?${query({name: found.run})}`);
    } catch (error) {
      wrong.textContent = error.message;
    }
  }

  return h("form.start", {onsubmit: send}, sections, h("div.foot", h("button.main", {type: "submit"}, "Start"), h("button", {type: "button", onclick: () => trying(plan)}, "Planned cost"), cost, wrong));
}

const label = (one) => one.name === "prompt" ? "prompt" : one.option.replace(/^--/, "").replaceAll("-", " ");
const help = (one, id) => h("p.hint", {id}, (one.help ?? "").split("`").map((part, n) => n % 2 ? h("code", part) : part), one.option.startsWith("--") ? h("code", ` ${one.option}`) : null);
const placeholder = (one) => one.name === "budget" ? "16 images" : one.metavar ?? "";
const texts = (value) => value === null ? [] : typeof value === "object" && !Array.isArray(value) ? Object.entries(value).map(([name, one]) => `${name}=${one}`) : [value].flat().map(String);

function target(text) {
  const parts = text.split(",").map((one) => one.trim()).filter(Boolean);
  if (!parts.length) return null;
  const whole = text.trim().replace(",", ".");
  if (!text.includes("=") && Number.isFinite(Number(whole))) return Number(whole);
  return Object.fromEntries(parts.map((one) => [one.slice(0, one.lastIndexOf("=")), Number(one.slice(one.lastIndexOf("=") + 1))]));
}
