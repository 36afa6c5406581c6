// Keys: each part of the page registers its own while it is shown, the help overlay lists them all.

const layers = [];

/** Registers keys: `[{keys: ["ArrowRight", " "], shown: "→", about, group, run(event)}]`; `run` may return
 * false to leave the key to others. `any` sees each key without an entry. Returns a function that removes them. */
export function addKeys(bindings, any = null) {
  const layer = { bindings, any };
  layers.push(layer);
  return () => layers.splice(layers.indexOf(layer), 1);
}

/** The registered keys by group, for the help overlay. */
export function listKeys() {
  const groups = new Map();
  for (const { bindings } of layers) {
    for (const binding of bindings) {
      if (!binding.about) continue;
      const group = groups.get(binding.group) ?? groups.set(binding.group, []).get(binding.group);
      group.push(binding);
    }
  }
  return groups;
}

/** Whether keys typed here are text. */
export function isTyping(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.matches("textarea, select")) return true;
  return target.matches("input") && !["checkbox", "radio", "range", "button", "color"].includes(target.type);
}

/** The name of a pressed key with its modifiers: `Control+Shift+z`, `a`, `?`. */
export function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const control = event.ctrlKey || event.metaKey ? "Control+" : "";
  const shift = event.shiftKey && (event.key.length > 1 || control || /[a-z ]/i.test(event.key)) ? "Shift+" : "";
  return `${control}${event.altKey ? "Alt+" : ""}${shift}${key}`;
}

function pressed(event) {
  if (event.defaultPrevented || event.isComposing) return;
  if (isTyping(event.target) || document.querySelector("dialog[open], .menu")) return;
  const name = nameOf(event);
  // The layer added last is the one on top.
  for (const { bindings, any } of [...layers].reverse()) {
    for (const binding of bindings) {
      if (!binding.keys.includes(name)) continue;
      // Enter and space on a button or link press it.
      if ((name === "Enter" || name === " ") && event.target.closest("button, a, summary, input")) return;
      if (binding.run(event) === false) continue;
      event.preventDefault();
      return;
    }
    if (any && any(event, name)) {
      event.preventDefault();
      return;
    }
  }
}

document.addEventListener("keydown", pressed);
