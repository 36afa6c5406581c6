// Decisions on their way to the server. Each is kept in IndexedDB with its request id until the server
// acknowledges it: a lost network, a restart of the server or a closed page loses none, and sending
// one again changes nothing.

import { ApiError, call, requestId } from "./api.js";

const NAME = "imgcls-studio";
const PAUSES = [300, 700, 1500, 3000, 6000, 10000];

class Outbox extends EventTarget {
  #database = null;
  #items = []; // in the order of sending
  #promises = new Map(); // request id -> {resolve, reject}
  #revisions = new Map(); // image -> revision after the last acknowledged decision
  #running = false;
  #failures = 0;
  #wake = null;
  #last = 0;

  /** Why the last attempt failed; empty while all goes well. */
  problem = "";

  /** "saved", "saving" or "offline" (kept, and sent again soon). */
  get state() {
    return this.#items.length === 0 ? "saved" : this.#failures ? "offline" : "saving";
  }

  get waiting() {
    return this.#items.length;
  }

  /** Reads what an earlier page left unsent, and sends it. */
  async open() {
    this.#database = await openDatabase().catch(() => null);
    if (this.#database) {
      const kept = await inStore(this.#database, "readonly", (store) => store.getAll()).catch(() => []);
      this.#items = [...kept, ...this.#items];
    }
    addEventListener("online", () => this.#hurry());
    addEventListener("beforeunload", (event) => {
      // Without IndexedDB (some private windows) what is unsent would be lost.
      if (!this.#database && this.#items.length) event.preventDefault();
    });
    this.#changed();
    this.#run();
  }

  /** Queues a write. Resolves with the server's answer, rejects with its refusal.
   * `what` says in words what it does; a body's items with `image` are sent with the newest revision
   * that this page's own writes led to. */
  send(method, url, body, what) {
    const key = requestId();
    const item = { key, order: this.#next(), method, url, what, body: { request_id: key, ...body } };
    this.#items.push(item);
    const promise = new Promise((resolve, reject) => this.#promises.set(item.key, { resolve, reject }));
    // A failure is also told by an event, so nobody has to wait for the promise.
    promise.catch(() => {});
    this.#keep(item).then(() => this.#run());
    this.#changed();
    return promise;
  }

  /** The time, but never the same twice: the order of sending. */
  #next() {
    this.#last = Math.max(Date.now(), this.#last + 0.001);
    return this.#last;
  }

  async #keep(item) {
    if (this.#database) {
      await inStore(this.#database, "readwrite", (store) => store.put(item)).catch(() => {});
    }
  }

  async #run() {
    if (this.#running || !this.#items.length) return;
    this.#running = true;
    // Two pages of one browser share the store; a lock keeps the order of sending.
    if (navigator.locks) await navigator.locks.request(NAME, () => this.#drain());
    else await this.#drain();
    this.#running = false;
    this.#changed();
  }

  async #drain() {
    while (this.#items.length) {
      const item = this.#items[0];
      this.#changed();
      try {
        this.#finish(item, await call(item.method, item.url, this.#withRevisions(item)), null);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (isPassing(error)) await this.#pause(error);
        else this.#finish(item, null, error);
      }
    }
  }

  #withRevisions({ body, order }) {
    if (!body.items) return body;
    const items = body.items.map((item) => {
      const known = this.#revisions.get(item.image);
      return known && known.order >= order && item.revision !== null ? { ...item, revision: known.revision } : item;
    });
    return { ...body, items };
  }

  #finish(item, answer, error) {
    this.#failures = 0;
    this.problem = "";
    this.#items.shift();
    if (this.#database) inStore(this.#database, "readwrite", (store) => store.delete(item.key)).catch(() => {});
    // The number of a change is the revision of the images in it.
    for (const { image } of (answer && item.body.items) || []) this.#revisions.set(image, { revision: answer.seq, order: this.#next() });
    const promise = this.#promises.get(item.key);
    this.#promises.delete(item.key);
    if (answer) promise?.resolve(answer);
    else promise?.reject(error);
    this.dispatchEvent(new CustomEvent(answer ? "sent" : "refused", { detail: { item, answer, error } }));
  }

  async #pause(error) {
    this.problem = error.message;
    const wait = PAUSES[Math.min(this.#failures, PAUSES.length - 1)];
    this.#failures += 1;
    this.#changed();
    await new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, wait);
    });
  }

  #hurry() {
    this.#wake?.();
    this.#run();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Whether a failure may pass: no network, a restart, too many requests, an expired login, a full disk. */
const isPassing = (error) => [0, 401, 429, 502, 503, 504, 507].includes(error.status);

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore("outbox", { keyPath: "key" }).createIndex("order", "order");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function inStore(database, mode, use) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction("outbox", mode, { durability: "strict" });
    const request = use(transaction.objectStore("outbox"));
    transaction.oncomplete = () => {
      const { result } = request;
      resolve(Array.isArray(result) ? result.sort((a, b) => a.order - b.order) : result);
    };
    transaction.onerror = () => reject(transaction.error);
  });
}

export const outbox = new Outbox();
