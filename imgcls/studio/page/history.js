// Who changed what of an image, and when.

import { get } from "./api.js";
import { fill, h, when } from "./dom.js";

/** A list that is loaded when it is opened. */
export function historyList() {
  const list = h("ol", { class: "history" });
  const element = h("details", { ontoggle: () => load() }, h("summary", {}, "History"), list);
  let id = null;

  async function load() {
    if (!element.open || id === null) return;
    const asked = id;
    try {
      const answer = await get(`/api/images/${asked}/history`);
      if (asked !== id) return;
      const entries = answer.history ?? answer;
      fill(list, entries.map(entry), !entries.length && h("li", {}, "Nothing yet"));
    } catch (error) {
      fill(list, h("li", { class: "problem" }, error.message));
    }
  }

  return {
    element,
    show(next) {
      id = next;
      fill(list);
      load();
    },
    refresh: load,
  };
}

function entry(change) {
  return h("li", { class: change.undone ? "undone" : null },
    h("strong", {}, change.name ?? `user ${change.user}`), ` ${change.what}`, change.undone && " (undone)",
    h("time", {}, when(change.time)));
}
