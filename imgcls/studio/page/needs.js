// Orders that need something computed first: what is missing is said, and made at a click.

import { address, go } from "./router.js";
import { complain, toast } from "./toast.js";

/** Shows why an order was refused; `again` is called when what it needs is there. */
export function offer(project, error, again) {
  const needs = error.body?.needs;
  if (needs === "features" && project.may("reviewer")) {
    toast(error.message, { kind: "error", action: { text: "Compute them", run: () => compute(project, again) } });
  } else if (needs === "suggestions") {
    toast(error.message, { kind: "error", action: { text: "Open Train", run: () => go(address(project.id, "train")) } });
  } else complain(error);
}

async function compute(project, again) {
  try {
    const { id } = await project.send("features", {}, "compute features");
    toast("Features are being computed; the order comes by itself");
    project.addEventListener("run", function follow({ detail }) {
      if (detail.id !== id || !["done", "failed", "stopped"].includes(detail.state)) return;
      project.removeEventListener("run", follow);
      if (detail.state === "done") again();
      else toast(`Features: run ${id} ${detail.state}`, { kind: "error" });
    });
  } catch (error) {
    complain(error);
  }
}
