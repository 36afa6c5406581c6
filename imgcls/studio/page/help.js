// The overlay of keys, on `?`.

import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { listKeys } from "./keys.js";

export function showHelp() {
  const groups = [...listKeys()];
  const body = h(
    "div",
    { class: "help" },
    groups.map(([name, bindings]) =>
      h(
        "section",
        {},
        h("h3", {}, name),
        h(
          "dl",
          {},
          bindings.map(({ shown, keys, about }) => [
            h("dt", {}, (shown ?? keys[0]).split(" ").map((key) => h("kbd", {}, key))),
            h("dd", {}, about),
          ]),
        ),
      ),
    ),
  );
  return dialog({ title: "Keys", body, wide: true });
}
