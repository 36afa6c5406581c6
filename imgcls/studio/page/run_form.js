// A new run: the version of the data, the recipe, its common arguments, and any other key as text.

import { get } from "./api.js";
import { field } from "./dialog.js";
import { button, fill, h, plural, when } from "./dom.js";
import { address, go } from "./router.js";
import { complain } from "./toast.js";

const DEFAULT_RECIPE = "own";

export class RunForm {
  #recipes = [];
  #keys = {};

  constructor(root, project) {
    this.project = project;
    this.root = root;
    this.version = h("select", { name: "version" }, h("option", { value: "" }, "What is tagged now (a version is frozen)"));
    this.recipe = h("select", { name: "recipe", onchange: () => this.#drawArguments() });
    this.about = h("p", { class: "muted small" });
    this.arguments = h("div", { class: "field-grid" });
    this.config = h("textarea", { name: "config", rows: 4, spellcheck: "false", class: "code", placeholder: "optimizer.weight_decay=0.05\nseed=1" });
    this.known = h("ul", { class: "key-list" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.start = button("Start", { icon: "play", kind: "primary", type: "submit" });
    this.form = h(
      "form",
      { class: "form run-form", novalidate: true, onsubmit: (event) => (event.preventDefault(), this.#send()) },
      h("h2", {}, "New run"),
      this.#dataLine(),
      field("Data", this.version),
      field("Recipe", this.recipe),
      this.about,
      this.arguments,
      h("details", {}, h("summary", {}, "Other keys"),
        field("One key=value a line", this.config, "Any key of the recipe's config. What is written here wins over the fields above."),
        h("label", { class: "field" }, "Find a key", h("input", { type: "search", oninput: (event) => this.#drawKeys(event.target.value) })), this.known),
      this.problem,
      h("div", { class: "form-foot" }, this.start),
    );
    fill(root, this.form);
    this.#load();
  }

  #dataLine() {
    const { counts } = this.project;
    const splits = Object.entries(counts.by_split ?? {}).map(([split, count]) => `${count} ${split}`);
    return h("p", { class: "muted" }, `${plural(counts.images - (counts.untagged ?? 0), "tagged image")} of ${counts.images}${splits.length ? ` (${splits.join(", ")})` : ""}.`);
  }

  async #load() {
    try {
      const [recipes, versions] = await Promise.all([get("/api/recipes"), get(`${this.project.url}/versions`)]);
      this.#recipes = recipes.recipes ?? recipes;
      this.#keys = recipes.keys ?? {};
      for (const version of (versions.versions ?? versions).slice().reverse()) {
        this.version.append(h("option", { value: version.id }, `${version.name ?? `Version ${version.id}`}: ${plural(version.count, "image")}, ${when(version.created)}`));
      }
      fill(this.recipe, this.#recipes.map((recipe) => h("option", { value: recipe.name, selected: recipe.name === DEFAULT_RECIPE }, recipe.name)));
      this.#drawArguments();
      this.#drawKeys("");
    } catch (error) {
      complain(error);
    }
  }

  get #chosen() {
    return this.#recipes.find((recipe) => recipe.name === this.recipe.value);
  }

  #drawArguments() {
    const recipe = this.#chosen;
    fill(this.about, recipe?.about);
    fill(this.arguments, (recipe?.arguments ?? []).map((each) => field(each.label ?? each.key, control(each), each.help)));
  }

  #drawKeys(text) {
    const wanted = text.trim().toLowerCase();
    const recipe = this.#chosen;
    const all = Object.entries({ ...this.#keys, ...recipe?.keys }).filter(([key]) => key.toLowerCase().includes(wanted));
    fill(this.known, all.slice(0, 60).map(([key, value]) =>
      h("li", {}, h("button", { type: "button", class: "link code", onclick: () => this.#insert(key, value) }, key), h("span", { class: "muted" }, ` ${JSON.stringify(value)}`))));
  }

  #insert(key, value) {
    const before = this.config.value && !this.config.value.endsWith("\n") ? `${this.config.value}\n` : this.config.value;
    this.config.value = `${before}${key}=${typeof value === "string" ? value : JSON.stringify(value)}`;
    this.config.focus();
  }

  /** Fields that differ from the recipe's defaults. */
  #values() {
    const values = {};
    for (const each of this.#chosen?.arguments ?? []) {
      const input = this.form.elements[`argument:${each.key}`];
      const value = each.kind === "bool" ? input.checked : input.value.trim();
      if (value === "" || String(value) === String(each.default ?? "")) continue;
      values[each.key] = ["int", "float"].includes(each.kind) ? Number(value) : value;
    }
    return values;
  }

  #config() {
    const lines = this.config.value.split("\n").map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
    const bad = lines.find((line) => !/^[\w.]+\s*=/.test(line));
    if (bad) throw new Error(`${bad}: write it as key=value`);
    return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")).trim().replace(/^--?config\./, ""), line.slice(line.indexOf("=") + 1).trim()]));
  }

  async #send() {
    fill(this.problem);
    this.start.disabled = true;
    try {
      const body = { version: this.version.value ? Number(this.version.value) : null, recipe: this.recipe.value, arguments: this.#values(), config: this.#config() };
      const answer = await this.project.send("runs", body, "start a run");
      go(address(this.project.id, "train", answer.id ?? answer.run?.id));
    } catch (error) {
      fill(this.problem, error.message);
    } finally {
      this.start.disabled = false;
    }
  }
}

function control({ key, kind, options, default: value }) {
  const name = `argument:${key}`;
  if (kind === "choice") return h("select", { name }, options.map((option) => h("option", { value: option, selected: option === value }, option)));
  if (kind === "bool") return h("input", { type: "checkbox", name, checked: Boolean(value) });
  if (kind === "int" || kind === "float") return h("input", { type: "number", name, step: kind === "int" ? 1 : "any", value: value ?? "" });
  return h("input", { type: "text", name, value: value ?? "", spellcheck: "false" });
}
