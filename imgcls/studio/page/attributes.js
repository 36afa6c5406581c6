// Attributes and text of a tag: the sub-annotations of a class.

import { fill, h } from "./dom.js";

let names = 0;

/** Fields for a class that is set: each change is sent at once by `send({attributes} or {text})`. */
export function attributeFields({ item, tag, locked, send }) {
  const values = tag.attributes ?? {};
  // Null takes a value away.
  const put = (id, value) => send({ attributes: { [id]: value === "" || (Array.isArray(value) && !value.length) ? null : value } });
  const text = tag.text ?? "";
  const textField = h("textarea", {
    rows: 1, value: text, placeholder: "Text", "aria-label": `Text of ${item.name}`, disabled: locked,
    onchange: (event) => send({ text: event.target.value.trim() }), onkeydown: leaveOnEscape,
  });
  return h(
    "div",
    { class: "attributes" },
    (item.attributes ?? []).map((attribute) => row(attribute, values[attribute.id], locked, (value) => put(attribute.id, value))),
    textField,
  );
}

function row(attribute, value, locked, put) {
  const label = (names += 1) && `attribute-${names}`;
  const group = ["choices", "yes_no", "choice"].includes(attribute.kind);
  const control = KINDS[attribute.kind]?.(attribute, value, locked, put) ?? KINDS.text(attribute, value, locked, put);
  if (!group) control.setAttribute("aria-labelledby", label);
  return h("div", { class: "attribute", role: group ? "group" : null, "aria-labelledby": group ? label : null }, h("span", { class: "attribute-name", id: label }, attribute.name), control);
}

const KINDS = {
  choice: (attribute, value, locked, put) => buttons(attribute.options.map((text) => [text, text]), (each) => each === value, locked, (each) => put(each === value ? null : each)),
  choices: (attribute, value, locked, put) => {
    const chosen = new Set(value ?? []);
    return buttons(attribute.options.map((text) => [text, text]), (each) => chosen.has(each), locked, (each) => {
      if (!chosen.delete(each)) chosen.add(each);
      put(attribute.options.filter((option) => chosen.has(option)));
    }, true);
  },
  yes_no: (_, value, locked, put) => buttons([[true, "Yes"], [false, "No"]], (each) => each === value, locked, (each) => put(each === value ? null : each)),
  number: (_, value, locked, put) => h("input", {
    type: "number", step: "any", value: value ?? "", disabled: locked, onkeydown: leaveOnEscape,
    onchange: (event) => put(event.target.value === "" ? null : Number(event.target.value)),
  }),
  text: (_, value, locked, put) => h("input", { type: "text", value: value ?? "", disabled: locked, onkeydown: leaveOnEscape, onchange: (event) => put(event.target.value.trim()) }),
};

function buttons(options, isOn, locked, choose, several = false) {
  const element = h("div", { class: "options" });
  const draw = (focused) => {
    fill(element, options.map(([value, text]) =>
      h("button", { type: "button", class: "option", "aria-pressed": String(isOn(value)), disabled: locked, onclick: () => (choose(value), several && draw(text)) }, text)));
    [...element.children].find((child) => child.textContent === focused)?.focus();
  };
  draw(null);
  return element;
}

function leaveOnEscape(event) {
  if (event.key !== "Escape" && !(event.key === "Enter" && event.target.matches("input"))) return;
  event.stopPropagation();
  event.currentTarget.blur();
}
