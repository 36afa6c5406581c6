// What the grid knows of each image: asked for in chunks, kept for the latest few thousand.

import { ApiError, post } from "./api.js";

const CHUNK = 250;
const KEEP = 6000;

export class Cells extends EventTarget {
  #cells = new Map();
  #stale = new Set();
  #wanted = new Set();
  #asked = new Set();
  #timer = null;

  constructor(dataset) {
    super();
    this.dataset = dataset;
  }

  /** The cell of an image, or undefined; asks for it where it is missing or stale. */
  get(id) {
    const cell = this.#cells.get(id);
    if (!cell || this.#stale.has(id)) this.#want(id);
    return cell;
  }

  /** The cell of an image where it is known. */
  peek(id) {
    return this.#cells.get(id);
  }

  /** The cell of an image, waited for. */
  async load(id) {
    if (!this.#cells.has(id) || this.#stale.has(id)) await this.#fetch([id]);
    return this.#cells.get(id);
  }

  /** Takes newer cells from an answer of the server. */
  put(cells) {
    for (const cell of cells) {
      this.#cells.delete(cell.id);
      this.#cells.set(cell.id, cell);
      this.#stale.delete(cell.id);
    }
    for (const id of this.#cells.keys()) {
      if (this.#cells.size <= KEEP) break;
      this.#cells.delete(id);
      this.#stale.delete(id);
    }
    this.#tell(cells.map((cell) => cell.id));
  }

  /** Changes what is shown of an image before the server has answered. */
  patch(id, change) {
    const cell = this.#cells.get(id);
    if (!cell) return;
    this.#cells.set(id, { ...cell, ...change(cell) });
    this.#tell([id]);
  }

  /** Says that images changed (null: any of them); those on the screen are asked for again. */
  touch(ids) {
    for (const id of ids ?? this.#cells.keys()) this.#stale.add(id);
    this.#tell(ids);
  }

  #tell(ids) {
    this.dispatchEvent(new CustomEvent("change", { detail: ids }));
  }

  #want(id) {
    if (this.#asked.has(id)) return;
    this.#wanted.add(id);
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      // Those asked for last are on the screen now.
      const ids = [...this.#wanted].reverse().slice(0, CHUNK * 2);
      this.#wanted.clear();
      for (let start = 0; start < ids.length; start += CHUNK) this.#fetch(ids.slice(start, start + CHUNK));
    }, 15);
  }

  async #fetch(ids) {
    for (const id of ids) this.#asked.add(id);
    try {
      const answer = await post(`/api/datasets/${this.dataset}/cells`, { ids });
      for (const id of ids) this.#asked.delete(id);
      this.put(answer.cells ?? answer);
    } catch (error) {
      for (const id of ids) this.#asked.delete(id);
      if (!(error instanceof ApiError)) throw error;
      // The grid asks again when it is drawn next.
      setTimeout(() => this.#tell(ids), 1500);
    }
  }
}
