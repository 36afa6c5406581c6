// Which images are selected: some by id, or all that match the filter.

export class Selection extends EventTarget {
  ids = new Set();
  /** All that match: sent to the server as the filter, not as 50,000 ids. */
  all = false;
  #order = [];
  #anchor = null;

  /** Tells the order of the images; those that are no longer in it are left out. */
  setOrder(order, keep = true) {
    this.#order = order;
    if (this.all && !keep) this.all = false;
    if (!this.all && this.ids.size) {
      const present = new Set(order);
      const before = this.ids.size;
      this.ids = new Set(keep ? [...this.ids].filter((id) => present.has(id)) : []);
      if (this.ids.size === before) return;
    }
    this.#tell();
  }

  get size() {
    return this.all ? this.#order.length : this.ids.size;
  }

  has(id) {
    return this.all || this.ids.has(id);
  }

  /** The one selected image, or null. */
  get only() {
    return this.size === 1 ? (this.all ? this.#order[0] : [...this.ids][0]) : null;
  }

  clear() {
    if (!this.size) return;
    this.all = false;
    this.ids.clear();
    this.#tell();
  }

  selectAll() {
    this.all = this.#order.length > 0;
    this.ids.clear();
    this.#tell();
  }

  select(id) {
    this.all = false;
    this.ids = new Set([id]);
    this.#anchor = id;
    this.#tell();
  }

  toggle(id) {
    this.#explicit();
    if (!this.ids.delete(id)) this.ids.add(id);
    this.#anchor = id;
    this.#tell();
  }

  /** Selects from the image chosen last to this one. */
  extendTo(id) {
    const from = this.#order.indexOf(this.#anchor ?? id), to = this.#order.indexOf(id);
    if (from < 0 || to < 0) return this.select(id);
    this.#explicit();
    for (const each of this.#order.slice(Math.min(from, to), Math.max(from, to) + 1)) this.ids.add(each);
    return this.#tell();
  }

  /** Sets the selection to what it was plus these: a rubber band being drawn. */
  set(ids) {
    this.all = false;
    this.ids = ids;
    this.#tell();
  }

  #explicit() {
    if (this.all) this.ids = new Set(this.#order);
    this.all = false;
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
