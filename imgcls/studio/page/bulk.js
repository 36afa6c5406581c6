// The bar of actions on the selected images.

import { button, fill, h, number, plural } from "./dom.js";
import { dialog, field } from "./dialog.js";
import { SPLITS } from "./filters.js";
import { openMenu } from "./menu.js";
import { createClass } from "./create.js";

/** Makes the bar. `select()` gives the selection as the API takes it. */
export function bulkBar({ project, actions, selection, select, total }) {
  const element = h("div", { class: "bulk", role: "toolbar", "aria-label": "Selected images", hidden: true });

  const tagAs = (item) => actions.bulk(select(), { tag: [item.id] }, `Tagged as ${item.name}`);
  const classItems = (run) =>
    project.classes.map((item) => ({ text: item.name, colour: item.colour, hint: item.hotkey?.toUpperCase(), run: () => run(item) }));

  function tagMenu(event) {
    openMenu(event.currentTarget, {
      label: "Tag as", search: "Tag as…", items: classItems(tagAs),
      create: async (name) => tagAs(await createClass(project, name)),
    });
  }

  function untagMenu(event) {
    const untag = (item) => actions.bulk(select(), { untag: [item.id] }, `Removed ${item.name}`);
    openMenu(event.currentTarget, { label: "Remove a class", search: "Remove…", items: classItems(untag) });
  }

  function moreMenu(event) {
    const splits = Object.entries(SPLITS).map(([split, text], index) => ({
      text: `Move to ${text.toLowerCase()}`, separate: index === 0, icon: "folder",
      run: () => actions.bulk(select(), { split }, `Moved to ${text.toLowerCase()}`),
    }));
    const review = [
      { text: "Send to review", icon: "flag", run: () => actions.bulk(select(), { status: "review" }, "Sent to review") },
      project.may("reviewer") && { text: "Approve", icon: "check", run: () => actions.bulk(select(), { approve: true }, "Approved") },
      project.may("reviewer") && { text: "Reopen", icon: "undo", run: () => actions.bulk(select(), { reopen: true }, "Reopened") },
      { text: "None of these", icon: "close", separate: true, run: () => actions.bulk(select(), { flag: "none" }, "None of these") },
      { text: "Skip", icon: "right", run: () => actions.bulk(select(), { flag: "skip" }, "Skipped") },
    ];
    openMenu(event.currentTarget, { label: "More actions", items: [...review.filter(Boolean), ...splits] });
  }

  async function accept() {
    const value = h("input", { type: "number", min: 0, max: 100, step: 1, value: 90, name: "min", autofocus: true });
    const min = await dialog({
      title: "Accept suggestions",
      body: [
        h("p", {}, `Of ${plural(selection.size, "image")}, those with a suggestion and without an answer are tagged by it.`),
        field("At least this confident, in %", value),
      ],
      actions: (close) => [
        button("Cancel", { onclick: () => close() }),
        button("Accept", { kind: "primary", onclick: () => close(Number(value.value) / 100) }),
      ],
    });
    if (min !== null) actions.bulk(select(), { accept: { min } }, "Accepted suggestions");
  }

  function draw() {
    const { size } = selection;
    element.hidden = size === 0;
    if (!size) return;
    const count = element.querySelector(".bulk-count");
    if (count) fill(count, text());
    else {
      fill(
        element,
        h("span", { class: "bulk-count", role: "status" }, text()),
        button("All that match", { kind: "plain bulk-all", onclick: () => selection.selectAll() }),
        h("span", { class: "bulk-line" }),
        button("Tag", { icon: "classes", onclick: tagMenu, "aria-haspopup": "listbox" }),
        button("Untag", { icon: "close", onclick: untagMenu, "aria-haspopup": "listbox" }),
        button("Accept", { icon: "spark", onclick: accept, label: "Accept suggestions" }),
        button("More", { icon: "more", onclick: moreMenu, "aria-haspopup": "listbox" }),
        button("", { icon: "close", label: "Clear the selection", kind: "plain", onclick: () => selection.clear() }),
      );
    }
    element.querySelector(".bulk-all").hidden = selection.all || size === total();
  }

  const text = () => (selection.all ? `All ${number(selection.size)} selected` : `${number(selection.size)} selected`);

  selection.addEventListener("change", draw);
  return { element, tagAs, tagMenu: (anchor) => tagMenu({ currentTarget: anchor }), accept };
}
