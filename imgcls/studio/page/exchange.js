// The tab of versions, export and import.

import { ApiError, get, post, requestId } from "./api.js";
import { field, formDialog } from "./dialog.js";
import { button, fill, h, icon, plural, when } from "./dom.js";
import { openMenu } from "./menu.js";
import { complain, toast } from "./toast.js";

const FORMATS = {
  manifest: "Manifest (CSV)", jsonl: "Manifest (JSON Lines)", darwin: "Darwin JSON 2.0", labelstudio: "Label Studio", coco: "COCO", links: "Folders of links",
};

export class ExchangeTab {
  constructor(root, project) {
    this.project = project;
    this.list = h("tbody");
    this.none = h("p", { class: "muted" }, "No version yet. A run freezes one by itself.");
    this.result = h("div", { role: "status" });
    this.file = h("input", { type: "file", accept: ".json,.jsonl,.csv,.zip", class: "hidden", tabindex: "-1", "aria-hidden": "true", onchange: () => this.#import() });
    const owner = project.may("owner");
    fill(
      root,
      h("header", { class: "bar" }, h("h1", {}, "Export and import"), h("span", { class: "space" }), owner && button("Freeze a version", { icon: "lock", kind: "primary", onclick: () => this.#freeze() })),
      h(
        "div",
        { class: "page" },
        h("section", {}, h("h2", {}, "Versions"), h("p", { class: "muted" }, "A version is what is tagged at one moment, by the content of the files. Training from its export gives the same model as training here."), this.none,
          h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Versions" }, h("table", { class: "table" }, h("thead", {}, h("tr", {}, ["Version", "Images", "Frozen", "Digest"].map((text) => h("th", { scope: "col" }, text)), h("th", { scope: "col" }, h("span", { class: "hidden" }, "Actions")))), this.list))),
        owner && h("section", {}, h("h2", {}, "Import"), h("p", { class: "muted" }, "Tags for images of this data set: a manifest, Darwin, Label Studio or COCO, found by what is in the file. A zip may hold the images too."),
          button("Choose a file", { icon: "upload", onclick: () => this.file.click() }), this.file, this.result),
      ),
    );
  }

  async update() {
    try {
      const answer = await get(`${this.project.url}/versions`);
      const all = [...(answer.versions ?? answer)].sort((a, b) => b.id - a.id);
      this.none.hidden = all.length > 0;
      this.list.closest(".scroll").hidden = all.length === 0;
      fill(this.list, all.map((version) => this.#row(version)));
    } catch (error) {
      complain(error);
    }
  }

  #row(version) {
    const name = version.name ?? `Version ${version.id}`;
    return h(
      "tr",
      {},
      h("td", {}, h("strong", {}, name)),
      h("td", { class: "numeric" }, plural(version.count, "image")),
      h("td", {}, when(version.created)),
      h("td", {}, h("code", {}, (version.digest ?? "").slice(0, 12))),
      h("td", { class: "row-actions" }, button("Export", { icon: "download", "aria-haspopup": "listbox", "aria-label": `Export ${name}`, onclick: (event) => this.#export(event.currentTarget, version) })),
    );
  }

  #export(anchor, version) {
    const load = (format) => {
      const link = h("a", { href: `/api/versions/${version.id}/export?format=${format}`, download: true });
      document.body.append(link);
      link.click();
      link.remove();
    };
    openMenu(anchor, { label: "Format", items: Object.entries(FORMATS).map(([format, text]) => ({ text, icon: "download", run: () => load(format) })) });
  }

  async #freeze() {
    const done = await formDialog({
      title: "Freeze a version",
      yes: "Freeze",
      fields: field("Name", h("input", { name: "name", maxlength: 200, autocomplete: "off", placeholder: "for example: first thousand" }), "May be left empty."),
      send: (form) => this.project.send("versions", { name: form.get("name").trim() || null }, "freeze a version"),
    });
    if (done) this.update();
  }

  async #import() {
    const [file] = this.file.files;
    if (!file) return;
    const body = new FormData();
    const id = requestId();
    body.append("request_id", id);
    body.append("file", file, file.name);
    this.file.value = "";
    fill(this.result, h("p", { class: "muted" }, `Reading ${file.name}…`));
    try {
      const answer = await post(`${this.project.url}/import?request_id=${id}`, body);
      const lines = Object.entries(answer).filter(([key, value]) => key !== "seq" && (typeof value === "number" || typeof value === "string"));
      fill(this.result, h("h3", {}, `Imported ${file.name}`), h("dl", { class: "facts" }, lines.map(([key, value]) => [h("dt", {}, key.replaceAll("_", " ")), h("dd", {}, String(value))])),
        (answer.unmatched ?? answer.unreadable ?? []).length > 0 && h("ul", {}, (answer.unmatched ?? answer.unreadable).slice(0, 100).map((each) => h("li", {}, typeof each === "string" ? each : `${each.name}: ${each.why ?? "not in this data set"}`))));
      toast(`Imported ${file.name}`, { action: { text: "Undo", run: () => this.project.actions.undo() } });
      this.project.cells.touch(null);
      await Promise.all([this.project.loadClasses(), this.project.loadInfo()]);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      fill(this.result, h("p", { class: "problem" }, icon("flag"), error.message));
    }
  }
}
