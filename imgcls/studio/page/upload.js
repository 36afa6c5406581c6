// Uploads: files, folders and archives, dropped or chosen. Small ones go together, large ones in parts
// that go on where they stopped.

import { ApiError, call, get, post, requestId } from "./api.js";
import { button, fill, h, number, plural, size } from "./dom.js";
import { openMenu } from "./menu.js";
import { address } from "./router.js";
import { complain } from "./toast.js";

const LARGE = 8e6; // bytes: larger files, and archives, are sent in parts
const PART = 4e6;
const TOGETHER = 24; // files of one request
const AT_ONCE = 2;

/** Asks for files or a folder. */
export function pickFiles(project, anchor) {
  const choose = (folder) => () => {
    const input = h("input", { type: "file", multiple: true, hidden: true });
    if (folder) input.webkitdirectory = true;
    input.addEventListener("change", () => upload(project, [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }))));
    document.body.append(input);
    input.click();
    setTimeout(() => input.remove(), 60000);
  };
  openMenu(anchor, {
    label: "Upload",
    items: [
      { text: "Files or zip archives…", icon: "images", run: choose(false) },
      { text: "A folder…", icon: "folder", run: choose(true) },
    ],
  });
}

/** Takes what is dropped anywhere on the page. */
export function dropZone(getProject) {
  const veil = h("div", { class: "veil", hidden: true }, h("p", {}, "Drop to upload"));
  document.body.append(veil);
  const hasFiles = (event) => getProject() && event.dataTransfer?.types.includes("Files");
  let depth = 0;
  addEventListener("dragenter", (event) => hasFiles(event) && ((depth += 1), (veil.hidden = false)));
  addEventListener("dragleave", (event) => hasFiles(event) && (depth -= 1) <= 0 && (veil.hidden = true));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    depth = 0;
    veil.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...event.dataTransfer.files];
    try {
      const files = entries.length ? (await Promise.all(entries.map(walk))).flat() : plain.map((file) => ({ file, path: file.name }));
      upload(getProject(), files);
    } catch (error) {
      complain(error);
    }
  });
}

/** The files below a dropped folder. */
async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {
    // A folder is read a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const each of some) found.push(...(await walk(each)));
  }
}

/** Uploads `[{file, path}]` and shows how it goes. */
export async function upload(project, files) {
  const wanted = files.filter(({ file, path }) => file.size > 0 && !path.split("/").some((part) => part.startsWith(".")));
  if (!wanted.length) return complain(new Error("there is no file in what was chosen"));
  const panel = new UploadPanel(project, wanted);
  const isLarge = ({ file }) => file.size > LARGE || /\.zip$/i.test(file.name);
  const jobs = wanted.filter(isLarge).map((each) => () => sendInParts(project, each, panel));
  const small = wanted.filter((each) => !isLarge(each));
  for (let start = 0; start < small.length; ) {
    let end = start, bytes = 0;
    while (end < small.length && end - start < TOGETHER && bytes < LARGE) bytes += small[end++].file.size;
    const batch = small.slice(start, end);
    jobs.push(() => sendTogether(project, batch, panel));
    start = end;
  }
  const lanes = Array.from({ length: AT_ONCE }, async () => {
    for (let job = jobs.shift(); job && !panel.stopped; job = jobs.shift()) await job();
  });
  await Promise.all(lanes);
  panel.finish();
  project.refresh();
  project.tell("ids");
  return panel.result;
}

async function sendTogether(project, batch, panel) {
  const body = new FormData();
  const id = requestId();
  body.append("request_id", id);
  for (const { file, path } of batch) body.append("files", file, path);
  try {
    panel.add(await again(panel, () => post(`${project.url}/upload?request_id=${id}`, body, { signal: panel.signal })));
  } catch (error) {
    if (error.name === "AbortError") return;
    panel.add({ unreadable: batch.map(({ path }) => ({ name: path, why: error.message })) });
  }
  panel.advance(batch.reduce((sum, { file }) => sum + file.size, 0));
}

async function sendInParts(project, { file, path }, panel) {
  let done = 0;
  try {
    const begin = () => post("/api/uploads", { request_id: requestId(), dataset: project.id, name: path, size: file.size }, { signal: panel.signal });
    const { id, received } = await again(panel, begin);
    panel.advance((done = received ?? 0));
    while (done < file.size) {
      const part = file.slice(done, done + PART);
      const answer = await again(panel, () => call("PUT", `/api/uploads/${id}?offset=${done}`, part, { signal: panel.signal }), async () => {
        // After a failure the server says how much it has.
        const now = await get(`/api/uploads/${id}`).catch(() => null);
        return now && now.received !== done ? now : null;
      });
      const received = answer.received ?? done + part.size;
      panel.advance(received - done);
      done = received;
    }
    panel.add(await again(panel, () => post(`/api/uploads/${id}/finish`, { request_id: id.toString().length > 20 ? id : requestId() }, { signal: panel.signal })));
  } catch (error) {
    if (error.name === "AbortError") return;
    panel.add({ unreadable: [{ name: path, why: error.message }] });
    panel.advance(file.size - done);
  }
}

/** Tries until it works or is refused; a lost network is waited for. */
async function again(panel, run, check = null) {
  for (let tries = 0; ; tries += 1) {
    try {
      const answer = await run();
      panel.say("");
      return answer;
    } catch (error) {
      if (!(error instanceof ApiError) || ![0, 429, 502, 503, 504].includes(error.status)) throw error;
      panel.say("Not connected: going on as soon as the server is there");
      await new Promise((resolve) => setTimeout(resolve, Math.min(8000, 500 * 2 ** tries)));
      const known = await check?.();
      if (known) return known;
    }
  }
}

class UploadPanel {
  result = { added: [], duplicates: [], unreadable: [] };
  stopped = false;
  #sent = 0;
  #abort = new AbortController();

  constructor(project, files) {
    this.project = project;
    this.files = files.length;
    this.bytes = files.reduce((sum, { file }) => sum + file.size, 0);
    this.title = h("strong", {}, `Uploading ${plural(files.length, "file")}`);
    this.bar = h("progress", { max: this.bytes, value: 0, "aria-label": "Upload" });
    this.text = h("p", { class: "muted small" });
    this.lists = h("div", { class: "upload-lists" });
    this.closer = button("Stop", { kind: "plain", onclick: () => this.#close() });
    this.element = h("section", { class: "upload", "aria-label": "Upload" }, h("header", {}, this.title, h("span", { class: "space" }), this.closer), this.bar, this.text, this.lists);
    document.querySelector(".upload")?.remove();
    document.body.append(this.element);
    this.say("");
  }

  get signal() {
    return this.#abort.signal;
  }

  #close() {
    this.stopped = true;
    this.#abort.abort();
    this.element.remove();
  }

  advance(bytes) {
    this.#sent = Math.min(this.bytes, this.#sent + bytes);
    this.bar.value = this.#sent;
    this.say("");
  }

  say(text) {
    fill(this.text, text || `${size(this.#sent)} of ${size(this.bytes)} · ${this.#summary()}`);
  }

  #summary() {
    const { added, duplicates, unreadable } = this.result;
    return [
      `${number(added.length)} added`,
      duplicates.length && plural(duplicates.length, "duplicate"),
      unreadable.length && `${number(unreadable.length)} unreadable`,
    ].filter(Boolean).join(" · ");
  }

  add(answer) {
    for (const key of Object.keys(this.result)) this.result[key].push(...(answer[key] ?? []));
    this.say("");
  }

  finish() {
    const { added, duplicates, unreadable } = this.result;
    fill(this.title, this.stopped ? "Upload stopped" : `Uploaded ${plural(added.length, "image")}`);
    this.bar.hidden = true;
    fill(this.text, this.#summary());
    fill(this.closer.lastChild, "Close");
    const list = (title, items) =>
      items.length > 0 && h("details", {}, h("summary", {}, `${title} (${number(items.length)})`), h("ul", {}, items.slice(0, 500).map((text) => h("li", {}, text))));
    fill(
      this.lists,
      added.length > 0 && h("p", {}, h("a", { href: address(this.project.id, "images", null, new URLSearchParams({ sort: "-time" })) }, "Show the newest first")),
      list("Duplicates, not stored again", duplicates.map((each) => `${each.name} is the same as ${each.same_as}`)),
      list("Unreadable, not stored", unreadable.map((each) => `${each.name}: ${each.why}`)),
    );
    if (!duplicates.length && !unreadable.length) setTimeout(() => this.element.remove(), 6000);
  }
}
