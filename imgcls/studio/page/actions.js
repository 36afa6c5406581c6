// What people decide about images: deltas through the outbox, shown before the server has answered.

import { plural } from "./dom.js";
import { complain, toast } from "./toast.js";
import { filterBody, FLAGS } from "./filters.js";

const EMPTY = { tags: {}, flag: null };

export class Actions {
  constructor(project) {
    this.project = project;
  }

  /** The caller's own answer as shown now. */
  mine(id) {
    return this.project.cells.peek(id)?.mine ?? EMPTY;
  }

  /** Changes the caller's answer to one image: `{add: {class: {attributes, text}}, remove: [class], flag, comment}`. */
  answer(id, delta, what) {
    const { cells, single, info } = this.project;
    const cell = cells.peek(id);
    const revision = cell?.revision ?? null;
    cells.patch(id, () => {
      // As the server does: one class replaces the other, tags and "none of these" exclude each other.
      const tags = (single && delta.add) || delta.flag === "none" ? {} : { ...this.mine(id).tags };
      for (const name of delta.remove ?? []) delete tags[name];
      for (const [name, value] of Object.entries(delta.add ?? {})) tags[name] = merged(this.mine(id).tags[name], value);
      const before = this.mine(id).flag;
      const flag = "flag" in delta ? delta.flag : delta.add && before !== "unsure" ? null : before;
      const labels = (info.taggers ?? 1) === 1 ? Object.keys(tags).map(Number) : cell.labels;
      return { mine: { ...cell.mine, tags, flag }, labels, comment: delta.comment ?? cell.comment };
    });
    return this.project.send("answers", { items: [{ image: id, revision, ...delta }] }, what).catch((error) => {
      cells.touch([id]);
      this.#refused(error);
      return null;
    });
  }

  #refused(error) {
    const stale = error.body.stale?.[0];
    if (!stale) return complain(error);
    const change = stale.changes?.[0];
    const who = change?.name;
    return toast(who ? `Not saved: ${who} changed this image meanwhile` : error.message, { kind: "error" });
  }

  /** Sets or, where it is set, takes away a class of an image. */
  toggle(id, item) {
    if (item.id in this.mine(id).tags) return this.answer(id, { remove: [item.id] }, `remove ${item.name}`);
    return this.answer(id, { add: { [item.id]: {} } }, `tag as ${item.name}`);
  }

  /** Sets or takes away "none of these", "unsure" or "skip". */
  flag(id, flag) {
    if (this.mine(id).flag === flag) return this.answer(id, { flag: null }, "clear the answer");
    return this.answer(id, { flag }, FLAGS[flag]);
  }

  /** Accepts the suggestion of an image; false where it has none. */
  accept(id) {
    const { prediction } = this.project.cells.peek(id) ?? {};
    const item = prediction && this.project.byId.get(prediction.class_id);
    if (!item || item.id in this.mine(id).tags) return false;
    const { cells, single } = this.project;
    cells.patch(id, () => {
      const mine = this.mine(id);
      const tags = { ...(single ? {} : mine.tags), [item.id]: {} };
      return { mine: { ...mine, tags }, labels: Object.keys(tags).map(Number) };
    });
    this.project.send("bulk", { select: { ids: [id] }, action: { accept: { min: 0 } } }, `accept ${item.name}`).catch((error) => this.#refused(error)).finally(() => cells.touch([id]));
    return true;
  }

  /** Runs an action on many images and says what it did. `what` is as in "Tagged as cat". */
  async bulk(select, action, what) {
    const { project } = this;
    try {
      const answer = await project.send("bulk", { select, action }, what);
      const skipped = answer.skipped ? `, ${plural(answer.skipped, "image")} left as they were${reasons(answer.why)}` : "";
      toast(`${what}: ${plural(answer.changed, "image")}${skipped}`, {
        action: answer.changed ? { text: "Undo", run: () => this.undo() } : null,
      });
      project.cells.touch(select.ids ?? null);
      project.tell("ids");
      return answer;
    } catch (error) {
      complain(error);
      return null;
    }
  }

  undo() {
    return this.#turn("undo", "Undid");
  }

  redo() {
    return this.#turn("redo", "Did again");
  }

  async #turn(path, verb) {
    const { project } = this;
    try {
      const answer = await project.send(`/api/${path}`, { dataset: project.id }, path);
      const skipped = answer.skipped ? `; ${plural(answer.skipped, "image")} changed since and kept` : "";
      const count = answer.changed > 1 ? ` (${plural(answer.changed, "image")})` : "";
      toast(`${verb}: ${answer.what}${count}${skipped}`, {
        action: path === "undo" ? { text: "Redo", run: () => this.redo() } : { text: "Undo", run: () => this.undo() },
        key: "undo",
      });
      project.cells.touch(null);
      project.tell("ids");
      await project.loadClasses();
    } catch (error) {
      toast(error.message, { key: "undo", kind: error.status === 409 || error.status === 404 ? "info" : "error" });
    }
  }
}

/** A tag after attributes (null takes one away) and text were given. */
function merged(before, { attributes, ...rest }) {
  const values = Object.entries({ ...before?.attributes, ...attributes }).filter(([, value]) => value !== null);
  return { ...before, ...rest, ...(values.length && { attributes: Object.fromEntries(values) }) };
}

function reasons(why) {
  const texts = Array.isArray(why) ? why : Object.entries(why ?? {}).map(([reason, count]) => `${reason}: ${count}`);
  return texts.length ? ` (${texts.join("; ")})` : "";
}

/** A selection as the API's bulk calls take it. `listed` says that the order is a list, not a filter. */
export function selectOf(selection, query, order, listed) {
  if (!selection.all) return { ids: [...selection.ids] };
  return listed ? { ids: order } : { filter: filterBody(query) };
}
