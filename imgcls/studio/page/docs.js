// The reference of the API, made from the server's own /openapi.json.

import { get } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { complain } from "./toast.js";

export class DocsPage {
  #schemas = {};

  constructor(root) {
    this.contents = h("nav", { class: "docs-contents", "aria-label": "Contents" });
    this.body = h("div", { class: "docs-body" });
    const find = h("input", { type: "search", placeholder: "Find a call", "aria-label": "Find a call", oninput: () => this.#filter(find.value) });
    fill(root, h("header", { class: "bar" }, h("h1", {}, "API"), h("span", { class: "space" }), h("div", { class: "search" }, icon("search"), find), h("a", { class: "button", href: "/openapi.json", target: "_blank", rel: "noopener" }, "openapi.json")), h("div", { class: "docs" }, this.contents, this.body));
    this.#load();
  }

  async #load() {
    try {
      this.#draw(await get("/openapi.json"));
    } catch (error) {
      complain(error);
    }
  }

  #draw({ info, paths, components }) {
    this.#schemas = components?.schemas ?? {};
    const groups = new Map();
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (!operation.responses) continue;
        const group = operation.tags?.[0] ?? path.split("/")[2] ?? "";
        groups.set(group, [...(groups.get(group) ?? []), { method: method.toUpperCase(), path, operation }]);
      }
    }
    const intro = h("section", {}, h("h2", {}, `${info.title} ${info.version}`), h("p", {}, info.description),
      h("p", {}, "Every write carries a ", h("code", {}, "request_id"), ": sent again, it changes nothing and gets the first answer. Without users, calls from this machine need no token; otherwise send ", h("code", {}, "Authorization: Bearer TOKEN"), "."));
    fill(this.contents, [...groups].map(([group, calls]) => h("a", { href: `#${slug(group)}` }, title(group), h("span", { class: "tab-count" }, String(calls.length)))));
    fill(this.body, intro, [...groups].map(([group, calls]) => h("section", { id: slug(group) }, h("h2", {}, title(group)), calls.map((call) => this.#call(call)))));
  }

  #call({ method, path, operation }) {
    const parameters = operation.parameters ?? [];
    const [type, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
    return h(
      "details",
      { class: "call", dataset: { text: `${method} ${path} ${operation.summary ?? ""} ${operation.description ?? ""}`.toLowerCase() } },
      h("summary", {}, h("span", { class: `method ${method}` }, method), h("code", {}, path), h("span", { class: "muted" }, operation.summary)),
      (operation.description ?? "").split(/\n\n+/).map((text) => text && h("p", {}, withCode(text))),
      parameters.length > 0 && [h("h4", {}, "Parameters"), this.#table(parameters.map((each) => ({ name: each.name, where: each.in, schema: each.schema, required: each.required, about: each.description ?? each.schema?.description })))],
      content && [h("h4", {}, `Body (${type})`), this.#schema(content.schema)],
      h("h4", {}, "Answers"),
      h("ul", {}, Object.entries(operation.responses).map(([status, answer]) => {
        const schema = answer.content?.["application/json"]?.schema;
        return h("li", {}, h("code", {}, status), ` ${answer.description ?? ""}`, schema && Object.keys(schema).length > 0 && [": ", h("code", {}, this.#type(schema))]);
      })),
      h("h4", {}, "By curl"),
      h("pre", { class: "code", tabindex: "0", role: "region", "aria-label": `curl for ${method} ${path}` }, this.#curl(method, path, type, content?.schema)),
    );
  }

  #resolve(schema) {
    const name = schema?.$ref?.split("/").at(-1);
    return name ? (this.#schemas[name] ?? {}) : (schema ?? {});
  }

  #type(schema) {
    if (!schema) return "any";
    if (schema.$ref) return schema.$ref.split("/").at(-1);
    const some = schema.anyOf ?? schema.oneOf;
    if (some) return some.map((each) => this.#type(each)).join(" | ");
    if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
    if (schema.type === "array") return `[${this.#type(schema.items ?? {})}]`;
    if (schema.type === "object" && schema.additionalProperties?.type) return `{name: ${this.#type(schema.additionalProperties)}}`;
    return schema.format === "binary" ? "file" : (schema.type ?? "any");
  }

  #schema(schema) {
    const { properties, required = [], description } = this.#resolve(schema);
    if (!properties) return h("p", {}, h("code", {}, this.#type(schema)));
    return [description && h("p", {}, description), this.#table(Object.entries(properties).map(([name, each]) => ({ name, schema: each, required: required.includes(name), about: each.description })))];
  }

  #table(rows) {
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Fields" },
      h("table", { class: "table" }, h("tbody", {}, rows.map(({ name, where, schema, required, about }) =>
        h("tr", {}, h("td", {}, h("code", {}, name), !required && h("span", { class: "muted small" }, " may be left out")), h("td", {}, h("code", {}, this.#type(schema ?? {}))), h("td", {}, [where && where !== "query" ? `in the ${where}` : "", about].filter(Boolean).join(": ")))))));
  }

  #example(schema, depth = 0) {
    const full = this.#resolve(schema);
    const some = (full.anyOf ?? full.oneOf)?.[0];
    if (some) return this.#example(some, depth);
    if (full.default !== undefined) return full.default;
    if (full.enum) return full.enum[0];
    if (full.type === "array") return depth > 3 ? [] : [this.#example(full.items ?? {}, depth + 1)];
    if (full.properties && depth <= 3) {
      const names = Object.keys(full.properties).filter((name) => full.required?.includes(name) ?? true);
      return Object.fromEntries(names.map((name) => [name, this.#example(full.properties[name], depth + 1)]));
    }
    return { string: "…", integer: 1, number: 0.5, boolean: true, object: {} }[full.type] ?? null;
  }

  #curl(method, path, type, schema) {
    const lines = [`curl -X ${method} '${location.origin}${path}'`];
    if (type === "application/json") lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(this.#example(schema))}'`);
    else if (type === "multipart/form-data") lines.push("-F 'files=@picture.jpg'");
    return lines.join(" \\\n  ");
  }

  #filter(text) {
    const wanted = text.trim().toLowerCase();
    for (const call of this.body.querySelectorAll(".call")) call.hidden = !call.dataset.text.includes(wanted);
    for (const section of this.body.querySelectorAll("section[id]")) section.hidden = !section.querySelector(".call:not([hidden])");
  }
}

/** Text with what stands in `backticks` as code. */
const withCode = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
const slug = (text) => `api-${text.replace(/\W+/g, "-")}`;
const title = (text) => text.charAt(0).toUpperCase() + text.slice(1);
