// The confusion matrix of a run: each cell opens its images in the grid.

import { get } from "./api.js";
import { fill, h, plural } from "./dom.js";
import { address } from "./router.js";

const LARGEST = 40; // classes of a matrix; with more, the most frequent mistakes are listed alone

/** Loads and draws it into an element. */
export async function drawConfusion(element, project, run) {
  const { classes, counts, split } = await get(`/api/runs/${run}/confusion`);
  const link = (row, column, text, attributes = {}) =>
    h("a", { href: address(project.id, "images", null, new URLSearchParams({ cell: `${run}:${row}:${column}` })), ...attributes }, text);
  const mistakes = [];
  counts.forEach((line, row) => line.forEach((count, column) => row !== column && count && mistakes.push({ row, column, count })));
  mistakes.sort((a, b) => b.count - a.count);
  fill(
    element,
    h("h3", {}, "Confusion"),
    h("p", { class: "muted small" }, `Rows are tags, columns predictions${split ? ` on ${split}` : ""}. A cell opens its images.`),
    classes.length <= LARGEST && matrix(classes, counts, link),
    mistakes.length > 0 && h("details", { open: classes.length > LARGEST }, h("summary", {}, `Mistakes by number (${mistakes.length})`),
      h("ul", { class: "mistakes" }, mistakes.slice(0, 50).map(({ row, column, count }) =>
        h("li", {}, link(row, column, `${classes[row].name} taken for ${classes[column].name}`), ` ${plural(count, "image")}`)))),
    !mistakes.length && h("p", { class: "muted" }, "No mistake."),
  );
}

function matrix(classes, counts, link) {
  const totals = counts.map((line) => line.reduce((sum, count) => sum + count, 0));
  const cell = (count, row, column) => {
    const share = totals[row] ? count / totals[row] : 0;
    const said = `${classes[row].name}, predicted ${classes[column].name}: ${plural(count, "image")}`;
    return h("td", { class: `${row === column ? "right" : "wrong"} level-${count ? Math.max(1, Math.ceil(share * 5)) : 0}` }, count ? link(row, column, count, { "aria-label": said, title: said }) : "");
  };
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    h(
      "table",
      { class: "confusion" },
      h("thead", {}, h("tr", {}, h("td"), classes.map(({ name }) => h("th", { scope: "col" }, h("span", {}, name))))),
      h("tbody", {}, counts.map((line, row) => h("tr", {}, h("th", { scope: "row" }, classes[row].name), line.map((count, column) => cell(count, row, column))))),
    ),
  );
}
