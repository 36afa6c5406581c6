// One image: its picture, what is said of it, and the way to the next.

import { get } from "./api.js";
import { button, fill, h, number, remember, remembered } from "./dom.js";
import { addKeys } from "./keys.js";
import { pictureUrl, Stage } from "./stage.js";
import { TagPanel } from "./tags.js";
import { complain } from "./toast.js";

export class View {
  #order = [];
  #ahead = [];
  #cleanup = [];
  id = null;

  /** `show(id)` goes to an image, `leave()` back to the grid, `filter(key, value)` to a filter. */
  constructor(root, { project, actions, show, leave, filter }) {
    Object.assign(this, { project, actions, go: show, leave });
    this.stage = new Stage();
    this.panel = new TagPanel({ project, actions, filter, advance: () => this.#advance() });
    this.name = h("h2", { class: "view-name" });
    this.place = h("span", { class: "count" });
    this.back = button("", { icon: "left", label: "Previous image", kind: "plain", onclick: () => this.#step(-1) });
    this.next = button("", { icon: "right", label: "Next image", kind: "plain", onclick: () => this.#step(1) });
    this.auto = h("input", { type: "checkbox", checked: remembered("advance", false), onchange: () => remember("advance", this.auto.checked) });
    this.element = h(
      "section",
      { class: "view", "aria-label": "Image", tabindex: "-1" },
      h(
        "header",
        { class: "bar" },
        button("Back", { icon: "close", onclick: leave }),
        this.name, this.place,
        h("span", { class: "space" }),
        h("label", { class: "check", title: "Go to the next image once this one is tagged" }, this.auto, "Next after tagging"),
        this.back, this.next,
      ),
      h("div", { class: "view-body" }, this.stage.element, this.panel.element),
    );
    root.append(this.element);
    this.element.focus({ preventScroll: true });
    this.#cleanup.push(addKeys(this.#keys(), (event, name) => this.#hotkey(name)));
    this.onChange = ({ detail }) => this.id !== null && (!detail || detail.includes(this.id)) && this.#refresh();
    project.cells.addEventListener("change", this.onChange);
    this.onClasses = () => this.panel.draw();
    project.addEventListener("classes", this.onClasses);
  }

  close() {
    this.#cleanup.forEach((run) => run());
    this.project.cells.removeEventListener("change", this.onChange);
    this.project.removeEventListener("classes", this.onClasses);
    this.panel.close();
    this.stage.close();
    this.element.remove();
  }

  setOrder(order) {
    this.#order = order;
    this.#drawPlace();
  }

  /** Shows an image. */
  async show(id) {
    if (id === this.id) return;
    this.panel.leave();
    this.id = id;
    this.#drawPlace();
    const known = this.project.cells.peek(id);
    fill(this.name, known?.name ?? "");
    if (known) this.stage.show(known);
    try {
      const cell = await this.project.cells.load(id);
      if (this.id !== id) return;
      if (!cell) throw new Error(`there is no image ${id} in this data set`);
      fill(this.name, cell.name);
      if (!known) this.stage.show(cell);
      this.panel.show(id);
      const image = await get(`/api/images/${id}`);
      if (this.id !== id) return;
      if (cell.media !== "image") this.stage.show({ ...cell, ...image });
      this.panel.setDetails(image);
      this.#preload();
    } catch (error) {
      complain(error);
    }
  }

  /** What the cell says now, when it or the image's answers changed. */
  async #refresh() {
    const { id } = this;
    this.project.cells.get(id);
    this.panel.draw();
    clearTimeout(this.later);
    this.later = setTimeout(async () => {
      const image = await get(`/api/images/${id}`).catch(() => null);
      if (image && this.id === id) this.panel.setDetails(image);
    }, 250);
  }

  /** The next pictures are loaded before they are asked for. */
  #preload() {
    const at = this.#order.indexOf(this.id);
    const near = [at + 1, at + 2, at - 1].map((place) => this.#order[place]).filter(Boolean);
    this.#ahead = near.map((id) => {
      this.project.cells.get(id);
      const picture = new Image();
      picture.src = pictureUrl(id);
      return picture;
    });
  }

  #drawPlace() {
    const at = this.#order.indexOf(this.id);
    fill(this.place, at < 0 ? "" : `${number(at + 1)} of ${number(this.#order.length)}`);
    this.back.disabled = at <= 0;
    this.next.disabled = at < 0 || at === this.#order.length - 1;
  }

  #step(by) {
    const next = this.#order[this.#order.indexOf(this.id) + by];
    if (next !== undefined && this.#order.includes(this.id)) this.go(next);
  }

  #advance() {
    if (this.auto.checked) this.#step(1);
  }

  #hotkey(name) {
    if (name.length !== 1) return false;
    const item = this.project.classes.find((each) => each.hotkey?.toLowerCase() === name);
    if (item) this.panel.toggle(item);
    return Boolean(item);
  }

  #keys() {
    const group = "Image view";
    return [
      { keys: ["ArrowRight", " "], shown: "→", about: "Next image", group, run: () => this.#step(1) },
      { keys: ["ArrowLeft", "Shift+ "], shown: "←", about: "Previous image", group, run: () => this.#step(-1) },
      { keys: ["Escape"], shown: "Esc", about: "Back to the grid", group, run: () => this.leave() },
      { keys: ["Enter"], about: "Accept the suggestion", group, run: () => this.actions.accept(this.id) && this.#advance() },
      { keys: ["0"], about: "None of these", group, run: () => this.panel.flag("none") },
      { keys: [","], about: "Unsure", group, run: () => this.panel.flag("unsure") },
      { keys: ["."], about: "Skip", group, run: () => this.panel.flag("skip") },
      { keys: [";"], about: "Comment", group, run: () => this.panel.comment.focus() },
      { keys: ["/"], about: "Find or create a class", group, run: () => this.panel.find.focus() },
      { keys: ["="], about: "Similar images", group, run: () => this.panel.similar() },
      { keys: ["+"], shown: "+ -", about: "Zoom in and out; double click fits", group, run: () => this.stage.zoom(1.4) },
      { keys: ["-"], run: () => this.stage.zoom(1 / 1.4) },
    ];
  }
}
