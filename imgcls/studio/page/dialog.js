// Dialogs: the browser's own element keeps the focus inside and closes on Escape.

import { button, fill, h } from "./dom.js";

let names = 0;

/** Opens a dialog. `body` is nodes; `actions` makes the buttons, given a function that closes with a value.
 * Resolves with that value, or null where it is dismissed. */
export function dialog({ title, body, actions, wide = false, label = null }) {
  return new Promise((resolve) => {
    let value = null;
    const id = `dialog-${(names += 1)}`;
    const close = (result = null) => {
      value = result;
      element.close();
    };
    const before = document.activeElement;
    const element = h(
      "dialog",
      { class: wide ? "dialog wide" : "dialog", "aria-labelledby": id, "aria-label": label },
      h(
        "header",
        {},
        h("h2", { id }, title),
        button("", { icon: "close", label: "Close", kind: "plain", onclick: () => close() }),
      ),
      h("div", { class: "dialog-body" }, body),
      actions && h("footer", {}, actions(close)),
    );
    element.addEventListener("close", () => {
      element.remove();
      before?.focus?.();
      resolve(value);
    });
    element.addEventListener("pointerdown", (event) => event.target === element && close());
    document.body.append(element);
    element.showModal();
    element.querySelector("[autofocus], input, textarea, select, footer .primary")?.focus();
  });
}

/** Asks for a yes; resolves with true or false. */
export async function ask({ title, body, yes, danger = false }) {
  const answer = await dialog({
    title,
    body,
    actions: (close) => [
      button("Cancel", { onclick: () => close(false) }),
      button(yes, { kind: danger ? "danger" : "primary", onclick: () => close(true) }),
    ],
  });
  return answer === true;
}

/** A form in a dialog: `fields` are made by `field()`. `send(values)` may throw; its message is shown
 * and the dialog stays open. Resolves with what `send` returned, or null. */
export function formDialog({ title, fields, yes, send, intro = null, wide = false }) {
  const problem = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "form", id: `form-${(names += 1)}`, novalidate: true }, intro, fields, problem);
  return dialog({
    title,
    wide,
    body: form,
    actions: (close) => {
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        fill(problem);
        submit.disabled = true;
        try {
          close((await send(new FormData(form))) ?? true);
        } catch (error) {
          fill(problem, error.message);
        } finally {
          submit.disabled = false;
        }
      });
      const submit = button(yes, { kind: "primary", type: "submit", form: form.id });
      return [button("Cancel", { onclick: () => close() }), submit];
    },
  });
}

/** A named control with a label and a hint. */
export function field(label, control, hint = null) {
  control.id ||= `field-${(names += 1)}`;
  const about = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, about);
}
