// Beside the image: classes, attributes and text, the suggestion, other answers, comment and history.

import { button, dot, fill, h, icon, percent, size, when } from "./dom.js";
import { createClass } from "./create.js";
import { FLAGS, SPLITS, STATUS } from "./filters.js";
import { historyList } from "./history.js";
import { attributeFields } from "./attributes.js";
import { suggestionOf } from "./paint.js";

export class TagPanel {
  #details = null;
  #typed = "";
  id = null;

  constructor({ project, actions, filter, advance }) {
    Object.assign(this, { project, actions, filter, advance });
    this.find = h("input", {
      type: "text", placeholder: "Find or create a class", "aria-label": "Find or create a class", autocomplete: "off", spellcheck: "false",
      oninput: () => ((this.#typed = this.find.value.trim()), this.#drawClasses()),
      onkeydown: (event) => this.#findKey(event),
    });
    this.status = h("div", { class: "panel-status" });
    this.suggestion = h("div", { class: "panel-suggestion" });
    this.list = h("div", { class: "class-list", role: "group", "aria-label": "Classes" });
    this.flags = h("div", { class: "segments", role: "group", "aria-label": "Other answers" });
    this.comment = h("textarea", { rows: 2, "aria-label": "Comment", placeholder: "Comment", onchange: () => this.#sendComment(), onkeydown: leaveOnEscape });
    this.others = h("div", { class: "panel-others" });
    this.facts = h("dl", { class: "facts" });
    this.history = historyList();
    this.element = h(
      "aside",
      { class: "panel", "aria-label": "Tags" },
      this.status, this.suggestion,
      h("div", { class: "panel-find" }, icon("search"), this.find),
      this.list, this.flags, this.comment, this.others,
      h("details", {}, h("summary", {}, "About the file"), this.facts),
      this.history.element,
    );
  }

  /** Shows another image. */
  show(id) {
    this.id = id;
    this.#details = null;
    this.find.value = this.#typed = "";
    this.comment.value = this.#cell?.comment ?? "";
    fill(this.others);
    fill(this.facts);
    this.history.show(id);
    this.draw();
  }

  /** Sends what is typed and not sent yet. */
  leave() {
    if (this.id === null) return;
    this.#sendComment();
    if (this.element.contains(document.activeElement)) document.activeElement.blur();
  }

  close() {
    this.leave();
    this.id = null;
  }

  get #cell() {
    return this.project.cells.peek(this.id);
  }

  get #locked() {
    return Boolean(this.#cell?.reviewed_by ?? this.#details?.reviewed_by);
  }

  /** What the server knows of the image beyond its cell. */
  setDetails(image) {
    this.#details = image;
    if (document.activeElement !== this.comment) this.comment.value = image.comment ?? "";
    this.#drawOthers();
    this.#drawFacts();
    this.history.refresh();
    this.draw();
  }

  draw() {
    if (this.id === null || !this.#cell) return;
    this.#drawStatus();
    this.#drawSuggestion();
    this.#drawClasses();
    const { flag } = this.actions.mine(this.id);
    const keys = { none: "0", unsure: ",", skip: "." };
    const focused = this.flags.contains(document.activeElement) ? document.activeElement.dataset.flag : null;
    fill(this.flags, Object.entries(FLAGS).map(([name, text]) =>
      button(name === "skip" ? "Skip" : text, { "aria-pressed": String(flag === name), disabled: this.#locked, title: `Key ${keys[name]}`, dataset: { flag: name }, onclick: () => this.flag(name) })));
    if (focused) this.flags.querySelector(`[data-flag="${focused}"]`)?.focus();
    this.comment.disabled = this.#locked;
  }

  #drawStatus() {
    const { status, split } = this.#cell;
    const { project } = this;
    const bulk = (action, what) => () => this.actions.bulk({ ids: [this.id] }, action, what);
    fill(
      this.status,
      h("span", { class: `state ${status}` }, STATUS[status] ?? status),
      h("span", { class: "state" }, SPLITS[split] ?? split ?? ""),
      h("span", { class: "space" }),
      this.#locked
        ? project.may("reviewer") && button("Reopen", { icon: "lock", onclick: bulk({ reopen: true }, "Reopened") })
        : [
            status !== "review" && button("Review", { icon: "flag", label: "Send to review", onclick: bulk({ status: "review" }, "Sent to review") }),
            status === "review" && project.may("reviewer") && button("Approve", { icon: "check", onclick: bulk({ approve: true }, "Approved") }),
          ],
      this.#locked && h("p", { class: "note" }, "Reviewed: read-only until it is reopened."),
    );
  }

  #drawSuggestion() {
    const suggestion = suggestionOf(this.project, this.#cell);
    this.suggestion.hidden = !suggestion;
    if (!suggestion) return fill(this.suggestion);
    const accept = () => this.actions.accept(this.id) && this.advance();
    return fill(
      this.suggestion,
      icon("spark"), h("span", {}, "Suggested"), dot(suggestion.item.colour), h("strong", {}, suggestion.item.name), h("small", {}, percent(suggestion.score)),
      h("span", { class: "space" }),
      button("Accept", { kind: "small", title: "Enter", onclick: accept }),
    );
  }

  #drawClasses() {
    if (!this.#cell) return;
    // A field that is being typed in is not taken away.
    const editing = this.list.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), textarea, select");
    if (editing) return;
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.class : null;
    const { tags } = this.actions.mine(this.id);
    const wanted = this.#typed.toLowerCase();
    const shown = this.project.classes.filter((item) => item.name.toLowerCase().includes(wanted));
    const exact = this.project.classes.some((item) => item.name.toLowerCase() === wanted);
    fill(
      this.list,
      shown.map((item) => this.#row(item, tags[item.id])),
      this.#typed && !exact &&
        h("button", { type: "button", class: "class-row create", onclick: () => this.#create() }, icon("plus"), `Create “${this.#typed}”`),
      !shown.length && !this.#typed && h("p", { class: "note" }, "There is no class yet. Type a name to create one."),
    );
    if (focused) this.list.querySelector(`[data-class="${focused}"]`)?.focus();
  }

  #row(item, tag) {
    const on = tag !== undefined;
    const suggested = suggestionOf(this.project, this.#cell)?.item === item;
    const row = h(
      "button",
      {
        type: "button", class: `class-row${suggested ? " suggested" : ""}`, "aria-pressed": String(on), disabled: this.#locked, title: item.description || null,
        dataset: { class: item.id }, onclick: () => this.toggle(item),
      },
      dot(item.colour), h("span", { class: "class-name" }, item.name), on && icon("check"), item.hotkey && h("kbd", {}, item.hotkey.toUpperCase()),
    );
    if (!on) return row;
    const send = (part) => this.actions.answer(this.id, { add: { [item.id]: part } }, `details of ${item.name}`);
    return h("div", { class: "class-set" }, row, attributeFields({ item, tag, locked: this.#locked, send }));
  }

  #findKey(event) {
    if (event.key === "Escape") this.find.blur();
    else if (event.key === "Enter" && this.#typed) {
      const first = this.project.classes.find((item) => item.name.toLowerCase() === this.#typed.toLowerCase())
        ?? this.project.classes.find((item) => item.name.toLowerCase().startsWith(this.#typed.toLowerCase()));
      if (first) {
        this.toggle(first);
        this.find.value = this.#typed = "";
        this.#drawClasses();
      } else this.#create();
    } else return;
    event.preventDefault();
  }

  async #create() {
    const { id } = this;
    const item = await createClass(this.project, this.#typed).catch(() => null);
    if (!item) return;
    this.find.value = this.#typed = "";
    if (this.id === id) this.actions.toggle(id, item);
    this.draw();
  }

  /** Sets or takes away a class. */
  toggle(item) {
    if (this.#locked || this.id === null) return;
    const adds = !(item.id in this.actions.mine(this.id).tags);
    this.actions.toggle(this.id, item);
    if (adds && this.project.single && !item.attributes?.length) this.advance();
  }

  flag(flag) {
    if (this.#locked) return;
    const sets = this.actions.mine(this.id).flag !== flag;
    this.actions.flag(this.id, flag);
    if (sets) this.advance();
  }

  similar() {
    this.filter("sort", `similar:${this.id}`);
  }

  #sendComment() {
    const comment = this.comment.value.trim();
    if (this.id === null || !this.#cell || comment === (this.#cell.comment ?? this.#details?.comment ?? "")) return;
    this.actions.answer(this.id, { comment }, "comment");
  }

  #drawOthers() {
    const { me } = this.project;
    const answers = (this.#details.answers ?? []).filter((answer) => answer.user !== me.id);
    const findings = this.#details.findings ?? [];
    fill(
      this.others,
      answers.length > 0 && h("h3", {}, "Other taggers"),
      answers.map((answer) =>
        h("div", { class: "other" }, h("span", { class: "other-name" }, answer.name),
          Object.keys(answer.tags ?? {}).map((id) => this.project.byId.get(Number(id))).filter(Boolean).map((item) => h("span", { class: "chip" }, dot(item.colour), item.name)),
          answer.flag && h("span", { class: "chip flagged" }, FLAGS[answer.flag]))),
      findings.length > 0 && h("h3", {}, "Audit"),
      findings.map(({ kind, detail }) => h("p", { class: "note" }, `${kind.replaceAll("_", " ")}${detail ? `: ${typeof detail === "string" ? detail : JSON.stringify(detail)}` : ""}`)),
    );
  }

  #drawFacts() {
    const image = this.#details;
    const row = (name, value) => value !== null && value !== undefined && value !== "" && [h("dt", {}, name), h("dd", {}, value)];
    fill(
      this.facts,
      row("Name", image.name), row("Folder", image.folder),
      row("Size", image.width && `${image.width} × ${image.height}`), row("Frames", image.frames > 1 ? image.frames : null),
      row("File", image.bytes && size(image.bytes)), row("Uploaded", when(image.uploaded)), row("SHA-256", image.sha256 && h("code", {}, image.sha256.slice(0, 16))),
      row("Near duplicates", image.near_duplicates?.length > 0 && h("button", { type: "button", class: "link", onclick: () => this.filter("cluster", image.cluster) }, String(image.near_duplicates.length))),
    );
    this.facts.append(
      h("div", { class: "facts-links" },
        h("a", { href: `/api/images/${image.id}/original`, download: true }, "Download the original"),
        h("button", { type: "button", class: "link", onclick: () => this.similar() }, "Similar images")),
    );
  }
}

function leaveOnEscape(event) {
  if (event.key !== "Escape") return;
  event.stopPropagation();
  event.currentTarget.blur();
}
