// Curves of a run: one small chart a measure, training and evaluation in one, drawn as SVG.

import { fill, h, svg } from "./dom.js";

const WIDTH = 340, HEIGHT = 170;
const LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 24;
// Measures that are shown, in this order; the rest are in a list below.
const FIRST = ["loss", "accuracy", "top1", "top5", "f1", "mAP", "auc", "learning_rate", "images_per_second"];
const LEFT_OUT = new Set(["step", "time", "examples"]);

/** Makes the charts. `add(rows)` takes rows of `metrics.jsonl`. */
export function curves() {
  const series = new Map(); // measure -> Map(split -> [[step, value]])
  const element = h("div", { class: "curves" });
  const charts = new Map();

  function add(rows) {
    const changed = new Set();
    for (const row of rows) {
      for (const [key, value] of Object.entries(row)) {
        const at = key.indexOf("/");
        if (at < 0 || typeof value !== "number" || !Number.isFinite(value)) continue;
        const [split, measure] = [key.slice(0, at), key.slice(at + 1)];
        if (LEFT_OUT.has(measure) || split === "goodput" || !FIRST.includes(measure)) continue;
        const lines = series.get(measure) ?? series.set(measure, new Map()).get(measure);
        const points = lines.get(split) ?? lines.set(split, []).get(split);
        // A run that was continued repeats steps: the later line counts.
        while (points.length && points.at(-1)[0] >= row.step) points.pop();
        points.push([row.step, value]);
        changed.add(measure);
      }
    }
    for (const measure of changed) {
      if (!charts.has(measure)) charts.set(measure, chart(measure));
      charts.get(measure).draw(series.get(measure));
    }
    const order = [...charts.keys()].sort((a, b) => FIRST.indexOf(a) - FIRST.indexOf(b));
    if (order.join() !== [...element.children].map((child) => child.dataset.measure).join()) fill(element, order.map((measure) => charts.get(measure).element));
  }

  return {
    element,
    add,
    clear() {
      series.clear();
      charts.clear();
      fill(element);
    },
    get last() {
      return Math.max(-1, ...[...series.values()].flatMap((lines) => [...lines.values()].map((points) => points.at(-1)[0])));
    },
  };
}

function chart(measure) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img" });
  const readout = h("span", { class: "readout" });
  const legend = h("span", { class: "legend" });
  const element = h("figure", { class: "curve", dataset: { measure } }, h("figcaption", {}, h("strong", {}, measure.replaceAll("_", " ")), legend, readout), picture);
  let scale = null, lines = new Map();

  function draw(next) {
    lines = next;
    const points = [...lines.values()].flat();
    const [x0, x1] = range(points.map(([step]) => step));
    const [y0, y1] = widen(range(points.map(([, value]) => value)));
    const x = (step) => LEFT + ((step - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - ((value - y0) / (y1 - y0 || 1)) * (HEIGHT - TOP - BOTTOM);
    scale = { x, y, x0, x1 };
    const cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    picture.replaceChildren(
      ...ticks(y0, y1, 4).map((value) => svg("g", { class: "tick" }, svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }), label(short(value), LEFT - 6, y(value) + 3.5, "end"))),
      ...ticks(x0, x1, 4).filter(Number.isInteger).map((step) => svg("g", { class: "tick" }, label(short(step), x(step), HEIGHT - 8, "middle"))),
      ...[...lines].map(([split, each], index) => svg("g", { class: `line line-${index}` },
        svg("path", { d: each.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("") }),
        ...(each.length < 60 ? each : each.slice(-1)).map(([step, value]) => svg("circle", { cx: x(step), cy: y(value), r: 2 })))),
      cursor,
    );
    picture.cursor = cursor;
    const newest = [...lines].map(([split, each]) => `${split} ${short(each.at(-1)[1])} at step ${each.at(-1)[0]}`).join(", ");
    picture.setAttribute("aria-label", `${measure.replaceAll("_", " ")} by step: ${newest}`);
    fill(legend, [...lines.keys()].map((split, index) => h("span", { class: `key line-${index}` }, split)));
    read(null);
  }

  function read(step) {
    picture.cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step !== null) for (const end of ["x1", "x2"]) picture.cursor.setAttribute(end, scale.x(step));
    const values = [...lines.values()].map((points) => short(nearest(points, step)[1]));
    fill(readout, step === null ? values.join(" · ") : `${step}: ${values.join(" · ")}`);
  }

  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
    const wanted = scale.x0 + Math.max(0, Math.min(1, share)) * (scale.x1 - scale.x0);
    read(nearest([...lines.values()][0], wanted)[0]);
  });
  picture.addEventListener("pointerleave", () => read(null));
  return { element, draw };
}

const label = (text, x, y, anchor) => svg("text", { x, y, "text-anchor": anchor }, text);

/** The point nearest to a step; the last one for null. */
function nearest(points, step) {
  if (step === null) return points.at(-1);
  return points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
}

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return [low, high];
}

function widen([low, high]) {
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

/** Round values between two: 1, 2 or 5 times a power of ten apart. */
export function ticks(low, high, about) {
  if (!(high > low)) return [low];
  const power = 10 ** Math.floor(Math.log10((high - low) / about));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => (high - low) / each <= about);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high; index += 1) found.push(Number((index * step).toPrecision(12)));
  return found;
}

/** A number in few characters. */
export function short(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1);
  if (size >= 100) return String(Math.round(value));
  return String(Number(value.toPrecision(3)));
}
