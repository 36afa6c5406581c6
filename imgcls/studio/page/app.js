// The page: who is here, what the address says, and the frame around the tabs.

import { Actions } from "./actions.js";
import { ApiError, get, login, post } from "./api.js";
import { ClassesTab } from "./classes.js";
import { DataSets, newDataSet } from "./datasets.js";
import { field } from "./dialog.js";
import { DocsPage } from "./docs.js";
import { button, fill, h, icon, number } from "./dom.js";
import { ExchangeTab } from "./exchange.js";
import { showHelp } from "./help.js";
import { ImagesTab } from "./images.js";
import { addKeys } from "./keys.js";
import { MembersTab } from "./members.js";
import { openMenu } from "./menu.js";
import { outbox } from "./outbox.js";
import { Project } from "./project.js";
import { address, current, go, listen, router } from "./router.js";
import { complain, toast } from "./toast.js";
import { TrainTab } from "./train.js";
import { dropZone } from "./upload.js";

const TABS = {
  images: { text: "Images", icon: "images", make: ImagesTab },
  classes: { text: "Classes", icon: "classes", make: ClassesTab },
  train: { text: "Train", icon: "train", make: TrainTab },
  members: { text: "Members", icon: "members", make: MembersTab },
  exchange: { text: "Export", icon: "exchange", make: ExchangeTab },
};

class App {
  #me = null;
  #project = null;
  #shown = null; // {key, part}: what the main area shows
  #opening = null;

  constructor(root) {
    this.root = root;
    this.picker = h("button", { type: "button", class: "picker", "aria-haspopup": "listbox", onclick: () => this.#chooseDataSet() });
    this.nav = h("nav", { class: "tabs", "aria-label": "Data set" });
    this.state = h("button", { type: "button", class: "save-state", onclick: () => this.#explainState() });
    this.user = h("span", { class: "user" });
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.side = h(
      "div", { class: "side" },
      h("a", { class: "brand", href: "/", "aria-label": "imgcls studio: all data sets" }, h("img", { src: "/page/icon.svg", alt: "", width: 20, height: 20 }), h("span", {}, "imgcls")),
      this.picker, this.nav,
      h("div", { class: "side-foot" }, this.state,
        h("div", { class: "side-links" }, this.user, h("span", { class: "space" }),
          h("a", { class: "button plain square", href: "/docs", "aria-label": "API reference", title: "API reference" }, icon("code")),
          button("", { icon: "help", label: "Keys", kind: "plain", onclick: showHelp }))),
    );
  }

  async start() {
    listen();
    outbox.addEventListener("change", () => this.#drawState());
    outbox.addEventListener("refused", ({ detail }) => this.#refused(detail));
    router.addEventListener("change", () => this.#route());
    login.addEventListener("needed", () => this.#askLogin());
    addKeys([
      { keys: ["?", "Shift+?"], about: "This help", group: "Everywhere", run: () => void showHelp() },
      { keys: ["Control+z"], shown: "Ctrl Z", about: "Undo, also bulk actions", group: "Everywhere", run: () => this.#project?.actions.undo() },
      { keys: ["Control+Shift+z", "Control+y"], shown: "Ctrl Shift Z", about: "Redo", group: "Everywhere", run: () => this.#project?.actions.redo() },
      ...Object.entries(TABS).map(([tab, { text }], index) => ({
        keys: [`Alt+${index + 1}`], shown: `Alt ${index + 1}`, about: text, group: "Everywhere",
        run: () => this.#project && go(address(this.#project.id, tab)),
      })),
    ]);
    try {
      this.#me = await get("/api/me");
    } catch (error) {
      if (error.status !== 401) this.#fail(error);
      return;
    }
    fill(this.user, this.#me.name);
    fill(this.root, h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), this.main.focus()) }, "Skip to the content"), this.side, this.main);
    dropZone(() => this.#project);
    await outbox.open();
    this.#drawState();
    await this.#route();
  }

  async #route() {
    const route = current();
    // The newest address wins where one is still being opened.
    const ticket = (this.#opening = {});
    try {
      if (route.page === "dataset") await this.#openProject(route.dataset);
      else this.#closeProject();
      if (this.#opening !== ticket) return;
      this.#show(route);
    } catch (error) {
      if (error instanceof ApiError && this.#opening === ticket) this.#fail(error);
      else throw error;
    }
  }

  async #openProject(id) {
    if (this.#project?.id === id) return;
    this.#closeProject();
    const project = new Project(id, this.#me);
    project.actions = new Actions(project);
    await project.open();
    this.#project = project;
    project.addEventListener("info", () => this.#drawSide());
    project.addEventListener("live", () => this.#drawState());
  }

  #closeProject() {
    this.#closePart();
    this.#project?.close();
    this.#project = null;
  }

  #closePart() {
    this.#shown?.part.close?.();
    this.#shown = null;
  }

  #show(route) {
    const tab = TABS[route.tab] ? route.tab : "images";
    const key = route.page === "dataset" ? tab : route.page;
    if (this.#shown?.key !== key) {
      this.#closePart();
      this.main.className = `main-${key}`;
      const part = this.#makePart(route.page, tab);
      this.#shown = { key, part };
    }
    this.tab = key;
    this.#shown.part.update?.(route);
    this.#drawSide();
    const title = this.#project ? `${this.#project.info.name} · ${TABS[tab].text}` : route.page === "docs" ? "API" : "Data sets";
    document.title = `${title} · imgcls studio`;
  }

  #makePart(page, tab) {
    if (page === "docs") return new DocsPage(this.main);
    if (page === "datasets") return new DataSets(this.main, this.#me);
    return new TABS[tab].make(this.main, this.#project);
  }

  #drawSide() {
    const project = this.#project;
    fill(this.picker, h("span", { class: "picker-text" }, project?.info.name ?? "Data sets"), icon("down"));
    this.nav.hidden = !project;
    if (!project) return;
    const counts = { images: project.counts.images, classes: project.classes.length };
    fill(
      this.nav,
      Object.entries(TABS).map(([tab, { text, icon: picture }]) =>
        h("a", { class: "tab", href: address(project.id, tab), "aria-current": this.tab === tab ? "page" : null },
          icon(picture), h("span", {}, text), counts[tab] !== undefined && h("span", { class: "tab-count" }, number(counts[tab])))),
    );
  }

  async #chooseDataSet() {
    const answer = await get("/api/datasets").catch((error) => (complain(error), null));
    if (!answer) return;
    const all = (answer.datasets ?? answer).filter((each) => !each.archived);
    openMenu(this.picker, {
      label: "Data sets", search: "Find a data set", create: this.#me.role === "owner" ? (name) => newDataSet(name) : null,
      items: [
        ...all.map((each) => ({ text: each.name, checked: each.id === this.#project?.id, run: () => go(address(each.id, "images")) })),
        { text: "All data sets", icon: "folder", separate: true, run: () => go("/") },
      ],
    });
  }

  #drawState() {
    const { state, waiting } = outbox;
    const texts = { saved: "All changes saved", saving: `Saving ${number(waiting)}…`, offline: `Not connected: ${number(waiting)} kept` };
    const lost = this.#project?.live === "lost" && state === "saved";
    this.state.dataset.state = lost ? "lost" : state;
    fill(this.state, h("span", { class: "lamp", "aria-hidden": "true" }), h("span", {}, lost ? "Connecting again…" : texts[state]));
  }

  #explainState() {
    const { state, waiting, problem } = outbox;
    if (state === "saved") toast("Everything is on the server's disk.", { key: "state" });
    else toast(`${number(waiting)} on the way; kept in this browser until the server has them. ${problem}`, { key: "state" });
  }

  /** A decision of an earlier page, or of one that nobody waits for, was refused. */
  #refused({ item, error }) {
    if (!item.body?.items) return;
    this.#project?.cells.touch(item.body.items.map(({ image }) => image));
    toast(`Not saved: ${item.what ?? "a change"}: ${error.message}`, { kind: "error", key: error.message });
  }

  #fail(error) {
    this.#closePart();
    if (!this.main.isConnected) fill(this.root, this.side, this.main);
    fill(this.main, h("div", { class: "empty" }, icon("flag"), h("h2", {}, "This could not be opened"), h("p", {}, error.message),
      h("a", { class: "button", href: "/" }, "All data sets"), button("Try again", { onclick: () => location.reload() })));
  }

  #askLogin() {
    if (this.root.querySelector(".login")) return;
    const problem = h("p", { class: "problem", role: "alert" });
    const token = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true, autofocus: true });
    const form = h(
      "form",
      { class: "login form" },
      h("img", { src: "/page/icon.svg", alt: "", width: 36, height: 36 }),
      h("h1", {}, "imgcls studio"),
      field("Your token", token, "It was shown when your user was added."),
      problem,
      button("Log in", { kind: "primary", type: "submit" }),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await post("/api/login", { token: token.value.trim() });
        location.reload();
      } catch (error) {
        fill(problem, error.message);
      }
    });
    this.#closeProject();
    fill(this.root, h("main", { class: "login-page" }, form));
    token.focus();
  }
}

new App(document.getElementById("app")).start();
