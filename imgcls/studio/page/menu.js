// A menu below a button: a list to choose from, searched by typing.

import { dot, fill, h, icon } from "./dom.js";

let names = 0;

/** Opens a menu of `items` `{text, colour, hint, checked, icon, danger, separate, disabled, run}`.
 *
 * Args: `search` placeholder of a search field; `create(text)` is offered where nothing has that name;
 * `stay` leaves the menu open after a choice (its item's `checked` is turned). */
export function openMenu(anchor, { items, label, search = null, create = null, stay = false, onclose = null }) {
  document.querySelector(".menu")?.closeMenu();
  const id = `menu-${(names += 1)}`;
  const list = h("div", { role: "listbox", id, class: "menu-list", "aria-label": label, "aria-multiselectable": stay || null });
  const input = h("input", {
    type: "text", class: search === null ? "menu-keys" : "menu-search", placeholder: search ?? "",
    role: "combobox", "aria-expanded": "true", "aria-controls": id, "aria-label": search ?? label,
    "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", inputmode: search === null ? "none" : null,
  });
  const menu = h("div", { class: "menu" }, input, list);
  let shown = [], at = -1;

  function close(refocus = true) {
    if (!menu.isConnected) return;
    removeEventListener("pointerdown", outside, true);
    removeEventListener("resize", close);
    menu.remove();
    anchor.setAttribute?.("aria-expanded", "false");
    if (refocus) anchor.focus?.();
    onclose?.();
  }

  function draw() {
    const wanted = input.value.trim().toLowerCase();
    shown = items.filter((item) => !item.disabled && item.text.toLowerCase().includes(wanted));
    // A name that begins with what is typed comes first.
    if (wanted) shown.sort((a, b) => b.text.toLowerCase().startsWith(wanted) - a.text.toLowerCase().startsWith(wanted));
    if (create && wanted && !items.some((item) => item.text.toLowerCase() === wanted)) {
      const text = input.value.trim();
      shown.push({ text: `Create “${text}”`, icon: "plus", run: () => create(text) });
    }
    fill(list, shown.map(option), shown.length ? null : h("div", { class: "menu-empty", role: "option", "aria-disabled": "true" }, "Nothing by that name"));
    move(shown.length ? Math.min(Math.max(at, 0), shown.length - 1) : -1);
  }

  function option(item, index) {
    return h(
      "div",
      {
        role: "option", id: `${id}-${index}`, class: `menu-item${item.danger ? " danger" : ""}${item.separate ? " separate" : ""}`,
        "aria-selected": item.checked === undefined ? null : String(Boolean(item.checked)),
        onclick: () => choose(item), onpointermove: () => at !== index && move(index),
      },
      item.checked !== undefined && h("span", { class: "menu-check" }, item.checked && icon("check")),
      item.icon && icon(item.icon), item.colour && dot(item.colour),
      h("span", { class: "menu-text" }, item.text),
      item.hint !== undefined && item.hint !== null && h("span", { class: "menu-hint" }, item.hint),
    );
  }

  function move(index) {
    list.children[at]?.classList.remove("active");
    at = index;
    const element = at < 0 ? null : list.children[at];
    element?.classList.add("active");
    element?.scrollIntoView({ block: "nearest" });
    if (element?.id) input.setAttribute("aria-activedescendant", element.id);
    else input.removeAttribute("aria-activedescendant");
  }

  function choose(item) {
    if (stay && item.checked !== undefined) {
      item.checked = !item.checked;
      item.run(item.checked);
      draw();
      return;
    }
    close();
    item.run();
  }

  function keydown(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step && shown.length) move(Math.min(Math.max(at + step, 0), shown.length - 1));
    else if (event.key === "Enter" || (event.key === " " && (search === null || stay) && !input.value)) shown[at] && choose(shown[at]);
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  const outside = (event) => !menu.contains(event.target) && close(false);

  menu.closeMenu = close;
  input.addEventListener("keydown", keydown);
  input.addEventListener("input", () => ((at = 0), draw()));
  // Inside an open dialog, or the menu would lie behind it.
  (anchor.closest?.("dialog") ?? document.body).append(menu);
  draw();
  place(menu, anchor);
  anchor.setAttribute?.("aria-expanded", "true");
  input.focus();
  addEventListener("pointerdown", outside, true);
  addEventListener("resize", close);
  return close;
}

function place(menu, anchor) {
  const box = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = box.bottom + 4 + height <= innerHeight || box.top < innerHeight / 2;
  menu.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  menu.style.top = below ? `${box.bottom + 4}px` : `${Math.max(8, box.top - 4 - height)}px`;
  const room = below ? innerHeight - box.bottom - 12 : box.top - 12;
  menu.style.maxHeight = `${Math.max(160, Math.min(420, room))}px`;
}
