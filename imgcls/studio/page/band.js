// A rubber band: drawing a rectangle over the grid selects what it touches.

import { h } from "./dom.js";

const SLACK = 5;

/** Lets a grid select by a rectangle (mouse and pen) and by a long press (finger). */
export function band(grid) {
  const { element, space, selection } = grid;
  let start = null, box = null, before = null, last = null, timer = null, press = null;

  function point(event) {
    const frame = element.getBoundingClientRect();
    return [event.clientX - frame.left + element.scrollLeft, event.clientY - frame.top + element.scrollTop];
  }

  function draw() {
    const [x, y] = point(last);
    const [x0, x1] = [Math.min(start[0], x), Math.max(start[0], x)];
    const [y0, y1] = [Math.min(start[1], y), Math.max(start[1], y)];
    Object.assign(box.style, { left: `${x0}px`, top: `${y0}px`, width: `${x1 - x0}px`, height: `${y1 - y0}px` });
    selection.set(new Set([...before, ...grid.inside(x0, y0, x1, y1)]));
  }

  function scrollAtEdge() {
    const frame = element.getBoundingClientRect();
    const over = Math.max(0, last.clientY - frame.bottom + 30) - Math.max(0, frame.top + 30 - last.clientY);
    if (!over) return;
    element.scrollTop += Math.sign(over) * Math.min(40, Math.abs(over));
    draw();
  }

  function begin(event) {
    const adds = event.shiftKey || event.ctrlKey || event.metaKey;
    before = adds && !selection.all ? new Set(selection.ids) : new Set();
    box = h("div", { class: "band" });
    space.append(box);
    element.setPointerCapture(event.pointerId);
    timer = setInterval(scrollAtEdge, 30);
  }

  function end(event) {
    clearTimeout(press);
    clearInterval(timer);
    if (box) {
      box.remove();
      // The click that follows is not one on the image below the pointer.
      grid.dragged = true;
    } else if (start && event.type === "pointerup" && !event.target.closest(".cell") && event.pointerType === "mouse") {
      selection.clear();
    }
    start = box = null;
  }

  element.addEventListener("pointerdown", (event) => {
    grid.touch = event.pointerType === "touch";
    grid.dragged = false;
    if (grid.touch) {
      const id = Number(event.target.closest(".cell")?.dataset.id);
      press = setTimeout(() => id && selection.toggle(id), 500);
      return;
    }
    // The scroll bar is outside the content.
    const inside = event.clientX < element.getBoundingClientRect().left + element.clientWidth;
    if (event.button === 0 && inside) start = point(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (grid.touch) return;
    if (!start) return;
    last = event;
    const [x, y] = point(event);
    if (!box && Math.hypot(x - start[0], y - start[1]) > SLACK) begin(event);
    if (box) draw();
  });
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
  element.addEventListener("scroll", () => clearTimeout(press), { passive: true });
}
