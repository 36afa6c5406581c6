// The address is the state: `/d/3/images/17?class=2&sort=-confidence`.

export const router = new EventTarget();

/** The address in parts. */
export function current() {
  const parts = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  const query = new URLSearchParams(location.search);
  if (parts[0] === "docs") return { page: "docs", query };
  if (parts[0] !== "d" || !/^\d+$/.test(parts[1] ?? "")) return { page: "datasets", query };
  return { page: "dataset", dataset: Number(parts[1]), tab: parts[2] ?? "images", item: parts[3] ?? null, query };
}

/** Goes to an address; `replace` leaves no entry in the history. */
export function go(address, { replace = false } = {}) {
  if (address === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  router.dispatchEvent(new Event("change"));
}

/** The address of a tab of a data set. */
export function address(dataset, tab, item = null, query = null) {
  const text = query?.toString();
  return `/d/${dataset}/${tab}${item === null ? "" : `/${item}`}${text ? `?${text}` : ""}`;
}

/** Makes links of the page change the address without loading it anew. */
export function listen() {
  addEventListener("popstate", () => router.dispatchEvent(new Event("change")));
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!/^\/($|d\/|docs$)/.test(link.pathname) || (link.hash && link.pathname === location.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
