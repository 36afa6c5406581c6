// The attributes of a class, edited as rows.

import { button, fill, h } from "./dom.js";

const KINDS = { choice: "One of", choices: "Several of", yes_no: "Yes or no", number: "Number", text: "Text" };

/** Makes the editor; `value()` gives the attributes.
 * @throws {Error} from `value()` where a row lacks a name or options */
export function attributeEditor(attributes) {
  const rows = attributes.map((each) => ({ ...each, options: [...(each.options ?? [])] }));
  const list = h("div", { class: "attribute-rows" });
  const element = h("fieldset", { class: "attribute-editor" }, h("legend", {}, "Attributes"), list, button("Add an attribute", { icon: "plus", onclick: () => (rows.push({ id: newId(rows), name: "", kind: "choice", options: [] }), draw(), list.lastChild.querySelector("input").focus()) }));

  function draw() {
    fill(list, rows.map((row, index) => {
      const options = h("input", {
        class: "attribute-options", value: row.options.join(", "), placeholder: "red, green, blue", "aria-label": `Options of attribute ${index + 1}`,
        hidden: !hasOptions(row), oninput: (event) => (row.options = event.target.value.split(",").map((text) => text.trim()).filter(Boolean)),
      });
      return h("div", { class: "attribute-row" },
        h("input", { class: "attribute-title", value: row.name, placeholder: "Name", "aria-label": `Name of attribute ${index + 1}`, maxlength: 200, oninput: (event) => (row.name = event.target.value) }),
        h("select", { "aria-label": `Kind of attribute ${index + 1}`, onchange: (event) => ((row.kind = event.target.value), (options.hidden = !hasOptions(row))) },
          Object.entries(KINDS).map(([kind, text]) => h("option", { value: kind, selected: kind === row.kind }, text))),
        options,
        button("", { icon: "trash", label: `Remove attribute ${index + 1}`, kind: "plain", onclick: () => (rows.splice(index, 1), draw()) }));
    }));
  }

  draw();
  return {
    element,
    value() {
      return rows.map(({ id, name, kind, options }) => {
        if (!name.trim()) throw new Error("an attribute has no name: write one, or remove it");
        if (hasOptions({ kind }) && !options.length) throw new Error(`${name.trim()} has no options: write some, with commas between them`);
        return { id, name: name.trim(), kind, ...(hasOptions({ kind }) && { options }) };
      });
    },
  };
}

const hasOptions = ({ kind }) => kind === "choice" || kind === "choices";

function newId(rows) {
  let number = rows.length + 1;
  while (rows.some((row) => row.id === `a${number}`)) number += 1;
  return `a${number}`;
}
