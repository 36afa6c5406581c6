// One run: state, curves, log, and what to do with it.

import { ApiError, get } from "./api.js";
import { drawConfusion } from "./confusion.js";
import { curves } from "./curves.js";
import { ask } from "./dialog.js";
import { button, fill, h, number, when } from "./dom.js";
import { KINDS, STATES } from "./train.js";
import { complain, toast } from "./toast.js";

const EVERY = 1500; // ms between looks at a run that goes on
const LOG_KEPT = 200000; // characters

export class RunPage {
  #run = null;
  #timer = null;
  #logAt = 0;
  #closed = false;
  #matrixOf = null;

  constructor(root, project, id) {
    Object.assign(this, { project, id });
    this.title = h("h2", {}, `Run ${id}`);
    this.state = h("span", { class: "state", role: "status" });
    this.progress = h("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.line = h("p", { class: "muted small" });
    this.actions = h("div", { class: "run-actions" });
    this.curves = curves();
    this.confusion = h("section", { class: "confusion-part" });
    this.log = h("pre", { class: "log", tabindex: "0", role: "log", "aria-label": "Log", "aria-live": "off" });
    this.logBox = h("details", { ontoggle: () => this.#readLog() }, h("summary", {}, "Log"), this.log);
    this.facts = h("dl", { class: "facts" });
    fill(
      root,
      h("header", { class: "run-head" }, this.title, this.state, h("span", { class: "space" }), this.actions),
      this.progress, this.line, this.curves.element, this.confusion, this.logBox,
      h("details", {}, h("summary", {}, "Arguments"), this.facts),
    );
    this.#look();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  /** An event of this or another run. */
  event({ id }) {
    if (id === this.id) this.#soon(150);
  }

  #soon(wait) {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => this.#look(), wait);
  }

  get #isOver() {
    return !["waiting", "starting", "running", "stopping"].includes(this.#run?.state);
  }

  /** Whether it trains a model. */
  get #isModel() {
    return (this.#run?.kind ?? "train") === "train";
  }

  async #look() {
    try {
      this.#run = await get(`/api/runs/${this.id}`);
      const { rows } = await get(`/api/runs/${this.id}/metrics?since=${this.curves.last}`);
      if (this.#closed) return;
      this.curves.add(rows);
      await this.#readLog();
      this.#draw();
      if (!this.#isOver) this.#soon(EVERY);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 0) this.#soon(EVERY * 2);
      else if (!this.#closed) fill(this.line, error.message);
    }
  }

  async #readLog() {
    if (!this.logBox.open && this.#run?.state !== "failed") return;
    const { text, next } = await get(`/api/runs/${this.id}/log?since=${this.#logAt}`);
    if (this.#closed || next === this.#logAt) return;
    this.#logAt = next;
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
    this.log.textContent = (this.log.textContent + text).slice(-LOG_KEPT);
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  #draw() {
    const run = this.#run;
    const { step = 0, total = 0 } = run.progress ?? run;
    fill(this.title, `${KINDS[run.kind] ?? "Run"} ${this.id}`);
    this.state.className = `state ${run.state}`;
    fill(this.state, STATES[run.state] ?? run.state);
    this.progress.hidden = this.#isOver;
    if (total) this.progress.value = step / total;
    else this.progress.removeAttribute("value");
    fill(this.line, [run.recipe, total ? `step ${number(step)} of ${number(total)}` : step && `step ${number(step)}`, `started ${when(run.started)}`, run.ended && `ended ${when(run.ended)}`, run.message].filter(Boolean).join(" · "));
    this.#drawActions();
    fill(this.facts, Object.entries({ version: run.version_id, ...run.arguments, ...run.config }).map(([key, value]) => [h("dt", {}, key), h("dd", {}, String(value))]));
    if (run.state === "failed") this.logBox.open = true;
    const ended = `${run.state} ${run.ended}`;
    if (this.#isModel && this.#isOver && run.state !== "failed" && this.#matrixOf !== ended) {
      this.#matrixOf = ended;
      drawConfusion(this.confusion, this.project, this.id).catch((error) => fill(this.confusion, h("p", { class: "muted" }, error.message)));
    }
  }

  #drawActions() {
    const run = this.#run;
    const owner = this.project.may("owner");
    const isModel = this.project.info.model_run_id === this.id;
    const hasPage = this.#isOver && run.state !== "failed" && run.has_report !== false;
    const hasModel = this.#isModel && this.#isOver && run.state !== "failed";
    const focused = this.actions.contains(document.activeElement) ? document.activeElement.textContent : null;
    fill(
      this.actions,
      owner && ["running", "starting"].includes(run.state) && button("Stop", { icon: "stop", onclick: () => this.#post("stop", "Stopping: the last step is saved") }),
      owner && ["stopped", "failed"].includes(run.state) && button("Continue", { icon: "play", onclick: () => this.#post("continue", "Going on") }),
      hasPage && h("a", { class: "button", href: `/api/runs/${this.id}/report`, target: "_blank", rel: "noopener" }, "Report"),
      hasModel && owner && button(isModel ? "The model" : "Use for suggestions", { icon: "star", disabled: isModel, onclick: () => this.#use() }),
      hasModel && isModel && button("Suggest", { icon: "spark", kind: "primary", onclick: () => this.#suggest() }),
    );
    [...this.actions.children].find((child) => child.textContent === focused)?.focus();
  }

  async #post(action, done) {
    try {
      await this.project.send(`/api/runs/${this.id}/${action}`, {}, `${action} run ${this.id}`);
      toast(done);
      this.#soon(200);
    } catch (error) {
      complain(error);
    }
  }

  async #use() {
    await this.#post("use", `Run ${this.id} is the model of this data set`);
    await this.project.loadInfo().catch(complain);
    this.#draw();
  }

  async #suggest() {
    const { counts } = this.project;
    const sure = await ask({
      title: "Suggest classes",
      body: h("p", {}, `The model looks at the ${number(counts.untagged ?? counts.images)} untagged images. Its suggestions have a dashed outline until somebody confirms them.`),
      yes: "Suggest",
    });
    if (!sure) return;
    try {
      await this.project.send("suggest", { run: this.id, filter: { untagged: 1 } }, "suggest classes");
      toast("Suggestions come in as the model gets to them");
      this.project.cells.touch(null);
    } catch (error) {
      complain(error);
    }
  }
}
