// Elements without HTML strings: a name typed by a user is text, whatever it holds.

/** Makes an element. `on*` are listeners, `style` is an object, false and null attributes are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name in PROPERTIES) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

const PROPERTIES = { value: 1, checked: 1, indeterminate: 1, disabled: 1, selected: 1, textContent: 1 };

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Makes an SVG element. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  for (const child of children.flat()) element.append(child);
  return element;
}

const PATHS = {
  images: "M2.5 3.5h11v9h-11zM2.5 10.5l3-3 3 3 2-2 3 3M10.5 6.2v.1",
  classes: "M2.5 2.5h5l6 6-5 5-6-6zM5.3 5.3v.1",
  train: "M2.5 2.5v11h11M4.5 10.5l3-4 2.5 2 3.5-5",
  members: "M6 7.5a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4zM1.8 13c.3-2.3 2-3.5 4.2-3.5s3.9 1.2 4.2 3.5M10.5 3.3a2.2 2.2 0 0 1 0 4M12 9.8c1.3.5 2 1.6 2.2 3.2",
  exchange: "M5 2.5v9M2.5 9l2.5 2.5L7.5 9M11 13.5v-9M8.5 7 11 4.5 13.5 7",
  upload: "M8 10.5v-8M4.8 5.5 8 2.5l3.2 3M2.5 10.5v3h11v-3",
  plus: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  check: "M3 8.5l3.2 3.2L13 4.8",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.3 10.3l3.2 3.2",
  filter: "M2.5 4h11M4.5 8h7M6.5 12h3",
  sort: "M4.5 3v10M2.5 11l2 2 2-2M11.5 13V3M9.5 5l2-2 2 2",
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
  down: "M3.5 6 8 10.5 12.5 6",
  more: "M3.5 8v.1M8 8v.1M12.5 8v.1",
  undo: "M5.5 3 2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8h-3",
  redo: "M10.5 3l3 3-3 3M13.5 6h-7a4 4 0 0 0 0 8h3",
  help: "M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.5M8 12v.1",
  trash: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.5 9h6l.5-9",
  edit: "M3 13l.5-2.5 7.5-7.5 2 2-7.5 7.5zM9.5 4.5l2 2",
  merge: "M4 2.5v3c0 3 4 2.5 4 5.5v2.5M12 2.5v3c0 3-4 2.5-4 5.5",
  flag: "M4 14V2.5h8l-2 3 2 3H4",
  lock: "M4 7.5h8v6H4zM5.7 7.5v-2a2.3 2.3 0 0 1 4.6 0v2",
  play: "M5 3l8 5-8 5z",
  stop: "M4 4h8v8H4z",
  star: "M8 2.5l1.7 3.6 3.8.5-2.8 2.7.7 3.9L8 11.3l-3.4 1.9.7-3.9L2.5 6.6l3.8-.5z",
  spark: "M8 2v4M8 10v4M2 8h4M10 8h4",
  code: "M5.5 4.5 2 8l3.5 3.5M10.5 4.5 14 8l-3.5 3.5",
  folder: "M2 4h4.5l1.5 2h6v7H2z",
  download: "M8 2.5v8M4.8 7.5 8 10.5l3.2-3M2.5 12v1.5h11V12",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  clock: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 4.5V8l2.3 1.5",
  similar: "M2.5 2.5h6v6h-6zM7.5 11v2.5h6v-6H11",
  archive: "M2 3h12v3H2zM3 6v7.5h10V6M6.5 8.5h3",
  comment: "M2.5 3h11v8h-6L4.5 13.5V11h-2z",
};

/** A decorative icon of 16 px. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}

/** A button with an icon and text, or an icon alone with a name. */
export function button(text, { icon: picture, label, kind = "", ...attributes } = {}) {
  const name = label ?? (text || null);
  return h(
    "button",
    { type: "button", class: `button ${kind}${text ? "" : " square"}`, "aria-label": name, title: text ? null : name, ...attributes },
    picture && icon(picture),
    text && h("span", {}, text),
  );
}

/** A coloured dot. */
export const dot = (colour) => h("span", { class: "dot", style: { background: colour }, "aria-hidden": "true" });

const NUMBER = new Intl.NumberFormat("en-US");
/** 1234 as `1,234`. */
export const number = (value) => NUMBER.format(value ?? 0);
/** `1 image`, `3 images`. */
export const plural = (count, noun, many = `${noun}s`) => `${number(count)} ${count === 1 ? noun : many}`;
/** Seconds since 1970 as a local date and time. */
export const when = (seconds) =>
  seconds ? new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "";
export const percent = (value) => `${Math.round(value * 100)} %`;

/** Bytes as `1.2 MB`. */
export function size(bytes) {
  const power = bytes < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(power && bytes / 1000 ** power < 10 ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/** Runs a function once things have been quiet for a while. */
export function debounce(run, wait) {
  let timer;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), wait);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** A value of the browser's own storage; the default where there is none or it is refused. */
export function remembered(key, value) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? value;
  } catch {
    return value;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Private windows may refuse; the setting then lasts as long as the page.
  }
}
