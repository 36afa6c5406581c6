// The tab of classes: many at once by a pasted list, colour, key, description, attributes; rename,
// merge and delete with what happens to the tags said beforehand.

import { get } from "./api.js";
import { attributeEditor } from "./attribute_editor.js";
import { createClasses } from "./create.js";
import { ask, field, formDialog } from "./dialog.js";
import { button, dot, fill, h, icon, number, plural } from "./dom.js";
import { openMenu } from "./menu.js";
import { address } from "./router.js";
import { complain, toast } from "./toast.js";

const KINDS = { choice: "one of", choices: "some of", yes_no: "yes or no", number: "number", text: "text" };

export class ClassesTab {
  constructor(root, project) {
    this.project = project;
    this.reviewer = project.may("reviewer");
    this.body = h("tbody");
    this.count = h("span", { class: "count" });
    this.empty = h("div", { class: "empty" }, icon("classes"), h("h2", {}, "No classes yet"), h("p", {}, "Paste a list of names to create many at once."), button("Add classes", { kind: "primary", onclick: () => this.add() }));
    this.table = h(
      "table",
      { class: "table" },
      h("thead", {}, h("tr", {}, ["Class", "Key", "Images", "Attributes", "Description"].map((text) => h("th", { scope: "col" }, text)), h("th", { scope: "col" }, h("span", { class: "hidden" }, "Actions")))),
      this.body,
    );
    fill(
      root,
      h("header", { class: "bar" }, h("h1", {}, "Classes"), this.count, h("span", { class: "space" }), button("Add classes", { icon: "plus", kind: "primary", onclick: () => this.add() })),
      h("div", { class: "page" }, this.empty, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Classes" }, this.table)),
    );
    this.onChange = () => this.draw();
    project.addEventListener("classes", this.onChange);
    project.addEventListener("info", this.onChange);
  }

  close() {
    this.project.removeEventListener("classes", this.onChange);
    this.project.removeEventListener("info", this.onChange);
  }

  update() {
    this.draw();
  }

  draw() {
    const { project } = this;
    fill(this.count, plural(project.classes.length, "class", "classes"));
    this.empty.hidden = project.classes.length > 0;
    this.table.parentElement.hidden = project.classes.length === 0;
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest("tr").dataset.id : null;
    fill(this.body, project.classes.map((item) => this.#row(item, project.counts.by_class?.[item.id] ?? 0)));
    if (focused) this.body.querySelector(`tr[data-id="${focused}"] button`)?.focus();
  }

  #row(item, images) {
    const attributes = (item.attributes ?? []).map((each) => `${each.name} (${each.options?.length ? `${KINDS[each.kind]} ${each.options.join(", ")}` : KINDS[each.kind]})`);
    const name = h("button", { type: "button", class: "link strong", onclick: () => this.edit(item) }, item.name);
    return h(
      "tr",
      { dataset: { id: item.id } },
      h("td", {}, h("span", { class: "named" }, dot(item.colour), name)),
      h("td", {}, item.hotkey && h("kbd", {}, item.hotkey.toUpperCase())),
      h("td", { class: "numeric" }, h("a", { href: address(this.project.id, "images", null, new URLSearchParams({ class: item.id })) }, number(images))),
      h("td", { class: "wide-cell" }, attributes.join("; ")),
      h("td", { class: "wide-cell" }, item.description),
      h("td", { class: "row-actions" }, button("", { icon: "more", label: `Actions on ${item.name}`, kind: "plain", "aria-haspopup": "listbox", onclick: (event) => this.#menu(event.currentTarget, item) })),
    );
  }

  #menu(anchor, item) {
    openMenu(anchor, {
      label: `Actions on ${item.name}`,
      items: [
        { text: "Edit…", icon: "edit", run: () => this.edit(item) },
        { text: "Merge into…", icon: "merge", disabled: !this.reviewer || this.project.classes.length < 2, run: () => this.#chooseMerge(anchor, item) },
        { text: "Delete…", icon: "trash", danger: true, separate: true, disabled: !this.reviewer, run: () => this.#delete(item) },
      ],
    });
  }

  /** Many at once: one name a line, with a description after a tab or colon. */
  add() {
    const names = h("textarea", { name: "names", rows: 9, required: true, placeholder: "cat\ndog\nbird: also drawn ones", spellcheck: "false" });
    return formDialog({
      title: "Add classes",
      yes: "Create",
      fields: field("One name a line", names, "A description may follow a colon or a tab. Colours and keys are given by themselves and can be changed."),
      send: async (form) => {
        const classes = parseList(form.get("names"), this.project.classes);
        const made = await createClasses(this.project, classes);
        toast(`Created ${plural(made.length, "class", "classes")}`, { action: { text: "Undo", run: () => this.project.actions.undo() } });
      },
    });
  }

  edit(item) {
    const editor = attributeEditor(item.attributes ?? []);
    const colour = h("input", { type: "color", name: "colour", value: item.colour });
    return formDialog({
      title: `Edit ${item.name}`,
      yes: "Save",
      wide: true,
      fields: [
        field("Name", h("input", { name: "name", value: item.name, required: true, maxlength: 200 }), "A new name changes no tag."),
        h("div", { class: "field-row" },
          field("Colour", colour),
          field("Key", h("input", { name: "hotkey", value: item.hotkey ?? "", maxlength: 1, pattern: "[1-9A-Za-z]", class: "short" }), "1-9 or A-Z")),
        field("Description", h("textarea", { name: "description", rows: 2, value: item.description ?? "" }), "What taggers are told of it."),
        editor.element,
      ],
      send: async (form) => {
        const hotkey = form.get("hotkey").trim().toLowerCase();
        const body = { name: form.get("name").trim(), colour: form.get("colour"), hotkey: hotkey || null, description: form.get("description").trim(), attributes: editor.value() };
        await this.project.send(`/api/classes/${item.id}`, body, `edit ${item.name}`, "PATCH");
        await this.project.loadClasses();
      },
    });
  }

  #chooseMerge(anchor, item) {
    const items = this.project.classes.filter((other) => other !== item).map((other) => ({ text: other.name, colour: other.colour, run: () => this.#merge(item, other) }));
    openMenu(anchor, { label: "Merge into", search: "Merge into…", items });
  }

  async #effect(item, query) {
    return get(`/api/classes/${item.id}/effect${query}`).catch((error) => (complain(error), null));
  }

  async #merge(item, into) {
    const effect = await this.#effect(item, `?merge_into=${into.id}`);
    if (!effect) return;
    const sure = await ask({
      title: `Merge ${item.name} into ${into.name}?`,
      body: [
        h("p", {}, `${effect.what}.`),
        effect.both > 0 && h("p", {}, `${plural(effect.both, "image")} with both keep one tag.`),
      ],
      yes: "Merge",
    });
    if (sure) this.#do(this.project.send(`/api/classes/${item.id}/merge`, { into: into.id }, `merge ${item.name} into ${into.name}`), `Merged ${item.name} into ${into.name}`);
  }

  async #delete(item) {
    const effect = await this.#effect(item, "");
    if (!effect) return;
    const sure = await ask({
      title: `Delete ${item.name}?`,
      body: h("p", {}, `${effect.what}.`),
      yes: "Delete",
      danger: true,
    });
    if (sure) this.#do(this.project.send(`/api/classes/${item.id}`, {}, `delete ${item.name}`, "DELETE"), `Deleted ${item.name}`);
  }

  async #do(promise, done) {
    try {
      await promise;
      await this.project.loadClasses();
      this.project.cells.touch(null);
      toast(done, { action: { text: "Undo", run: () => this.project.actions.undo() } });
    } catch (error) {
      complain(error);
    }
  }
}

/** Classes of a pasted list.
 * @throws {Error} on a name twice, or none */
export function parseList(text, existing) {
  const names = new Set(existing.map((item) => item.name.toLowerCase()));
  const classes = [];
  for (const line of text.split(/\r?\n/)) {
    const [, name, description] = line.trim().match(/^([^\t:]*)(?:[\t:]\s*(.*))?$/) ?? [];
    if (!name?.trim()) continue;
    if (names.has(name.trim().toLowerCase())) throw new Error(`${name.trim()} is there already: take the line away`);
    names.add(name.trim().toLowerCase());
    classes.push({ name: name.trim(), ...(description && { description: description.trim() }) });
  }
  if (!classes.length) throw new Error("there is no name: write one a line");
  return classes;
}
