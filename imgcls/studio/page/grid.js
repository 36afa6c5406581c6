// The grid of images: only the rows on the screen and some around them exist, and their elements are
// used again for the next rows.

import { h } from "./dom.js";
import { Pictures } from "./pictures.js";
import { band } from "./band.js";

const GAP = 10;
const PADDING = 16;
const CAPTION = 40;

export class Grid {
  #order = [];
  #places = new Map(); // image id -> its place in the order
  #shown = new Map(); // place -> element
  #pool = [];
  #focus = 0;
  #frame = null;
  columns = 1;

  /** `paint(element, id, cell)` draws a cell; `open(id)` opens an image. */
  constructor({ cells, selection, paint, open, size }) {
    Object.assign(this, { cells, selection, paint, open, size });
    this.space = h("div", { class: "grid-space", role: "presentation" });
    this.element = h(
      "div",
      { class: "grid", role: "listbox", tabindex: "0", "aria-multiselectable": "true", "aria-label": "Images" },
      this.space,
    );
    this.pictures = new Pictures((img) => this.#isVisible(img.closest(".cell")));
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("focus", () => this.#showFocus());
    this.space.addEventListener("click", (event) => this.#click(event));
    this.space.addEventListener("dblclick", (event) => {
      const id = this.#idOf(event.target);
      if (id) this.open(id);
    });
    band(this);
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.element);
    this.onChange = () => this.#repaint();
    cells.addEventListener("change", this.onChange);
    selection.addEventListener("change", this.onChange);
  }

  close() {
    this.observer.disconnect();
    this.cells.removeEventListener("change", this.onChange);
    this.selection.removeEventListener("change", this.onChange);
    for (const element of this.#shown.values()) this.pictures.drop(element.picture);
  }

  get order() {
    return this.#order;
  }

  /** The image with the focus, or null. */
  get focused() {
    return this.#order[this.#focus] ?? null;
  }

  /** Shows other images. `top` scrolls to the first one; otherwise the place is kept. */
  setOrder(order, top) {
    this.#order = order;
    this.#places = new Map(order.map((id, place) => [id, place]));
    this.#recycleAll();
    if (top) {
      this.#focus = 0;
      this.element.scrollTop = 0;
    }
    this.#focus = Math.max(0, Math.min(this.#focus, order.length - 1));
    this.layout();
  }

  setSize(size) {
    const middle = this.#first();
    this.size = size;
    this.layout();
    this.element.scrollTop = Math.floor(middle / this.columns) * this.row;
  }

  /** Places the cells for the width of the window. */
  layout() {
    const width = this.element.clientWidth - 2 * PADDING;
    if (width <= 0) return;
    const columns = Math.max(2, Math.floor((width + GAP) / (this.size + GAP)));
    this.side = Math.floor((width - GAP * (columns - 1)) / columns);
    this.row = this.side + CAPTION + GAP;
    if (columns !== this.columns) {
      const first = this.#first();
      this.columns = columns;
      this.element.scrollTop = Math.floor(first / columns) * this.row;
    }
    this.space.style.height = `${Math.ceil(this.#order.length / columns) * this.row + 2 * PADDING}px`;
    for (const [place, element] of this.#shown) this.#put(element, place);
    this.draw();
  }

  #first() {
    return Math.max(0, Math.round((this.element.scrollTop - PADDING) / (this.row || 1))) * this.columns;
  }

  /** Draws the rows on the screen and one screen around them. */
  draw() {
    if (!this.row) return;
    const { scrollTop, clientHeight } = this.element;
    const around = clientHeight * 0.75;
    const from = Math.max(0, Math.floor((scrollTop - PADDING - around) / this.row)) * this.columns;
    const rows = Math.ceil((scrollTop - PADDING + clientHeight + around) / this.row);
    const to = Math.min(this.#order.length, rows * this.columns);
    for (const [place, element] of this.#shown) {
      if (place < from || place >= to) this.#recycle(place, element);
    }
    for (let place = from; place < to; place += 1) if (!this.#shown.has(place)) this.#add(place);
    while (this.#pool.length > 60) this.#pool.pop().remove();
  }

  #add(place) {
    const element = this.#pool.pop() ?? makeCell();
    element.hidden = false;
    this.#shown.set(place, element);
    this.#put(element, place);
    const id = this.#order[place];
    element.dataset.id = id;
    element.id = `cell-${id}`;
    element.setAttribute("aria-posinset", place + 1);
    element.setAttribute("aria-setsize", this.#order.length);
    if (!element.isConnected) this.space.append(element);
    this.pictures.show(element.picture, `/api/images/${id}/thumbnail?size=${this.side * devicePixelRatio > 280 ? 512 : 256}`);
    this.#paintOne(element, place);
  }

  #put(element, place) {
    const x = PADDING + (place % this.columns) * (this.side + GAP);
    const y = PADDING + Math.floor(place / this.columns) * this.row;
    element.style.transform = `translate(${x}px, ${y}px)`;
    element.style.width = `${this.side}px`;
    element.style.height = `${this.side + CAPTION}px`;
    element.frame.style.height = `${this.side}px`;
  }

  #paintOne(element, place) {
    const id = this.#order[place];
    element.setAttribute("aria-selected", String(this.selection.has(id)));
    element.classList.toggle("focused", place === this.#focus);
    this.paint(element, id, this.cells.get(id));
  }

  #repaint() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      for (const [place, element] of this.#shown) this.#paintOne(element, place);
    });
  }

  #recycle(place, element) {
    this.#shown.delete(place);
    this.pictures.drop(element.picture);
    element.hidden = true;
    element.removeAttribute("id");
    this.#pool.push(element);
  }

  #recycleAll() {
    for (const [place, element] of this.#shown) this.#recycle(place, element);
  }

  #isVisible(element) {
    if (!element) return false;
    const y = PADDING + Math.floor((this.#places.get(Number(element.dataset.id)) ?? 0) / this.columns) * this.row;
    const { scrollTop, clientHeight } = this.element;
    return y + this.row > scrollTop && y < scrollTop + clientHeight;
  }

  #idOf(target) {
    return Number(target.closest?.(".cell")?.dataset.id) || null;
  }

  #click(event) {
    const id = this.#idOf(event.target);
    if (!id || this.dragged) return;
    this.focus(id);
    const onCheck = event.target.closest(".cell-check");
    if (event.shiftKey) this.selection.extendTo(id);
    else if (onCheck || event.ctrlKey || event.metaKey || (this.touch && this.selection.size)) this.selection.toggle(id);
    else if (this.touch) this.open(id);
    else if (this.selection.only === id) this.selection.clear();
    else this.selection.select(id);
  }

  /** Gives the focus to an image and brings it onto the screen. */
  focus(id, { scroll = false } = {}) {
    const place = this.#places.get(id);
    if (place === undefined) return;
    this.#focus = place;
    if (scroll) this.#scrollTo(place);
    this.#showFocus();
    this.#repaint();
  }

  #showFocus() {
    const id = this.focused;
    if (id === null) this.element.removeAttribute("aria-activedescendant");
    else this.element.setAttribute("aria-activedescendant", `cell-${id}`);
  }

  #scrollTo(place) {
    const y = PADDING + Math.floor(place / this.columns) * this.row;
    const { scrollTop, clientHeight } = this.element;
    if (y < scrollTop) this.element.scrollTop = y - PADDING;
    else if (y + this.row > scrollTop + clientHeight) this.element.scrollTop = y + this.row - clientHeight + PADDING;
    this.draw();
  }

  /** Moves the focus by places; `extend` selects on the way. */
  move(by, extend) {
    if (!this.#order.length) return;
    if (extend && !this.selection.size) this.selection.select(this.focused);
    const place = Math.max(0, Math.min(this.#order.length - 1, this.#focus + by));
    this.focus(this.#order[place], { scroll: true });
    if (extend) this.selection.extendTo(this.focused);
  }

  /** How many places a page is. */
  get page() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.row)) * this.columns;
  }

  /** The images that a rectangle of the content touches. */
  inside(x0, y0, x1, y1) {
    const found = [];
    const column = (x) => Math.floor((x - PADDING) / (this.side + GAP));
    const row = (y) => Math.floor((y - PADDING) / this.row);
    const [left, right] = [Math.max(0, column(x0)), Math.min(this.columns - 1, column(x1))];
    for (let r = Math.max(0, row(y0)); r <= row(y1); r += 1) {
      for (let c = left; c <= right; c += 1) {
        const id = this.#order[r * this.columns + c];
        if (id !== undefined) found.push(id);
      }
    }
    return found;
  }
}

function makeCell() {
  const picture = h("img", { alt: "", draggable: "false", decoding: "async" });
  const frame = h("div", { class: "cell-picture" }, picture, h("span", { class: "cell-check" }), h("span", { class: "cell-badges" }));
  const caption = h("div", { class: "cell-caption" });
  const element = h("div", { class: "cell", role: "option" }, frame, caption);
  return Object.assign(element, { picture, frame, caption, check: frame.children[1], badges: frame.children[2] });
}
