// The picture of the image view: zoom, pan, the player of a video and the slices of a volume.

import { button, debounce, fill, h } from "./dom.js";

const LARGEST = 2048;
const AXES = ["Axial", "Coronal", "Sagittal"];

/** The address of an image's picture. */
export const pictureUrl = (id) => `/api/images/${id}/picture?size=${LARGEST}`;

export class Stage {
  #zoom = 1;
  #x = 0;
  #y = 0;
  #timer = null;

  constructor() {
    this.picture = h("img", { class: "stage-picture", alt: "", draggable: "false" });
    this.message = h("p", { class: "stage-message", role: "status" });
    this.controls = h("div", { class: "stage-controls" });
    this.level = h("button", { type: "button", class: "button plain", "aria-label": "Fit the picture", onclick: () => this.fit() }, "100 %");
    this.zoomer = h(
      "div",
      { class: "stage-zoom", role: "toolbar", "aria-label": "Zoom" },
      h("button", { type: "button", class: "button plain square", "aria-label": "Zoom out", onclick: () => this.zoom(1 / 1.4) }, "−"),
      this.level,
      h("button", { type: "button", class: "button plain square", "aria-label": "Zoom in", onclick: () => this.zoom(1.4) }, "+"),
    );
    this.frame = h("div", { class: "stage-frame" }, this.picture, this.message);
    this.element = h("div", { class: "stage" }, this.frame, this.controls, this.zoomer);
    this.picture.addEventListener("load", () => this.#loaded());
    this.picture.addEventListener("error", () => this.picture.hasAttribute("src") && fill(this.message, "The picture could not be loaded."));
    this.frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.frame.addEventListener("dblclick", (event) => (this.#zoom === 1 ? this.zoom(3, event) : this.fit()));
    this.frame.addEventListener("pointerdown", (event) => this.#drag(event));
    this.observer = new ResizeObserver(() => this.#place());
    this.observer.observe(this.frame);
  }

  close() {
    this.observer.disconnect();
    clearInterval(this.#timer);
  }

  /** Shows an image `{id, media, name, frames}`. */
  show({ id, media, name, frames, depths }) {
    clearInterval(this.#timer);
    fill(this.message);
    this.picture.classList.remove("ready");
    this.picture.alt = name ?? `Image ${id}`;
    fill(this.controls);
    this.fit();
    if (media === "video" && frames > 1) this.#video(id, frames);
    else if (media === "volume") this.#volume(id, depths ?? [frames, frames, frames]);
    else this.picture.src = pictureUrl(id);
  }

  #loaded() {
    this.picture.classList.add("ready");
    this.#place();
  }

  /** A slider over positions; only the newest one asked for is loaded. */
  #slider(label, count, at, url) {
    const out = h("output", {}, `${at + 1} / ${count}`);
    const load = debounce((value) => (this.picture.src = url(value)), 40);
    const input = h("input", {
      type: "range", min: 0, max: count - 1, value: at, "aria-label": label,
      oninput: () => (fill(out, `${Number(input.value) + 1} / ${count}`), load(Number(input.value))),
    });
    this.picture.src = url(at);
    return [input, out];
  }

  #video(id, frames) {
    const url = (at) => `/api/images/${id}/frame?at=${at}`;
    const [input, out] = this.#slider("Frame", frames, 0, url);
    const play = button("Play", {
      icon: "play",
      onclick: () => {
        const running = play.classList.toggle("set");
        fill(play.lastChild, running ? "Pause" : "Play");
        clearInterval(this.#timer);
        if (running) this.#timer = setInterval(step, 80);
      },
    });
    const step = () => {
      // A frame that is still loading is waited for, so that a slow server shows each one.
      if (!this.picture.complete) return;
      input.value = (Number(input.value) + 1) % frames;
      fill(out, `${Number(input.value) + 1} / ${frames}`);
      this.picture.src = url(Number(input.value));
    };
    fill(this.controls, play, input, out);
  }

  #volume(id, depths) {
    const show = (axis) => {
      const count = Math.max(1, depths[axis] ?? 1);
      const slider = this.#slider("Slice", count, count >> 1, (at) => `/api/images/${id}/slice?axis=${axis}&at=${at}`);
      const axes = AXES.map((text, index) => button(text, { "aria-pressed": String(index === axis), onclick: () => show(index) }));
      fill(this.controls, h("div", { class: "segments", role: "group", "aria-label": "Axis" }, axes), slider);
    };
    show(0);
  }

  fit() {
    this.#zoom = 1;
    this.#x = this.#y = 0;
    this.#place();
  }

  /** Zooms by a factor, around the pointer where there is one. */
  zoom(factor, event = null) {
    const zoom = Math.min(40, Math.max(1, this.#zoom * factor));
    const box = this.frame.getBoundingClientRect();
    const [px, py] = event ? [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2] : [0, 0];
    this.#x = px - ((px - this.#x) * zoom) / this.#zoom;
    this.#y = py - ((py - this.#y) * zoom) / this.#zoom;
    this.#zoom = zoom;
    if (zoom === 1) this.#x = this.#y = 0;
    this.#place();
  }

  #wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 300), event);
  }

  #drag(event) {
    if (event.button || this.#zoom === 1) return;
    event.preventDefault();
    const [x, y] = [event.clientX - this.#x, event.clientY - this.#y];
    const move = (next) => {
      [this.#x, this.#y] = [next.clientX - x, next.clientY - y];
      this.#place();
    };
    const end = () => this.frame.removeEventListener("pointermove", move);
    this.frame.setPointerCapture(event.pointerId);
    this.frame.addEventListener("pointermove", move);
    this.frame.addEventListener("pointerup", end, { once: true });
  }

  #place() {
    const { naturalWidth: w, naturalHeight: h0 } = this.picture;
    if (!w) return;
    const { clientWidth, clientHeight } = this.frame;
    const scale = Math.min((clientWidth - 32) / w, (clientHeight - 32) / h0);
    const [width, height] = [w * scale * this.#zoom, h0 * scale * this.#zoom];
    // No further than the edge.
    const room = (size, frame) => Math.max(0, (size - frame) / 2 + 16);
    this.#x = Math.max(-room(width, clientWidth), Math.min(room(width, clientWidth), this.#x));
    this.#y = Math.max(-room(height, clientHeight), Math.min(room(height, clientHeight), this.#y));
    Object.assign(this.picture.style, {
      width: `${width}px`, height: `${height}px`,
      left: `${(clientWidth - width) / 2 + this.#x}px`, top: `${(clientHeight - height) / 2 + this.#y}px`,
    });
    this.picture.classList.toggle("pixels", scale * this.#zoom > 6);
    this.frame.classList.toggle("zoomed", this.#zoom > 1);
    this.level.textContent = `${Math.round(scale * this.#zoom * 100)} %`;
  }
}
