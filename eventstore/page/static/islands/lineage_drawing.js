// Draws what was laid out: cards for artifacts, joints for executions, and lets it be moved and zoomed.

import { shownText } from "./shown_text.js";

const SVG = "http://www.w3.org/2000/svg";
const CARD = { width: 134, height: 40 };
const STATED = 54;
const JOINT = 14;
const PLAIN_STATES = new Set(["", "LIVE", "COMPLETE", "UNKNOWN"]);
const STATE_SIGNS = { FAILED: "×", RUNNING: "◐", CANCELED: "⊘", CACHED: "↺", NEW: "○" };
const BAD_STATES = new Set(["FAILED", "MARKED_FOR_DELETION", "DELETED", "ABANDONED"]);
export const SIGNS = { added: "+", changed: "~", gone: "−", same: "" };

const SCALE_MIN = 0.1;
const SCALE_MAX = 3;
const FAR = 0.5;
const LEGIBLE = 0.75;
const EDGE = 20;
const SIDE = 56;

export function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// How large the layout has to take a shown node.
export function sizeOf(shown, state) {
  if (shown.form === "chain" || shown.form === "fold") return { width: 116, height: 26 };
  if (shown.kind === "execution") return { width: 76, height: 46 };
  if (shown.form === "stack") return { width: CARD.width + 6, height: CARD.height + 6 };
  return { width: CARD.width, height: PLAIN_STATES.has(state) ? CARD.height : STATED };
}

const pen = document.createElement("canvas").getContext("2d");
const { fontFamily } = getComputedStyle(document.body);
const widths = new Map();

// The text, with its middle left out where it is wider than so many pixels.
function fitted(text, width, size = "13px") {
  const font = `${size} ${fontFamily}`;
  const measure = (part) => {
    const name = `${font}${part}`;
    if (!widths.has(name)) {
      pen.font = font;
      widths.set(name, pen.measureText(part).width);
    }
    return widths.get(name);
  };
  if (measure(text) <= width) return text;
  const characters = [...text];
  let [low, high] = [1, characters.length];
  const cut = (kept) => `${characters.slice(0, Math.ceil(kept / 2)).join("")}…${characters.slice(characters.length - Math.floor(kept / 2)).join("")}`;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (measure(cut(middle)) <= width) low = middle;
    else high = middle - 1;
  }
  return cut(low);
}

function text(content, x, y, className, anchor = "start") {
  return element("text", { x, y, class: className, "text-anchor": anchor }, content);
}

function frame(width, height, mark, radius = 4) {
  const shapes = [element("rect", { x: -width / 2, y: -height / 2, width, height, rx: radius, class: "frame" })];
  // A second line within makes a double one.
  if (mark === "changed") {
    shapes.push(element("rect", { x: 4 - width / 2, y: 4 - height / 2, width: width - 8, height: height - 8, rx: 2, class: "second" }));
  }
  return shapes;
}

// The drawing of one shown node around its middle. `look`: mark, state, isErased, isThere, isSubject, title.
function shapesOf(shown, look) {
  const { width, height } = sizeOf(shown, look.state);
  const sign = SIGNS[look.mark];
  if (shown.form === "chain" || shown.form === "fold") {
    return [
      element("rect", { x: -width / 2, y: -height / 2, width, height, rx: 13, class: "frame" }),
      text(fitted(look.title, width - 16), 0, 4, "name", "middle"),
    ];
  }
  const count = shown.form === "stack" ? shown.members.length : 0;
  if (shown.kind === "execution") {
    const radius = count ? JOINT / 2 + 3 : JOINT / 2;
    const shapes = [element("circle", { r: radius, class: "frame" })];
    if (look.mark === "changed") shapes.push(element("circle", { r: radius - 3, class: "second" }));
    const inside = count ? String(count) : (STATE_SIGNS[look.state] ?? "");
    if (inside) shapes.push(text(inside, 0, 4, BAD_STATES.has(look.state) ? "inside bad" : "inside", "middle"));
    shapes.push(text(`${fitted(shownText(shown.type), width, "11px")}${sign && ` ${sign}`}`, 0, 22, "type", "middle"));
    return shapes;
  }
  const left = 8 - CARD.width / 2;
  const room = CARD.width - 16 - (sign ? 14 : 0);
  const shapes = [];
  if (count) {
    const under = (by) => element("rect", { x: by - CARD.width / 2, y: by - CARD.height / 2, width: CARD.width, height: CARD.height, rx: 4, class: "under" });
    shapes.push(under(6), under(3), ...frame(CARD.width, CARD.height, look.mark));
  } else shapes.push(...frame(width, height, look.mark));
  const top = -height / 2 + (count ? 3 : 0);
  shapes.push(text(fitted(look.title, room, look.isSubject ? "600 13px" : "13px"), left, top + 17, "name"));
  if (sign) shapes.push(text(sign, CARD.width / 2 - 9, top + 18, "sign", "end"));
  shapes.push(text(fitted(count ? "alike, in a stack" : shownText(shown.type), CARD.width - 16, "11px"), left, top + 33, "type"));
  if (!count && !PLAIN_STATES.has(look.state)) {
    const stated = text(look.isErased ? "erased" : look.state, left, top + 48, BAD_STATES.has(look.state) ? "state bad" : "state");
    // Squeezed, so that it can be read to its end.
    if (fitted(look.state, CARD.width - 16, "600 11px") !== look.state) {
      stated.setAttribute("textLength", CARD.width - 16);
      stated.setAttribute("lengthAdjust", "spacingAndGlyphs");
    }
    shapes.push(stated);
  }
  return shapes;
}

// Where lines begin and end beside a node's middle.
function reach(shown, state) {
  if (shown.form !== "chain" && shown.form !== "fold" && shown.kind === "execution") return shown.form === "stack" ? 10 : 7;
  return shown.form === "stack" ? CARD.width / 2 : sizeOf(shown, state).width / 2;
}

function path(points, from, to) {
  const way = points.map(([x, y]) => [x, y]);
  way[0][0] += from;
  way[way.length - 1][0] -= to;
  let said = `M${way[0][0]} ${way[0][1]}`;
  for (let place = 1; place < way.length; place += 1) {
    const [[x1, y1], [x2, y2]] = [way[place - 1], way[place]];
    const middle = (x1 + x2) / 2;
    said += `C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
  }
  return said;
}

// A drawing in a box. `told`: chosen(key), expand(key), entered(key) and the keys of `keyboard`.
export function makeDrawing(box, { choose, expand, open }) {
  const lines = element("g", { class: "lines" });
  const nodes = element("g", { class: "nodes" });
  const view = element("g", {}, lines, nodes);
  const canvas = element("svg", { class: "canvas", role: "group", "aria-label": box.dataset.label }, view);
  const map = element("svg", { class: "minimap", "aria-hidden": "true" });
  const percent = document.createElement("output");
  const tools = document.createElement("p");
  tools.className = "tools";
  box.replaceChildren(canvas, map, tools);

  const parts = new Map();
  let shownNow = { nodes: [], edges: [] };
  let layout = { width: 0, height: 0, places: [], lines: [] };
  let scale = 1;
  let [left, top] = [0, 0];
  let focused = null;
  let isWhole = true;

  const button = (label, title, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.setAttribute("aria-label", title);
    made.addEventListener("click", act);
    tools.append(made);
  };
  button("−", "Zoom out", () => zoom(scale / 1.25));
  button("+", "Zoom in", () => zoom(scale * 1.25));
  button("Fit", "Fit all into the box", () => fit());
  button("1:1", "Full size", () => zoom(1));
  tools.append(percent);

  const size = () => [canvas.clientWidth, canvas.clientHeight];

  function apply() {
    view.setAttribute("transform", `matrix(${scale} 0 0 ${scale} ${left} ${top})`);
    canvas.classList.toggle("far", scale < FAR);
    percent.textContent = `${Math.round(scale * 100)} %`;
    const [width, height] = size();
    const isTall = layout.height * scale > height;
    canvas.style.touchAction = isTall ? "none" : "pan-y";
    const isMapped = scale < FAR && (layout.width * scale > width || isTall);
    map.style.display = isMapped ? "" : "none";
    if (!isMapped) return;
    const seen = map.querySelector(".seen");
    seen?.setAttribute("x", -left / scale);
    seen?.setAttribute("y", -top / scale);
    seen?.setAttribute("width", width / scale);
    seen?.setAttribute("height", height / scale);
  }

  function zoom(to, [x, y] = size().map((length) => length / 2)) {
    const next = Math.min(SCALE_MAX, Math.max(SCALE_MIN, to));
    left = x - ((x - left) / scale) * next;
    top = y - ((y - top) / scale) * next;
    scale = next;
    isWhole = false;
    apply();
  }

  function fit(least = SCALE_MIN) {
    const [width, height] = size();
    const whole = Math.min((width - 2 * SIDE) / layout.width, (height - 2 * EDGE) / layout.height, 1);
    scale = Math.max(whole, least);
    left = (width - layout.width * scale) / 2;
    top = (height - layout.height * scale) / 2;
    isWhole = scale === whole;
    apply();
  }

  function placeOf(key) {
    return layout.places[shownNow.nodes.findIndex((node) => node.key === key)];
  }

  function centre(key) {
    const place = placeOf(key);
    if (!place) return;
    const [width, height] = size();
    left = width / 2 - place[0] * scale;
    top = height / 2 - place[1] * scale;
    apply();
  }

  // Moves the drawing only as far as the node needs to be seen.
  function reveal(key) {
    const place = placeOf(key);
    if (!place) return;
    const [width, height] = size();
    const [x, y] = [place[0] * scale + left, place[1] * scale + top];
    const half = 70 * scale + 8;
    if (x < half) left += half - x;
    if (x > width - half) left -= x - (width - half);
    if (y < half / 2) top += half / 2 - y;
    if (y > height - half / 2) top -= y - (height - half / 2);
    apply();
  }

  function begin(subject) {
    fit(LEGIBLE);
    if (!isWhole) {
      const [width, height] = size();
      scale = width < 500 ? 0.8 : 1;
      const [x, y] = placeOf(subject) ?? [0, 0];
      if (layout.width * scale > width - 2 * SIDE) {
        left = Math.min(SIDE, Math.max(width - SIDE - layout.width * scale, width / 2 - x * scale));
      }
      if (layout.height * scale > height - 2 * EDGE) {
        top = Math.min(EDGE, Math.max(height - EDGE - layout.height * scale, height / 2 - y * scale));
      }
    }
    apply();
  }

  // Shows a layout. `anchor` stays where it is on the screen; without one the drawing begins anew.
  function show(shown, laid, looks, { subject, anchor = null }) {
    const before = anchor === null ? null : placeOf(anchor);
    shownNow = shown;
    layout = laid;
    const after = anchor === null ? null : placeOf(anchor);
    const known = new Set(shown.nodes.map(({ key }) => key));
    // What is put in its order again loses the focus.
    const hadFocus = canvas.contains(document.activeElement);
    for (const [key, part] of parts) {
      if (known.has(key)) continue;
      part.remove();
      parts.delete(key);
    }
    for (const [number, node] of shown.nodes.entries()) {
      let part = parts.get(node.key);
      if (!part) {
        part = element("g", { role: "button", tabindex: "-1", "data-key": node.key });
        parts.set(node.key, part);
      }
      const [x, y] = laid.places[number];
      part.style.transform = `translate(${x}px, ${y}px)`;
      nodes.append(part);
    }
    box.style.setProperty("--drawn-height", `${Math.ceil(laid.height) + 2 * EDGE + 12}px`);
    mark(looks);
    drawMap();
    if (before && after) {
      left += (before[0] - after[0]) * scale;
      top += (before[1] - after[1]) * scale;
      apply();
    } else begin(subject);
    if (!parts.has(focused)) focused = shown.of.get(subject) ?? shown.nodes[0]?.key ?? null;
    for (const [key, part] of parts) part.setAttribute("tabindex", key === focused ? "0" : "-1");
    if (hadFocus) parts.get(focused)?.focus({ preventScroll: true });
  }

  // Draws marks, states and selection anew, where everything stays in its place.
  function mark({ nodes: looks, edges }) {
    for (const node of shownNow.nodes) {
      const look = looks.get(node.key);
      const part = parts.get(node.key);
      const classes = ["node", node.form, node.kind, look.mark];
      for (const name of ["isSubject", "isSelected", "isOnWay", "isErased"]) if (look[name]) classes.push(name);
      if (!look.isThere) classes.push("absent");
      part.setAttribute("class", classes.join(" "));
      part.setAttribute("aria-label", look.label);
      part.setAttribute("aria-pressed", String(look.isSelected));
      part.replaceChildren(...shapesOf(node, look));
      const { width, height } = sizeOf(node, look.state);
      part.append(element("rect", { x: -width / 2 - 4, y: -height / 2 - 4, width: width + 8, height: height + 8, rx: 7, class: "ring" }));
      if (node.beyond) {
        const side = look.isDownward ? 1 : -1;
        const said = `+${node.beyond.toLocaleString("en")}`;
        const pill = element("g", { class: "more", transform: `translate(${side * (reach(node, look.state) + 4)} ${node.kind === "execution" ? -14 : -height / 2 - 2})` });
        const long = 12 + said.length * 7;
        pill.append(element("rect", { x: side < 0 ? -long : 0, y: -9, width: long, height: 18, rx: 9 }), text(said, (side * long) / 2, 4, "count", "middle"));
        part.append(pill);
      }
    }
    const byKey = new Map(shownNow.nodes.map((node) => [node.key, node]));
    lines.replaceChildren(
      ...shownNow.edges.map((edge, number) => {
        const [source, target] = [byKey.get(edge.source), byKey.get(edge.target)];
        const from = reach(source, looks.get(edge.source).state);
        const to = reach(target, looks.get(edge.target).state);
        return element("path", { d: path(layout.lines[number], from, to), class: edges[number] });
      }),
    );
  }

  function drawMap() {
    map.setAttribute("viewBox", `${-EDGE} ${-EDGE} ${layout.width + 2 * EDGE} ${layout.height + 2 * EDGE}`);
    map.replaceChildren(
      ...shownNow.nodes.map((node, number) => {
        const [x, y] = layout.places[number];
        const [width, height] = node.kind === "execution" ? [30, 30] : [CARD.width, CARD.height];
        return element("rect", { x: x - width / 2, y: y - height / 2, width, height });
      }),
      element("rect", { class: "seen" }),
    );
  }

  function focus(key) {
    const part = parts.get(key);
    if (!part) return;
    parts.get(focused)?.setAttribute("tabindex", "-1");
    focused = key;
    part.setAttribute("tabindex", "0");
    part.focus({ preventScroll: true });
    reveal(key);
  }

  const keyAt = (target) => target.closest?.("[data-key]")?.dataset.key ?? null;

  let drag = null;
  const fingers = new Map();
  // How far apart two fingers are, and the point between them.
  function spread() {
    const [one, other] = [...fingers.values()];
    const { left: x, top: y } = canvas.getBoundingClientRect();
    return { apart: Math.hypot(one.x - other.x, one.y - other.y), at: [(one.x + other.x) / 2 - x, (one.y + other.y) / 2 - y] };
  }
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (event.pointerType === "touch") fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const isSecond = fingers.size > 1;
    drag = { x: event.clientX, y: event.clientY, left, top, moved: isSecond, id: isSecond ? null : event.pointerId };
    if (isSecond) for (const id of fingers.keys()) canvas.setPointerCapture(id);
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (finger && fingers.size === 2) {
      const before = spread();
      [finger.x, finger.y] = [event.clientX, event.clientY];
      const now = spread();
      left += now.at[0] - before.at[0];
      top += now.at[1] - before.at[1];
      zoom(scale * (now.apart / Math.max(before.apart, 1)), now.at);
    }
    if (!drag || event.pointerId !== drag.id) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    if (!drag.moved) canvas.setPointerCapture(event.pointerId);
    drag.moved = true;
    isWhole = false;
    [left, top] = [drag.left + dx, drag.top + dy];
    apply();
  });
  canvas.addEventListener("pointerup", (event) => {
    fingers.delete(event.pointerId);
    // A click follows, which is none where the drawing was moved.
    if (drag) drag.id = null;
  });
  canvas.addEventListener("pointercancel", (event) => {
    fingers.delete(event.pointerId);
    drag = null;
  });
  canvas.addEventListener("click", (event) => {
    const wasDrag = drag?.moved;
    drag = null;
    if (wasDrag) return;
    const key = keyAt(event.target);
    if (key === null) return;
    if (event.target.closest(".more")) expand(key);
    else {
      focus(key);
      choose(key, event);
    }
  });
  canvas.addEventListener("dblclick", (event) => {
    const key = keyAt(event.target);
    if (key !== null) open(key);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const { left: x, top: y } = canvas.getBoundingClientRect();
    zoom(scale * Math.exp(-event.deltaY / 300), [event.clientX - x, event.clientY - y]);
  }, { passive: false });
  map.addEventListener("pointerdown", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    const [width, height] = size();
    left = width / 2 - point.x * scale;
    top = height / 2 - point.y * scale;
    apply();
  });
  canvas.addEventListener("focusin", (event) => {
    const key = keyAt(event.target);
    if (key !== null && key !== focused) focus(key);
  });
  new ResizeObserver(() => {
    if (!layout.width) return;
    if (isWhole) fit();
    else apply();
  }).observe(canvas);

  return {
    show, mark, focus, centre, reveal, zoom, fit, canvas,
    place: (key) => placeOf(key),
    get focused() { return focused; },
    get scale() { return scale; },
  };
}
