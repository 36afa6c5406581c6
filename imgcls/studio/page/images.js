// The tab of images: filters, the grid, the bar of bulk actions, and the image view on top.

import { get } from "./api.js";
import { selectOf } from "./actions.js";
import { bulkBar } from "./bulk.js";
import { button, debounce, dot, fill, h, icon, number, plural, remember, remembered } from "./dom.js";
import { filterBar } from "./filterbar.js";
import { filterOf, withKey } from "./filters.js";
import { Grid } from "./grid.js";
import { addKeys } from "./keys.js";
import { offer } from "./needs.js";
import { painter } from "./paint.js";
import { address, go } from "./router.js";
import { Selection } from "./selection.js";
import { pickFiles } from "./upload.js";
import { View } from "./view.js";

export class ImagesTab {
  #order = [];
  #query = new URLSearchParams();
  #asked = null; // the filter whose order is shown
  #view = null;
  #cleanup = [];

  constructor(root, project) {
    this.project = project;
    this.selection = new Selection();
    this.actions = project.actions;
    this.bar = filterBar(project, (query) => this.#go(null, query));
    this.count = h("span", { class: "count", role: "status" });
    this.pill = button("Changed: show the newest list", { kind: "pill", icon: "redo", hidden: true, onclick: () => this.#load(false) });
    this.facets = h("aside", { class: "facets", "aria-label": "Classes" });
    this.empty = h("div", { class: "empty" });
    this.grid = new Grid({
      cells: project.cells, selection: this.selection, paint: painter(project),
      open: (id) => this.#go(id), size: remembered("cell-size", innerWidth < 500 ? 120 : 168),
    });
    this.bulk = bulkBar({
      project, actions: this.actions, selection: this.selection, total: () => this.#order.length,
      select: () => selectOf(this.selection, this.#query, this.#order, this.#isList()),
    });
    const slider = h("input", {
      type: "range", min: 80, max: 360, step: 4, value: this.grid.size, class: "size", "aria-label": "Size of the pictures",
      oninput: () => (this.grid.setSize(Number(slider.value)), remember("cell-size", this.grid.size)),
    });
    const upload = button("Upload", { icon: "upload", kind: "primary", onclick: (event) => pickFiles(project, event.currentTarget), "aria-haspopup": "listbox" });
    this.layer = h("div", { class: "images-list" },
      h("header", { class: "bar" }, h("h1", {}, "Images"), this.count, this.bar.search, h("span", { class: "space" }), slider, upload),
      h("div", { class: "bar second" }, this.bar.element, this.pill),
      h("div", { class: "images-body" }, h("div", { class: "grid-frame" }, this.grid.element, this.empty, this.bulk.element), this.facets));
    fill(root, this.layer);
    this.root = root;
    this.#listen();
  }

  #listen() {
    const { project } = this;
    const on = (target, type, run) => {
      target.addEventListener(type, run);
      this.#cleanup.push(() => target.removeEventListener(type, run));
    };
    const reload = debounce(() => this.#load(false), 300);
    on(project, "ids", reload);
    on(project, "info", () => (this.#drawFacets(), this.#drawCount()));
    on(project, "classes", () => {
      project.version = (project.version ?? 0) + 1;
      this.bar.draw(this.#query);
      this.#drawFacets();
      project.cells.touch([]);
    });
    // Images that no longer match stay until the list is asked for again: none vanishes below the hand.
    on(project, "changed", ({ detail }) => (this.pill.hidden = !detail.images?.length || ![...filterOf(this.#query)].length));
    on(this.selection, "change", () => this.#drawCount());
    this.#cleanup.push(addKeys(this.#keys(), (event, name) => this.#hotkey(name)));
  }

  close() {
    this.#view?.close();
    this.#cleanup.forEach((run) => run());
    this.grid.close();
  }

  /** Shows what the address says. */
  update({ item, query }) {
    this.#query = query;
    this.bar.draw(query);
    this.#drawFacets();
    const wanted = filterOf(query).toString();
    const id = item === null ? null : Number(item);
    if (wanted !== this.#asked) this.#load(true).then(() => this.#showView(id));
    else this.#showView(id);
  }

  #go(item, query = this.#query) {
    go(address(this.project.id, "images", item, filterOf(query)));
  }

  /** Whether the order comes from a list of ids, not from a filter. */
  #isList() {
    return this.#query.has("ids") || this.#query.has("cell");
  }

  async #load(top) {
    const filter = filterOf(this.#query);
    const asked = filter.toString();
    this.pill.hidden = true;
    try {
      const order = await this.#fetch(filter);
      if (filterOf(this.#query).toString() !== asked) return;
      this.#asked = asked;
      this.#order = order;
      this.grid.setOrder(order, top);
      this.selection.setOrder(order, !top);
    } catch (error) {
      this.#asked = asked;
      offer(this.project, error, () => filterOf(this.#query).toString() === asked && this.#load(true));
    }
    this.#view?.setOrder(this.#order);
    this.#drawCount();
    this.#drawEmpty();
  }

  async #fetch(filter) {
    if (filter.has("ids")) return filter.get("ids").split(",").map(Number).filter(Boolean);
    if (filter.has("cell")) {
      const [run, row, column] = filter.get("cell").split(":");
      const { images } = await get(`/api/runs/${run}/confusion`);
      return images[`${row},${column}`] ?? [];
    }
    return (await get(`${this.project.url}/ids?${filter}`)).ids;
  }

  #showView(id) {
    this.layer.inert = id !== null;
    if (id === null) {
      if (this.#view) {
        this.grid.focus(this.#view.id, { scroll: true });
        this.#view.close();
        this.#view = null;
        this.grid.element.focus({ preventScroll: true });
      }
      return;
    }
    this.#view ??= new View(this.root, {
      project: this.project, actions: this.actions, leave: () => this.#go(null), show: (next) => this.#go(next),
      filter: (key, value) => this.#go(null, withKey(new URLSearchParams(), key, [value])),
    });
    this.#view.setOrder(this.#order);
    this.#view.show(id);
  }

  #drawCount() {
    fill(this.count, plural(this.#order.length, "image"));
  }

  #drawEmpty() {
    this.empty.hidden = this.#order.length > 0;
    const filtered = [...filterOf(this.#query)].some(([key]) => key !== "sort");
    fill(
      this.empty,
      icon(filtered ? "filter" : "upload"),
      h("h2", {}, filtered ? "No image matches" : "No images yet"),
      h("p", {}, filtered ? "Take away a filter to see more." : "Drop files, folders or zip archives anywhere on this page."),
      filtered
        ? button("Show all images", { onclick: () => this.#go(null, new URLSearchParams()) })
        : button("Choose files", { kind: "primary", onclick: (event) => pickFiles(this.project, event.currentTarget) }),
    );
  }

  #drawFacets() {
    const { project } = this;
    const chosen = this.#query.getAll("class");
    const { counts } = project;
    const row = (text, count, on, query, first = null, key = null) =>
      h("a", { class: "facet", href: address(project.id, "images", null, filterOf(query)), "aria-current": on ? "true" : null },
        first, h("span", { class: "facet-text" }, text), key && h("kbd", {}, key.toUpperCase()), h("span", { class: "facet-count" }, number(count)));
    const untagged = this.#query.has("untagged");
    const base = withKey(withKey(this.#query, "class", []), "untagged", []);
    fill(
      this.facets,
      h("h2", {}, "Classes"),
      h("nav", { "aria-label": "Images by class" },
        row("All images", counts.images, !chosen.length && !untagged, base),
        row("Untagged", counts.untagged, untagged, untagged ? base : withKey(base, "untagged", ["1"])),
        project.classes.map((item) => {
          const on = chosen.includes(String(item.id));
          return row(item.name, counts.by_class?.[item.id], on, on ? base : withKey(base, "class", [item.id]), dot(item.colour), item.hotkey);
        })),
      h("p", { class: "facets-hint" }, project.classes.length ? "Press a class's key to tag the selected images." : "There is no class yet: create some in Classes."),
    );
  }

  #targets() {
    return this.selection.size ? null : this.grid.focused;
  }

  #hotkey(name) {
    if (this.#view || name.length !== 1 || !this.grid.element.contains(document.activeElement) && document.activeElement !== document.body && !this.selection.size) return false;
    const item = this.project.classes.find((each) => each.hotkey?.toLowerCase() === name);
    if (!item) return false;
    const one = this.selection.only ?? this.#targets();
    if (one !== null) this.actions.toggle(one, item);
    else this.bulk.tagAs(item);
    return true;
  }

  #flag(flag, what) {
    const one = this.selection.only ?? this.#targets();
    if (one !== null) return this.actions.flag(one, flag);
    return this.actions.bulk(selectOf(this.selection, this.#query, this.#order, this.#isList()), { flag }, what);
  }

  #keys() {
    const group = "Images";
    const inGrid = (run) => (event) => {
      if (this.#view || this.layer.inert) return false;
      return run(event);
    };
    const moves = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -this.grid.columns, ArrowDown: () => this.grid.columns,
      PageUp: () => -this.grid.page, PageDown: () => this.grid.page, Home: () => -Infinity, End: () => Infinity };
    const arrows = Object.entries(moves).map(([key, by]) => ({
      keys: [key, `Shift+${key}`], group, shown: "← ↑ → ↓", about: key === "ArrowLeft" ? "Move; with Shift, select" : null,
      run: inGrid((event) => this.grid.move(by(), event.shiftKey)),
    }));
    return [
      ...arrows,
      { keys: [" "], shown: "Space", about: "Select or leave out", group, run: inGrid(() => this.grid.focused && this.selection.toggle(this.grid.focused)) },
      { keys: ["Control+a"], shown: "Ctrl A", about: "Select all that match", group, run: inGrid(() => this.selection.selectAll()) },
      { keys: ["Escape"], shown: "Esc", about: "Clear the selection", group, run: inGrid(() => this.selection.clear()) },
      { keys: ["Enter"], about: "Open the image", group, run: inGrid(() => this.grid.focused && this.#go(this.grid.focused)) },
      { keys: [], shown: "1-9 A-Z", about: "Tag the selected images by the class's key", group },
      { keys: ["0"], about: "None of these", group, run: inGrid(() => this.#flag("none", "None of these")) },
      { keys: [","], about: "Unsure", group, run: inGrid(() => this.#flag("unsure", "Unsure")) },
      { keys: ["."], about: "Skip", group, run: inGrid(() => this.#flag("skip", "Skipped")) },
      { keys: ["="], about: "Images similar to this one", group, run: inGrid(() => this.grid.focused && this.#go(null, withKey(new URLSearchParams(), "sort", [`similar:${this.grid.focused}`]))) },
      { keys: ["/"], about: "Search", group, run: inGrid(() => this.bar.search.querySelector("input").focus()) },
    ];
  }
}
