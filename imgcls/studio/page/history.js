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
      const entries = answer.history ?? answer.changes ?? answer;
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
  const who = change.user_name ?? change.user ?? "";
  return h("li", { class: change.undone_by ? "undone" : null },
    h("strong", {}, String(who)), " ", change.what ?? describe(change), change.undone_by && " (undone)",
    h("time", {}, when(change.time)));
}

function describe({ kind, before, after }) {
  const parts = [];
  for (const key of new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])) {
    if (key === "user" || JSON.stringify(before?.[key]) === JSON.stringify(after?.[key])) continue;
    parts.push(typeof after?.[key] === "object" ? key : `${key}: ${before?.[key] ?? "none"} → ${after?.[key] ?? "none"}`);
  }
  return `${String(kind).replaceAll("_", " ")}${parts.length ? ` (${parts.join(", ")})` : ""}`;
}
