// The open data set: its counts, classes and cells, kept up to date by the server's events.

import { ApiError, get } from "./api.js";
import { Cells } from "./cells.js";
import { debounce } from "./dom.js";
import { outbox } from "./outbox.js";

export class Project extends EventTarget {
  #source = null;
  #last = null;
  #retry = null;
  #closed = false;

  constructor(id, me) {
    super();
    this.id = id;
    this.me = me;
    this.info = null;
    this.counts = {};
    this.classes = [];
    this.byId = new Map();
    this.live = "connecting";
    this.cells = new Cells(id);
    this.refresh = debounce(() => this.loadInfo().catch(() => {}), 250);
  }

  /** Loads it and follows its events.
   * @throws {ApiError} */
  async open() {
    await Promise.all([this.loadInfo(), this.loadClasses()]);
    this.#last = this.info.seq;
    this.#follow();
    this.onVisible = () => (document.hidden ? this.#pause() : this.#follow());
    document.addEventListener("visibilitychange", this.onVisible);
    this.onSent = ({ detail }) => this.#sent(detail);
    outbox.addEventListener("sent", this.onSent);
  }

  close() {
    this.#closed = true;
    this.#pause();
    this.refresh.cancel();
    document.removeEventListener("visibilitychange", this.onVisible);
    outbox.removeEventListener("sent", this.onSent);
  }

  get url() {
    return `/api/datasets/${this.id}`;
  }

  get single() {
    return this.info.kind === "single";
  }

  /** Whether the user may do what the role does or more. */
  may(role) {
    const order = ["tagger", "reviewer", "owner"];
    return order.indexOf(this.me.role) >= order.indexOf(role);
  }

  async loadInfo() {
    this.info = await get(this.url);
    this.counts = this.info.counts ?? this.info;
    this.tell("info");
  }

  async loadClasses() {
    const answer = await get(`${this.url}/classes`);
    const all = answer.classes ?? answer;
    this.byId = new Map(all.map((item) => [item.id, item]));
    this.classes = all.filter((item) => !item.deleted && !item.merged_into);
    this.tell("classes");
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Sends a write that belongs to this data set. */
  send(path, body, what, method = "POST") {
    return outbox.send(method, path.startsWith("/") ? path : `${this.url}/${path}`, body, what);
  }

  #sent({ item, answer }) {
    if (!item.url.startsWith(this.url) && item.body.dataset !== this.id && !item.url.startsWith("/api/classes")) return;
    if (Array.isArray(answer.images)) this.cells.put(answer.images);
    else if (item.body.items) this.cells.touch(item.body.items.map(({ image }) => image));
    this.refresh();
  }

  // Browsers open six connections to a server; pages in the background leave theirs to the others.
  #pause() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#retry);
  }

  #follow() {
    if (this.#source || this.#closed || document.hidden) return;
    const since = this.#last === null ? "" : `&last=${this.#last}`;
    const source = new EventSource(`/api/events?dataset=${this.id}${since}`);
    this.#source = source;
    source.onopen = () => this.#setLive("live");
    source.onerror = () => {
      this.#setLive("lost");
      if (source.readyState !== EventSource.CLOSED) return;
      this.#pause();
      this.#retry = setTimeout(() => this.#follow(), 2000);
    };
    for (const kind of ["change", "run", "upload"]) {
      source.addEventListener(kind, (event) => {
        if (event.lastEventId) this.#last = Number(event.lastEventId);
        this.#event(kind, JSON.parse(event.data));
      });
    }
  }

  #setLive(state) {
    if (this.live === "lost" && state === "live") this.#catchUp();
    this.live = state;
    this.tell("live");
  }

  /** After a lost connection: what was missed is asked for, whatever it was. */
  #catchUp() {
    this.cells.touch(null);
    this.refresh();
    this.loadClasses().catch(() => {});
    this.tell("ids");
  }

  #event(kind, data) {
    if (kind === "run") {
      this.tell("run", data);
      return;
    }
    const what = data.kind ?? kind;
    if (what.includes("class") || what.includes("undo") || what.includes("redo")) this.loadClasses().catch(() => {});
    this.cells.touch(data.images ?? null);
    this.refresh();
    this.tell("changed", data);
    if (/upload|ingest|register|import/.test(what) || kind === "upload") this.tell("ids");
  }
}

export { ApiError };
