// Short messages at the lower edge.

import { button, h, icon } from "./dom.js";

const TIMES = { info: 5000, error: 10000 };

/** Shows a message; `action` is `{text, run}`. Returns a function that takes it away. */
export function toast(text, { kind = "info", action = null, key = null } = {}) {
  const box = document.getElementById("toasts");
  if (key) box.querySelector(`[data-key="${CSS.escape(key)}"]`)?.remove();
  while (box.children.length >= 3) box.firstChild.remove();
  const element = h(
    "div",
    { class: `toast ${kind}`, dataset: key ? { key } : {} },
    icon(kind === "error" ? "flag" : "check"),
    h("span", { class: "toast-text" }, text),
    action && button(action.text, { kind: "plain", onclick: () => (element.remove(), action.run()) }),
    button("", { icon: "close", label: "Close message", kind: "plain", onclick: () => element.remove() }),
  );
  box.append(element);
  let timer = setTimeout(() => element.remove(), TIMES[kind]);
  element.addEventListener("pointerenter", () => clearTimeout(timer));
  element.addEventListener("pointerleave", () => (timer = setTimeout(() => element.remove(), 2000)));
  return () => element.remove();
}

/** Shows why something was refused. */
export const complain = (error) => toast(error.message, { kind: "error", key: error.message });
