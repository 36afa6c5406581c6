// Calls of the studio's API.

/** An answer that refuses: `status` is 0 when the server could not be reached. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error ?? (status ? `the server answered ${status}` : "the server cannot be reached"));
    this.status = status;
    this.body = body ?? {};
  }
}

/** Told when the server asks for a login. */
export const login = new EventTarget();

/** Calls the API; returns the parsed answer.
 * @throws {ApiError} */
export async function call(method, url, body, options = {}) {
  const init = { method, credentials: "same-origin", headers: {}, ...options };
  if (body instanceof FormData || body instanceof Blob) init.body = body;
  else if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  let response, text;
  try {
    response = await fetch(url, init);
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    if (response.ok) throw new ApiError(response.status, { error: "the answer is not JSON" });
  }
  if (response.status === 401) login.dispatchEvent(new Event("needed"));
  if (!response.ok) throw new ApiError(response.status, answer);
  return answer;
}

export const get = (url, options) => call("GET", url, undefined, options);
export const post = (url, body, options) => call("POST", url, body, options);

/** A new request id. `randomUUID` exists in secure contexts alone, and a home may be served by plain HTTP. */
export function requestId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}
