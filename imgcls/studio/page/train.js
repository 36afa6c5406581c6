// The tab of training: runs on the left, a new one or one run on the right.

import { get } from "./api.js";
import { button, debounce, fill, h, icon, number, when } from "./dom.js";
import { address, go } from "./router.js";
import { RunPage } from "./run.js";
import { RunForm } from "./run_form.js";
import { complain } from "./toast.js";

export const STATES = { waiting: "Waiting", starting: "Starting", running: "Running", stopping: "Stopping", stopped: "Stopped", done: "Done", finished: "Done", failed: "Failed" };

/** What a run is, by its kind; one that trains is a run. */
export const KINDS = { suggest: "Suggestions", features: "Features", audit: "Audit" };

export class TrainTab {
  #runs = [];
  #part = null;
  #item = undefined;

  constructor(root, project) {
    this.project = project;
    this.list = h("nav", { class: "run-list", "aria-label": "Runs" });
    this.detail = h("div", { class: "run-detail" });
    fill(
      root,
      h("header", { class: "bar" }, h("h1", {}, "Train"), h("span", { class: "space" }),
        project.may("reviewer") && button("Audit", { icon: "flag", title: "Look for duplicates, shortcuts and wrong tags", onclick: () => this.#audit() }),
        project.may("owner") && button("New run", { icon: "plus", kind: "primary", onclick: () => go(address(project.id, "train", "new")) })),
      h("div", { class: "train" }, this.list, this.detail),
    );
    const reload = debounce(() => this.#load(), 400);
    this.onRun = ({ detail }) => {
      const known = this.#runs.find((run) => run.id === detail.id);
      if (!known || known.state !== detail.state) reload();
      if (known) Object.assign(known, detail);
      this.#drawList();
      this.#part?.event?.(detail);
    };
    project.addEventListener("run", this.onRun);
    // Should events be lost, the list is still asked for now and then.
    this.timer = setInterval(() => !document.hidden && this.#load(), 15000);
  }

  close() {
    clearInterval(this.timer);
    this.project.removeEventListener("run", this.onRun);
    this.#part?.close?.();
  }

  async update({ item }) {
    this.#item = item;
    await this.#load();
    this.#show();
  }

  async #load() {
    try {
      const answer = await get(`${this.project.url}/runs`);
      this.#runs = answer.runs ?? answer;
      this.#runs.sort((a, b) => b.id - a.id);
      this.#drawList();
    } catch (error) {
      complain(error);
    }
  }

  async #audit() {
    try {
      const { id } = await this.project.send("audit", {}, "audit the tags");
      go(address(this.project.id, "train", id));
    } catch (error) {
      complain(error);
    }
  }

  #show() {
    let item = this.#item;
    if (item === null) item = this.#runs.length ? String(this.#runs[0].id) : "new";
    if (this.shown === item) return;
    this.#part?.close?.();
    this.shown = item;
    this.#part = item === "new" ? new RunForm(this.detail, this.project) : new RunPage(this.detail, this.project, Number(item));
    this.#drawList();
  }

  #drawList() {
    fill(
      this.list,
      this.#runs.map((run) =>
        h(
          "a",
          { class: "run", href: address(this.project.id, "train", run.id), "aria-current": this.shown === String(run.id) ? "page" : null },
          h("span", { class: `run-state ${run.state}` }, h("span", { class: "lamp" }), STATES[run.state] ?? run.state),
          h("span", { class: "run-name" }, `${KINDS[run.kind] ?? "Run"} ${run.id}`, this.project.info.model_run_id === run.id && icon("star")),
          h("span", { class: "muted small" }, run.recipe, run.step ? ` · step ${number(run.step)}` : "", ` · ${when(run.started ?? run.created)}`),
        )),
      !this.#runs.length && h("p", { class: "muted note" }, "No run yet."),
    );
  }
}
