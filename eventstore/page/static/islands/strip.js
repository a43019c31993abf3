// The strip of commits below the header: bars over time, and the moments as handles on it.
//
// A page that shows another moment by itself listens for `moment-moves` on the document: its detail
// has `name` (`at` or `until`), `time` in ms, `position` (null while a handle is dragged) and
// `is_final`. Such a page calls preventDefault(), and the page is not asked for again.

import { tellMoment } from "./moment_told.js";
import { axisOf, barsOf, minuteOf, scaleOf } from "./strip_scale.js";
import { asked } from "./asking.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 54;
const BARS = 36;
const REST_MS = 150;
const WINDOW = "strip-window";
const FOCUS = "strip-focus";
const BACK = new Set(["ArrowLeft", "ArrowDown", "PageUp", "Home"]);
const KEYS = new Set([...BACK, "ArrowRight", "ArrowUp", "PageDown", "End"]);

function element(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

export async function drawStrip(place) {
  const strip = new Strip(place);
  try {
    await strip.load(JSON.parse(sessionStorage.getItem(WINDOW) ?? "null"));
  } catch {
    // The page stands without it.
    place.hidden = true;
    return;
  }
  new ResizeObserver(() => strip.draw()).observe(place);
  const focused = sessionStorage.getItem(FOCUS);
  sessionStorage.removeItem(FOCUS);
  if (focused) strip.handles.get(focused)?.group.focus();
}

class Strip {
  constructor(place) {
    this.place = place;
    this.api = place.dataset.strip;
    this.svg = element("svg", { role: "group", "aria-label": "Commits over time" });
    this.back = element("g", { "aria-hidden": "true" });
    this.svg.append(this.back);
    place.append(this.svg);
    this.handles = new Map();
    this.stepping = Promise.resolve();
    this.ticks = JSON.parse(place.dataset.ticks || "[]");
    for (const name of ["at", "until"]) {
      const data = place.dataset[`${name}Moment`];
      if (data) this.handles.set(name, this.handle(name, JSON.parse(data)));
    }
    this.svg.addEventListener("wheel", (event) => this.zoom(event), { passive: false });
    this.svg.addEventListener("dblclick", () => this.reload(null));
    this.svg.addEventListener("click", (event) => this.clicked(event));
  }

  async load(window) {
    const query = new URLSearchParams();
    if (window) {
      query.set("since", new Date(window[0]).toISOString());
      query.set("before", new Date(window[1]).toISOString());
    }
    this.activity = await asked(`${this.api}/activity?${query}`);
    if (!this.activity.start) throw new Error("nothing is recorded");
    this.window = [Date.parse(this.activity.start), Date.parse(this.activity.end)];
    this.draw();
  }

  async reload(window) {
    if (window) sessionStorage.setItem(WINDOW, JSON.stringify(window));
    else sessionStorage.removeItem(WINDOW);
    await this.load(window).catch(() => {});
  }

  // Zooms into the time under the pointer.
  zoom(event) {
    event.preventDefault();
    const at = this.scale.time(event.clientX - this.svg.getBoundingClientRect().left);
    const factor = event.deltaY > 0 ? 1.4 : 1 / 1.4;
    const start = at - (at - this.window[0]) * factor;
    const end = at + (this.window[1] - at) * factor;
    const first = Date.parse(this.activity.first), last = Date.parse(this.activity.last);
    if (end - start < 10_000) return;
    this.window = [start, end];
    this.draw();
    clearTimeout(this.zooming);
    const isAll = start <= first && end > last;
    this.zooming = setTimeout(() => this.reload(isAll ? null : this.window), REST_MS);
  }

  draw() {
    const width = this.place.clientWidth - 2 * parseFloat(getComputedStyle(this.place).paddingLeft);
    if (!this.activity || width <= 0) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const margin = 10;
    const span = (this.window[1] - this.window[0]) || 1;
    const pad = (span / Math.max(1, width - 2 * margin)) * margin;
    this.scale = scaleOf(this.window[0] - pad, this.window[1] + pad, width);
    const at = this.handles.get("at"), until = this.handles.get("until");
    const newest = (until ?? at)?.moment.position ?? Infinity;
    const parts = [];
    for (const bar of barsOf(this.activity, this.scale, BARS)) {
      const isLater = bar.bucket.first_position > newest;
      parts.push(element("rect", {
        class: isLater ? "bar-later" : "bar", x: bar.left, y: bar.top, width: bar.width, height: bar.height,
      }));
    }
    this.between = element("rect", { class: "between", y: BARS + 1, height: 3 });
    if (at && until) parts.push(this.between);
    for (const tick of this.ticks) {
      const x = this.scale.place(tick.time);
      parts.push(element("line", { class: "tick", x1: x, x2: x, y1: BARS + 1, y2: BARS + 6 }));
    }
    for (const mark of axisOf(this.scale, Math.max(2, width / 90))) {
      if (mark.place > width - 36) continue;
      parts.push(element("text", { class: "axis", x: mark.place, y: HEIGHT - 3 }, mark.text));
    }
    this.back.replaceChildren(...parts);
    for (const handle of this.handles.values()) this.put(handle);
  }

  handle(name, moment) {
    const letter = this.place.dataset.untilMoment ? (name === "at" ? "A" : "B") : "";
    const group = element("g", {
      class: "handle", role: "slider", tabindex: "0", "data-name": name,
      "aria-label": letter ? `Moment ${letter}` : "Moment",
      "aria-valuemin": "1", "aria-valuemax": this.place.dataset.newest,
    });
    group.append(
      element("rect", { class: "reach", x: -12, y: 0, width: 24, height: HEIGHT, "fill-opacity": 0 }),
      element("line", { x1: 0, x2: 0, y1: 0, y2: BARS }),
      element("rect", { x: -8, y: 0, width: 16, height: 16, rx: 3 }),
      element("text", { x: 0, y: 12, "aria-hidden": "true" }, letter || "●"),
      element("text", { class: "label", x: 0, y: 12 }, ""),
    );
    const made = { name, group, moment: { ...moment, time: Date.parse(moment.recorded_at) } };
    made.here = made.moment.position;
    group.addEventListener("pointerdown", (event) => this.drag(made, event));
    group.addEventListener("keydown", (event) => this.press(made, event));
    this.svg.append(group);
    return made;
  }

  put(handle) {
    const { group, moment } = handle;
    const x = Math.max(8, Math.min(this.scale.width - 8, this.scale.place(moment.time)));
    group.setAttribute("transform", `translate(${x} 0)`);
    group.setAttribute("aria-valuenow", moment.position ?? handle.here);
    const said = [minuteOf(moment.time), moment.position && `position ${moment.position.toLocaleString("en")}`,
      moment.actor && `by ${moment.actor}`, moment.reason].filter(Boolean);
    group.setAttribute("aria-valuetext", said.join(", "));
    const label = group.querySelector(".label");
    label.textContent = moment.position === handle.here ? "" : minuteOf(moment.time);
    const onLeft = x > this.scale.width - 130;
    label.setAttribute("x", onLeft ? -14 : 14);
    label.style.textAnchor = onLeft ? "end" : "start";
    const at = this.handles.get("at"), until = this.handles.get("until");
    if (!at || !until) return;
    const from = this.scale.place(at.moment.time);
    this.between.setAttribute("x", from);
    this.between.setAttribute("width", Math.max(0, this.scale.place(until.moment.time) - from));
  }

  // A moment that is not on the other side of the other handle.
  within(handle, moment) {
    const other = this.handles.get(handle.name === "at" ? "until" : "at");
    if (!other) return moment;
    const isEarlier = (one, another) =>
      (one.position && another.position ? one.position < another.position : one.time < another.time);
    const isBeyond = handle.name === "at" ? isEarlier(other.moment, moment) : isEarlier(moment, other.moment);
    return isBeyond ? other.moment : moment;
  }

  // Only the label moves until the handle rests; then the page is asked for, in one go.
  moveTo(handle, moment, isFinal) {
    handle.moment = moment;
    this.put(handle);
    const moved = new CustomEvent("moment-moves", {
      cancelable: true,
      detail: { name: handle.name, time: moment.time, position: moment.position ?? null, is_final: isFinal },
    });
    clearTimeout(this.resting);
    const before = new URLSearchParams(location.search).get(handle.name);
    const isFollowed = !document.dispatchEvent(moved);
    if (isFollowed && isFinal) {
      handle.here = moment.position;
      tellMoment(handle.name, before, moment, Number(this.place.dataset.newest));
      this.draw();
    } else if (isFinal) this.resting = setTimeout(() => this.go(handle), REST_MS);
  }

  go(handle) {
    const address = new URL(location.href);
    const { moment, name } = handle;
    const isNow = moment.position === Number(this.place.dataset.newest);
    if (isNow && name === "at") address.searchParams.delete("at");
    else address.searchParams.set(name, moment.position ?? new Date(moment.time).toISOString());
    address.searchParams.delete("cursor");
    if (document.activeElement === handle.group) sessionStorage.setItem(FOCUS, name);
    location.assign(address);
  }

  drag(handle, event) {
    event.preventDefault();
    const { group } = handle;
    group.focus();
    group.setPointerCapture(event.pointerId);
    const left = this.svg.getBoundingClientRect().left;
    const first = Date.parse(this.activity.first), last = Date.parse(this.activity.last);
    let moved = false;
    const move = (next) => {
      if (!moved) handle = this.meant(handle, next.clientX - event.clientX);
      moved = true;
      const time = Math.min(last, Math.max(first, this.scale.time(next.clientX - left)));
      this.moveTo(handle, this.within(handle, { time, position: null }), false);
    };
    const end = () => {
      group.removeEventListener("pointermove", move);
      if (moved) this.settle(handle, handle.moment.time);
    };
    group.addEventListener("pointermove", move);
    group.addEventListener("lostpointercapture", end, { once: true });
  }

  // Of two handles at one place, the one that can go the way it is dragged.
  meant(handle, way) {
    const at = this.handles.get("at"), until = this.handles.get("until");
    if (!until || at.moment.position !== until.moment.position) return handle;
    return way < 0 ? at : until;
  }

  // A click on the strip moves the nearer handle there.
  clicked(event) {
    if (event.target.closest(".handle") || !this.scale || event.detail > 1) return;
    const first = Date.parse(this.activity.first), last = Date.parse(this.activity.last);
    const time = this.scale.time(event.clientX - this.svg.getBoundingClientRect().left);
    const distance = ({ moment }) => Math.abs(moment.time - time);
    const at = this.handles.get("at"), until = this.handles.get("until");
    const isLater = until && (distance(until) < distance(at) || time > until.moment.time);
    const handle = isLater ? until : at;
    // A double click shows all, so it is waited for.
    clearTimeout(this.clicking);
    this.clicking = setTimeout(() => {
      this.settle(handle, Math.min(last, Math.max(first, time)));
    }, 250);
    this.svg.addEventListener("dblclick", () => clearTimeout(this.clicking), { once: true });
  }

  // Rests at the last commit by a time: what the handle then shows is what the address says.
  async settle(handle, time) {
    handle.moment = { time, position: null };
    this.put(handle);
    const moment = await this.commitBy(time);
    // Meanwhile it may have been moved on.
    if (moment && handle.moment.time === time) this.moveTo(handle, this.within(handle, moment), true);
  }

  press(handle, event) {
    if (!KEYS.has(event.key)) return;
    event.preventDefault();
    const { key, shiftKey } = event;
    // Each step goes on from where the one before it has led.
    this.stepping = this.stepping.then(async () => {
      const moment = await this.stepped(handle, key, shiftKey);
      if (moment) this.moveTo(handle, this.within(handle, moment), true);
    });
  }

  async stepped(handle, key, isToTick) {
    const isBack = BACK.has(key);
    if (key === "Home") return this.commit(1);
    if (key === "End") return this.commitAt(Number(this.place.dataset.newest));
    if (isToTick) return this.stepToTick(handle, isBack);
    if (key.startsWith("Page")) return this.bucketFrom(handle, isBack);
    return this.commit((handle.moment.commit ?? 1) + (isBack ? -1 : 1));
  }

  async commit(number) {
    try {
      const { commit: one } = await asked(`${this.api}/commits/${number}?limit=1`);
      return { ...one, position: one.last_position, time: Date.parse(one.recorded_at) };
    } catch {
      return null;
    }
  }

  async commitAt(moment) {
    const { commits } = await asked(`${this.api}/commits?at=${moment}&limit=1`).catch(() => ({ commits: [] }));
    return commits.length ? this.commit(commits[0].commit) : null;
  }

  commitBy(time) {
    if (time >= Date.parse(this.activity.last)) return this.commitAt(Number(this.place.dataset.newest));
    // Times are stored in microseconds, of which a browser keeps the milliseconds.
    return this.commitAt(new Date(Math.floor(time) + 1).toISOString());
  }

  stepToTick(handle, isBack) {
    const ordered = this.ticks.toSorted((a, b) => a.commit - b.commit);
    const now = handle.moment.commit ?? 0;
    const found = isBack ? ordered.findLast((one) => one.commit < now) : ordered.find((one) => one.commit > now);
    if (!found) return null;
    handle.moment = found;
    this.put(handle);
    // What touches the page may lie inside of a commit.
    return this.commit(found.commit);
  }

  async bucketFrom(handle, isBack) {
    const { buckets } = this.activity;
    const now = handle.moment.position ?? 0;
    const found = isBack
      ? buckets.findLast((one) => one.last_position < now)
      : buckets.find((one) => one.last_position > now);
    return found ? this.commitAt(found.last_position) : null;
  }
}
