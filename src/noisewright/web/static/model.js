// A run as this page knows it: rows that grow by events, and what is computed from them.

import {ask, decimals, query} from "./dom.js";

export class Run extends EventTarget {
  constructor(name) {
    super();
    this.name = name;
    this.clear();
    this.choices = {marks: {}, votes: 0, human: {}, agreement: [], opinions: {}};
    this.head = null;
    this.connected = true;
    // A browser opens six connections to a server: a tab that nobody sees needs none of them.
    this.seen = () => {
      if (document.hidden) this.source?.close();
      else if (this.source && !this.ended) this.open();
    };
    document.addEventListener("visibilitychange", this.seen);
  }

  clear() {
    this.rows = [];
    this.byId = new Map();
    this.values = null;
    this.previews = [];
    this.judged = {};
    this.curve = [];
  }

  open() {
    this.source?.close();
    this.source = new EventSource(`/api/events?${query({run: this.name})}`);
    this.source.addEventListener("run", (event) => this.take(JSON.parse(event.data)));
    this.source.addEventListener("choices", () => this.readChoices());
    this.source.addEventListener("gone", () => this.end("gone"));
    this.source.addEventListener("wrong", (event) => { this.said = JSON.parse(event.data).said; this.end("wrong"); });
    this.source.addEventListener("open", () => this.connection(true));
    this.source.addEventListener("error", () => {
      this.connection(false);
      if (this.source.readyState === EventSource.CLOSED && !this.ended) this.retry();
    });
  }

  // A browser gives up where the server answers with an error: why, a plain request says.
  async retry() {
    try {
      const {head} = await ask(`/api/run?${query({run: this.name, head: 1})}`);
      if (!head) this.end("gone");
      else setTimeout(() => { if (!this.ended) this.open(); }, 2000);
    } catch (error) {
      if (error.status === 404) this.end("gone");
      else if (error.status === 400) { this.said = error.message; this.end("wrong"); }
      else setTimeout(() => { if (!this.ended) this.retry(); }, 3000);
    }
  }

  connection(is) {
    if (is !== this.connected) {
      this.connected = is;
      this.tell("connection");
    }
  }

  end(how) {
    this.close();
    this.tell(how);
  }

  close() {
    this.ended = true;
    this.source?.close();
    document.removeEventListener("visibilitychange", this.seen);
  }

  tell(kind) {
    this.dispatchEvent(new Event(kind));
  }

  take(event) {
    if (event.anew) this.clear();
    if (event.head) this.head = event.head;
    for (const [id, seed, steps, images, nfe, seconds, broken, scores, draft] of event.rows ?? []) {
      const row = {id, seed, steps, images, nfe, seconds, broken, scores, draft, number: this.rows.length};
      this.rows.push(row);
      this.byId.set(id, row);
    }
    if (event.previews) this.previews = event.previews.map(([id, index, steps, scores, pictured]) => ({id, index, steps, scores, pictured, seed: null, unfinished: true}));
    Object.assign(this.judged, event.judged);
    if (event.values) this.values = event.values;
    if (event.curve) this.curve = event.curve;
    this.tell("change");
  }

  async readChoices() {
    try {
      this.choices = await ask(`/api/choices?${query({run: this.name})}`);
      this.tell("choices");
    } catch {  // the run is gone, which its own event says
    }
  }

  choose(found) {
    this.choices = found;
    this.tell("choices");
  }

  /** What a candidate is sorted by. */
  value(row) {
    return this.head.verifiers.length === 1 ? row.scores[0] : this.values?.[row.number] ?? null;
  }

  /** The columns of scores that there are: {key, name, role}. */
  columns() {
    const head = this.head, several = head.verifiers.length > 1;
    const found = several ? [{key: "value", name: head.value_name, role: "value"}] : [];
    found.push(...head.verifiers.map((name, place) => ({key: `v${place}`, name, role: "verifier"})));
    found.push(...head.judges.map((name) => ({key: `j${name}`, name, role: "judge"})));
    if (Object.keys(this.choices.human).length) found.push({key: "human", name: `human:${this.name}`, role: "your choices"});
    found.push(...Object.keys(this.choices.opinions).map((name) => ({key: `o${name}`, name, role: "added later"})));
    return found;
  }

  /** The score of a row in a column; null where there is none. */
  score(row, key) {
    if (key === "value") return row.unfinished ? null : this.value(row);
    if (key === "human") return this.choices.human[row.id]?.[0] ?? null;
    const name = key.slice(1);
    if (key[0] === "v") return row.scores[Number(name)] ?? null;
    return (key[0] === "j" ? this.judged[row.id]?.[name] : this.choices.opinions[name]?.[row.id]) ?? null;
  }

  /** How many decimals a column deserves. */
  places(key) {
    return decimals(this.rows.map((row) => this.score(row, key)));
  }

  marks(id) {
    return this.choices.marks[id] ?? [];
  }

  called(row) {
    return row.seed === null || row.seed === undefined ? row.id.slice(0, 8) : `seed ${row.seed}`;
  }

  /** What a picture shows, for who does not see it: the prompt, and how good it was found to be. */
  alt(row) {
    const key = this.head.verifiers.length > 1 && !row.unfinished ? "value" : "v0";
    const value = this.score(row, key), name = this.head.value_name;
    const said = value === null ? "no score" : `${name} ${value.toPrecision(4)}`;
    const what = row.unfinished ? `preview at step ${row.index} of ${row.steps}` : `${row.draft ? "draft of " : ""}${this.called(row)}`;
    return `${this.head.prompt || this.head.label || "image"}, ${what}, ${said}`;
  }
}
