// The tab of members: users and roles, and how far taggers agree.

import { get } from "./api.js";
import { dialog, field, formDialog } from "./dialog.js";
import { button, fill, h, number, plural, when } from "./dom.js";
import { outbox } from "./outbox.js";
import { address } from "./router.js";
import { complain, toast } from "./toast.js";

const ROLES = { tagger: "Tagger", reviewer: "Reviewer", owner: "Owner" };
const ABOUT = { tagger: "sees and answers", reviewer: "also approves and reopens", owner: "everything" };

export class MembersTab {
  constructor(root, project) {
    this.project = project;
    this.owner = project.may("owner");
    this.users = h("tbody");
    this.agreement = h("section");
    fill(
      root,
      h("header", { class: "bar" }, h("h1", {}, "Members"), h("span", { class: "space" }), this.owner && button("Add a user", { icon: "plus", kind: "primary", onclick: () => this.#add() })),
      h(
        "div",
        { class: "page" },
        h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Users" }, h("table", { class: "table" }, h("thead", {}, h("tr", {}, ["Name", "Role", "Since", "Images"].map((text) => h("th", { scope: "col" }, text)), h("th", { scope: "col" }, h("span", { class: "hidden" }, "Actions")))), this.users)),
        this.agreement,
      ),
    );
  }

  async update() {
    try {
      const answer = await get("/api/users");
      this.all = answer.users ?? answer;
      fill(this.users, this.all.map((user) => this.#row(user)));
    } catch (error) {
      complain(error);
    }
    this.#drawAgreement();
  }

  #row(user) {
    const role = this.owner && user.id !== this.project.me.id
      ? h("select", { "aria-label": `Role of ${user.name}`, onchange: (event) => this.#change(user, { role: event.target.value }) }, Object.entries(ROLES).map(([value, text]) => h("option", { value, selected: value === user.role }, `${text}: ${ABOUT[value]}`)))
      : ROLES[user.role];
    const images = address(this.project.id, "images", null, new URLSearchParams({ tagged_by: user.id }));
    return h(
      "tr",
      { class: user.active === false ? "inactive" : null },
      h("td", {}, h("strong", {}, user.name), user.active === false && " (may not log in)"),
      h("td", {}, role),
      h("td", {}, when(user.created)),
      h("td", {}, h("a", { href: images, "aria-label": `Images tagged by ${user.name}` }, "Show")),
      h("td", { class: "row-actions" }, this.owner && user.id !== this.project.me.id && button(user.active === false ? "Let in" : "Shut out", { onclick: () => this.#change(user, { active: user.active === false }) })),
    );
  }

  async #change(user, change) {
    await outbox.send("PATCH", `/api/users/${user.id}`, change, `change ${user.name}`).catch(complain);
    this.update();
  }

  async #add() {
    const roles = h("select", { name: "role" }, Object.entries(ROLES).map(([value, text]) => h("option", { value }, `${text}: ${ABOUT[value]}`)));
    const made = await formDialog({
      title: "Add a user",
      yes: "Add",
      fields: [field("Name", h("input", { name: "name", required: true, maxlength: 100, autocomplete: "off" })), field("Role", roles)],
      send: (form) => outbox.send("POST", "/api/users", { name: form.get("name").trim(), role: form.get("role") }, "add a user"),
    });
    this.update();
    if (!made?.token) return;
    await dialog({
      title: `The token of ${made.name ?? "the new user"}`,
      body: [h("p", {}, "It is shown once. The user types it to log in."), h("code", { class: "token" }, made.token)],
      actions: (close) => [
        button("Copy", { icon: "copy", onclick: () => navigator.clipboard.writeText(made.token).then(() => toast("Copied"), complain) }),
        button("Done", { kind: "primary", onclick: () => close() }),
      ],
    });
  }

  async #drawAgreement() {
    const answer = await get(`${this.project.url}/agreement`).catch(() => null);
    const pairs = answer?.pairs ?? [];
    const name = (id) => this.all?.find((user) => user.id === id)?.name ?? id;
    const disputed = address(this.project.id, "images", null, new URLSearchParams({ disputed: 1 }));
    fill(
      this.agreement,
      h("h2", {}, "Agreement"),
      h("p", { class: "muted" }, "Cohen's kappa of each pair on the images that both answered: 1 is full agreement, 0 is chance."),
      pairs.length > 0
        ? h("table", { class: "table" }, h("thead", {}, h("tr", {}, ["Taggers", "Kappa", "Images of both"].map((text) => h("th", { scope: "col" }, text)))),
            h("tbody", {}, pairs.map(({ users, kappa, images }) => h("tr", {}, h("td", {}, users.map(name).join(" and ")), h("td", { class: "numeric" }, kappa === null ? "–" : kappa.toFixed(2)), h("td", { class: "numeric" }, number(images))))))
        : h("p", { class: "muted" }, "No two people have answered the same images yet."),
      h("p", {}, h("a", { href: disputed }, answer?.disputed ? `${plural(answer.disputed, "image")} in dispute` : "Images on which taggers disagree")),
    );
  }
}
