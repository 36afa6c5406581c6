// All data sets: create, rename, archive.

import { get } from "./api.js";
import { ask, field, formDialog } from "./dialog.js";
import { button, fill, h, icon, plural, when } from "./dom.js";
import { openMenu } from "./menu.js";
import { outbox } from "./outbox.js";
import { address, go } from "./router.js";
import { complain } from "./toast.js";

export class DataSets {
  #all = [];
  #archived = false;

  constructor(root, me) {
    this.me = me;
    this.list = h("div", { class: "cards" });
    const owner = me.role === "owner";
    fill(
      root,
      h("header", { class: "bar" }, h("h1", {}, "Data sets"), h("span", { class: "space" }),
        h("label", { class: "check" }, h("input", { type: "checkbox", onchange: (event) => ((this.#archived = event.target.checked), this.draw()) }), "Archived"),
        owner && button("New data set", { icon: "plus", kind: "primary", onclick: () => newDataSet() })),
      h("div", { class: "page" }, this.list),
    );
  }

  async update() {
    try {
      const answer = await get(`/api/datasets`);
      this.#all = answer.datasets ?? answer;
      this.draw();
    } catch (error) {
      complain(error);
    }
  }

  draw() {
    const shown = this.#all.filter((each) => Boolean(each.archived) === this.#archived);
    fill(
      this.list,
      shown.map((each) => this.#card(each)),
      !shown.length && h("div", { class: "empty" }, icon("folder"), h("h2", {}, this.#archived ? "Nothing is archived" : "No data set yet"),
        !this.#archived && h("p", {}, "A data set holds images, the classes they can have, and who said so."),
        !this.#archived && this.me.role === "owner" && button("New data set", { kind: "primary", onclick: () => newDataSet() })),
    );
  }

  #card(each) {
    const counts = each.counts ?? each;
    const tagged = counts.images - (counts.untagged ?? 0);
    return h(
      "article",
      { class: "card" },
      h("h2", {}, h("a", { href: address(each.id, "images") }, each.name)),
      h("p", { class: "muted" }, `${plural(counts.images ?? 0, "image")} · ${each.kind === "multi" ? "several classes an image" : "one class an image"}`),
      counts.images > 0 && h("progress", { max: counts.images, value: tagged, "aria-label": `${tagged} of ${counts.images} tagged` }),
      h("p", { class: "muted small" }, `Made ${when(each.created)}`),
      this.me.role === "owner" && button("", { icon: "more", label: `Actions on ${each.name}`, kind: "plain card-menu", "aria-haspopup": "listbox", onclick: (event) => this.#menu(event.currentTarget, each) }),
    );
  }

  #menu(anchor, each) {
    openMenu(anchor, {
      label: `Actions on ${each.name}`,
      items: [
        { text: "Rename…", icon: "edit", run: () => this.#rename(each) },
        { text: each.archived ? "Bring back" : "Archive…", icon: "archive", run: () => this.#archive(each) },
      ],
    });
  }

  async #rename(each) {
    const name = h("input", { name: "name", value: each.name, required: true, maxlength: 200 });
    const send = (form) => outbox.send("PATCH", `/api/datasets/${each.id}`, { name: form.get("name").trim() }, "rename");
    if (await formDialog({ title: "Rename", yes: "Rename", fields: field("Name", name), send })) this.update();
  }

  async #archive(each) {
    const sure = each.archived || (await ask({ title: `Archive ${each.name}?`, body: h("p", {}, "It leaves the list. Nothing is deleted, and it can be brought back."), yes: "Archive" }));
    if (!sure) return;
    await outbox.send("PATCH", `/api/datasets/${each.id}`, { archived: !each.archived }, "archive").catch(complain);
    this.update();
  }
}

/** Asks for the name and kind of a data set, creates it and opens it. */
export async function newDataSet(name = "") {
  const kinds = h("select", { name: "kind" }, h("option", { value: "single" }, "One class an image"), h("option", { value: "multi" }, "Several classes an image"));
  const answer = await formDialog({
    title: "New data set",
    yes: "Create",
    fields: [
      field("Name", h("input", { name: "name", value: name, required: true, maxlength: 200, autocomplete: "off" })),
      field("Each image has", kinds),
      field("Taggers an image", h("input", { name: "taggers", type: "number", min: 1, max: 20, value: 1 }), "With more than one, the image is settled when they agree; ties go to review."),
    ],
    send: (form) =>
      outbox.send("POST", "/api/datasets", { name: form.get("name").trim(), kind: form.get("kind"), taggers: Number(form.get("taggers")) }, "create a data set"),
  });
  const id = answer?.id ?? answer?.dataset?.id;
  if (id) go(address(id, "images"));
}
