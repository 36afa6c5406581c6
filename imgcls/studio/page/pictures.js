// Loads the pictures of cells that stay. A cell that is scrolled past asks for nothing: its picture is
// requested once it has rested for 60 ms, those on the screen first, a few at a time.

const REST = 60;
const AT_ONCE = 4;
const KNOWN = 20000;

export class Pictures {
  #waiting = new Map(); // img -> {url, since, tries}
  #loading = new Map(); // img -> url
  #known = new Set();
  #timer = null;

  /** `isVisible(img)` says whether a picture is on the screen now. */
  constructor(isVisible) {
    this.isVisible = isVisible;
  }

  /** Asks for a picture. One that was loaded before comes from the browser's cache at once. */
  show(img, url) {
    if (img.dataset.url === url) return;
    this.drop(img);
    img.dataset.url = url;
    if (this.#known.has(url)) {
      img.onload = () => img.classList.add("loaded");
      img.onerror = () => this.#forget(img, url);
      img.src = url;
      return;
    }
    this.#waiting.set(img, { url, since: now(), tries: 0 });
    this.#later();
  }

  /** Forgets a picture, also one on its way. */
  drop(img) {
    if (!img.dataset.url) return;
    delete img.dataset.url;
    this.#waiting.delete(img);
    img.onload = img.onerror = null;
    img.removeAttribute("src");
    img.classList.remove("loaded", "failed");
    if (this.#loading.delete(img)) this.#later();
  }

  #forget(img, url) {
    this.#known.delete(url);
    delete img.dataset.url;
    this.show(img, url);
  }

  #later() {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#start();
      if (this.#waiting.size && this.#loading.size < AT_ONCE) this.#later();
    }, 15);
  }

  #start() {
    const ready = [...this.#waiting].filter(([, entry]) => now() - entry.since >= REST);
    const [seen, near] = [[], []];
    for (const entry of ready) (this.isVisible(entry[0]) ? seen : near).push(entry);
    for (const [img, entry] of [...seen, ...near]) {
      if (this.#loading.size >= AT_ONCE) return;
      this.#load(img, entry);
    }
  }

  #load(img, entry) {
    this.#waiting.delete(img);
    this.#loading.set(img, entry.url);
    img.onload = () => {
      img.classList.add("loaded");
      if (this.#known.size > KNOWN) this.#known.clear();
      this.#known.add(entry.url);
      this.#done(img);
    };
    img.onerror = () => {
      this.#done(img);
      img.removeAttribute("src");
      if (entry.tries >= 3) img.classList.add("failed");
      else this.#waiting.set(img, { ...entry, since: now() + 800 * (entry.tries + 1), tries: entry.tries + 1 });
      this.#later();
    };
    img.src = entry.url;
  }

  #done(img) {
    this.#loading.delete(img);
    this.#later();
  }
}

const now = () => performance.now();
