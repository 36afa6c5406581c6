// How an image looks in the grid.

import { dot, fill, h, icon, percent } from "./dom.js";
import { FLAGS, SPLITS, STATUS } from "./filters.js";

/** Returns `paint(element, id, cell)` for a project. */
export function painter(project) {
  return (element, id, cell) => {
    // What is drawn already is left alone: drawing is the cost of scrolling.
    const key = cell ? JSON.stringify([id, cell.labels, cell.mine, cell.prediction, cell.status, cell.flag, cell.name, project.version]) : `${id}`;
    if (element.painted === key) return;
    element.painted = key;
    if (!cell) {
      fill(element.caption);
      fill(element.badges);
      element.setAttribute("aria-label", `Image ${id}`);
      return;
    }
    const labels = cell.labels.map((each) => project.byId.get(each)).filter(Boolean);
    const suggestion = suggestionOf(project, cell);
    const flag = cell.mine?.flag ?? cell.flag;
    fill(
      element.caption,
      h(
        "div",
        { class: "chips" },
        labels.slice(0, 3).map((item) => h("span", { class: "chip" }, dot(item.colour), item.name)),
        labels.length > 3 && h("span", { class: "chip" }, `+${labels.length - 3}`),
        flag && h("span", { class: "chip flagged" }, FLAGS[flag]),
        suggestion && h("span", { class: "chip suggested" }, dot(suggestion.item.colour), suggestion.item.name, h("small", {}, percent(suggestion.score))),
      ),
      h("div", { class: "cell-name" }, cell.name),
    );
    fill(
      element.badges,
      cell.media !== "image" && h("span", { class: "badge" }, icon(cell.media === "video" ? "play" : "similar")),
      cell.comment && h("span", { class: "badge" }, icon("comment")),
      cell.status === "review" && h("span", { class: "badge", title: STATUS.review }, icon("flag")),
      cell.status === "done" && cell.reviewed_by && h("span", { class: "badge", title: "Reviewed" }, icon("lock")),
    );
    const said = [
      cell.name,
      labels.map((item) => item.name).join(", ") || (flag ? FLAGS[flag] : "untagged"),
      suggestion && `suggested ${suggestion.item.name}`,
      STATUS[cell.status],
      SPLITS[cell.split],
    ];
    element.setAttribute("aria-label", said.filter(Boolean).join(", "));
  };
}

/** The model's suggestion of a cell while nobody has answered: `{item, score}`, or null. */
export function suggestionOf(project, cell) {
  const { prediction } = cell;
  const item = prediction && project.byId.get(prediction.class_id);
  if (!item || item.deleted) return null;
  const answered = cell.labels.length || cell.mine?.flag || Object.keys(cell.mine?.tags ?? {}).length;
  return answered ? null : { item, score: prediction.score };
}
