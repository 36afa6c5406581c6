// The search field, the chips of filters and the menus of filters and sorts.

import { button, debounce, fill, h, icon } from "./dom.js";
import { field, formDialog } from "./dialog.js";
import { chips, FILTERS, SORTS, withKey } from "./filters.js";
import { get } from "./api.js";
import { openMenu } from "./menu.js";

/** Makes the parts; `go(query)` shows another filter. */
export function filterBar(project, go) {
  let query = new URLSearchParams();
  const input = h("input", {
    type: "search", placeholder: "Search names, folders, comments", "aria-label": "Search images", enterkeyhint: "search",
    oninput: debounce(() => go(withKey(query, "text", input.value.trim() ? [input.value.trim()] : [])), 250),
    onkeydown: (event) => event.key === "Escape" && input.blur(),
  });
  const search = h("div", { class: "search" }, icon("search"), input);
  const list = h("div", { class: "filter-chips" });
  const add = button("Filter", { icon: "filter", "aria-haspopup": "listbox", onclick: chooseFilter });
  const sort = button("Sort", { icon: "sort", "aria-haspopup": "listbox", onclick: chooseSort });
  const element = h("div", { class: "filters" }, add, sort, list);

  function draw(next) {
    query = next;
    if (document.activeElement !== input) input.value = query.get("text") ?? "";
    const order = query.get("sort") ?? "";
    fill(sort.lastChild, order.startsWith("similar:") ? `Similar to image ${order.slice(8)}` : (SORTS[order] ?? order));
    sort.classList.toggle("set", Boolean(order));
    fill(
      list,
      chips(query, project).map(({ key, text, without }) =>
        h(
          "span",
          { class: "filter-chip" },
          h("button", { type: "button", onclick: (event) => edit(key, event.currentTarget), disabled: !FILTERS[key] }, text),
          h("button", { type: "button", "aria-label": `Take away the filter ${text}`, onclick: () => go(without) }, icon("close")),
        ),
      ),
    );
  }

  async function chooseFilter() {
    if (!project.users) project.users = await get("/api/users").then((answer) => answer.users ?? answer, () => []);
    const items = Object.entries(FILTERS).map(([key, { text }]) => ({ text, run: () => edit(key, add) }));
    openMenu(add, { label: "Filter by", search: "Filter by…", items });
  }

  function edit(key, anchor) {
    const filter = FILTERS[key];
    if (filter.type) return typed(key, filter);
    const all = filter.choose(project);
    if (all.length === 1 && all[0].text === "yes") return go(withKey(query, key, query.has(key) ? [] : [all[0].value]));
    const items = all.map(({ value, text, colour, hint }) => ({
      text, colour, hint, checked: query.getAll(key).includes(value),
      run: (checked) => {
        const rest = query.getAll(key).filter((each) => each !== value);
        go(withKey(query, key, checked ? [...rest, value] : rest));
      },
    }));
    return openMenu(anchor.isConnected ? anchor : add, { label: filter.text, search: filter.text, items, stay: true });
  }

  function typed(key, { text, type, step, max }) {
    const before = query.get(key) ?? "";
    const shown = type === "date" && before ? new Date(Number(before) * 1000).toISOString().slice(0, 10) : before;
    const control = h("input", { name: "value", type, step, max, min: type === "number" ? 0 : null, value: shown });
    return formDialog({
      title: text, yes: "Show", fields: field(text, control),
      send: (form) => {
        const value = form.get("value").trim();
        const sent = type === "date" && value ? String(Date.parse(`${value}T00:00`) / 1000) : value;
        go(withKey(query, key, sent ? [sent] : []));
      },
    });
  }

  function chooseSort() {
    const order = query.get("sort") ?? "";
    const items = Object.entries(SORTS).map(([value, text]) => ({
      text, checked: value === order, run: () => go(withKey(query, "sort", value ? [value] : [])),
    }));
    openMenu(sort, { label: "Sort by", items });
  }

  return { element, search, draw };
}
