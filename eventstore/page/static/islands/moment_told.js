// What the frame of a page says of a moment, once the page has followed a handle to another one.

import { minuteOf } from "./strip_scale.js";

const grouped = (number) => number.toLocaleString("en");

// `name` is `at` or `until`, `before` what the address had for it; `moment` is a commit, and `newest`
// the position of now.
export function tellMoment(name, before, moment, newest) {
  const said = String(moment.position);
  const tell = (what, text) => {
    for (const place of document.querySelectorAll(`[data-told-${what}="${name}"]`)) place.textContent = text;
  };
  const second = moment.recorded_at.slice(0, 19).replace("T", " ");
  tell("time", `${minuteOf(moment.time)} UTC`);
  tell("position", `position ${grouped(moment.position)}`);
  tell("reason", moment.reason ?? "");
  tell("commit", `Commit ${grouped(moment.commit)} by ${moment.actor ?? "nobody named"}, ${second} UTC`);
  tell("foot", `position ${grouped(moment.position)}, ${second} UTC`);
  // Those were about the commit before.
  for (const place of document.querySelectorAll(`[data-of-commit="${name}"]`)) place.hidden = true;
  const input = document.getElementById(`${name}-moment`);
  if (input) input.value = said;
  if (name === "at") tellPast(moment.position, newest);
  if (before === null) return;
  for (const link of document.querySelectorAll("a[href]")) {
    const address = new URL(link.href);
    if (address.origin !== location.origin || address.searchParams.get(name) !== before) continue;
    address.searchParams.set(name, said);
    link.setAttribute("href", `${address.pathname}${address.search}${address.hash}`);
  }
  for (const field of document.querySelectorAll(`input[type=hidden][name=${name}]`)) {
    if (field.value === before) field.value = said;
  }
}

function tellPast(position, newest) {
  const isPast = position < newest;
  document.documentElement.classList.toggle("past", isPast);
  for (const place of document.querySelectorAll("[data-past]")) place.hidden = !isPast;
  const mark = " at position ";
  const place = document.title.lastIndexOf(mark);
  if (place < 0) return;
  const after = document.title.slice(place + mark.length).replace(/^[\d,]+/, "");
  document.title = `${document.title.slice(0, place)}${isPast ? `${mark}${grouped(position)}` : ""}${after}`;
}
