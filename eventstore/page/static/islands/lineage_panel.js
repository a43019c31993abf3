// What is told beside the drawing of the node, stack or chain that was chosen.

import { differences } from "./lineage_marks.js";
import { shownText } from "./shown_text.js";

const MARKS = { added: "+ added", changed: "~ changed", gone: "− gone", same: "the same" };
const LISTED_MAX = 200;

export function made(name, properties = {}, ...children) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) one.setAttribute(key, value);
    else one[key] = value;
  }
  one.append(...children.filter((child) => child !== null && child !== ""));
  return one;
}

const button = (label, act, className = "") => {
  const one = made("button", { type: "button", className }, label);
  one.addEventListener("click", act);
  return one;
};

function valueText(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const shown = shownText(text.slice(0, 2000));
  return text.length > 2000 ? `${shown}… ${(text.length - 2000).toLocaleString("en")} more characters` : shown;
}

export function nameOf(node) {
  return node.name ? shownText(node.name) : `${node.kind} ${node.id}`;
}

function change({ field, before, after }) {
  const isSet = (value) => value !== null && value !== undefined;
  const value = made(
    "span",
    {},
    isSet(before) ? made("del", {}, valueText(before)) : null,
    isSet(before) && isSet(after) ? " → " : null,
    isSet(after) ? made("ins", {}, valueText(after)) : made("span", { className: "quiet" }, " is gone"),
  );
  return made("li", {}, made("code", {}, shownText(field)), value);
}

function said(version, address) {
  const time = version.recorded_at ? `${version.recorded_at.slice(0, 16).replace("T", " ")} UTC` : "";
  const position = made("a", { href: address(`/commits/${version.commit}`) }, `position ${version.position.toLocaleString("en")}`);
  const parts = [
    made("strong", {}, version.actor === null ? "nobody named" : shownText(version.actor)),
    time ? made("time", { dateTime: version.recorded_at }, time) : null,
    version.request_id ? made("span", { className: "chip" }, shownText(version.request_id)) : null,
    position,
  ];
  const line = made("p", { className: "line" }, ...parts.filter(Boolean));
  return version.reason ? [line, made("p", {}, shownText(version.reason))] : [line];
}

// `told`: answer, first, second, look, way (nodes), hrefOf, address, and what can be done.
export function nodePanel(node, { answer, first, second, look, way, hrefOf, address, actions }) {
  const parts = [
    made("h2", { tabIndex: -1 }, nameOf(node)),
    made("p", { className: "quiet" }, `${shownText(node.type)}, ${node.kind} `, made("span", { className: "mono" }, String(node.id))),
  ];
  const marks = made("p", { className: "line" });
  if (look.mark !== "same") marks.append(made("span", { className: `chip chip-${look.mark}` }, MARKS[look.mark]));
  if (look.state) marks.append(made("span", { className: "state" }, look.isErased ? "erased" : look.state));
  else if (look.isErased) marks.append("erased");
  if (!look.isThere) marks.append(made("span", { className: "chip" }, "not yet part of it"));
  if (marks.childNodes.length) parts.push(marks);
  const changed = differences(node, first, second);
  if (changed.length) parts.push(made("ul", { className: "changes" }, ...changed.map(change)));
  const versions = node.versions.filter((version) => version.position > first && version.position <= second && version.recorded_at);
  for (const version of versions.slice(-5).reverse()) parts.push(...said(version, address));
  const more = versions.length - 5 + node.versions_left_out;
  if (more > 0) parts.push(made("p", { className: "quiet" }, `and ${more} more versions between the moments`));
  if (way.length > 1) {
    const steps = way.flatMap((one, place) => [
      place ? " · " : "",
      one.key === node.key ? nameOf(one) : made("a", { href: hrefOf(one) }, nameOf(one)),
    ]);
    parts.push(made("h3", {}, "Its way to the subject"), made("p", { className: "way" }, ...steps));
  }
  const newest = node.versions.findLast((version) => version.position <= second) ?? node.versions[0];
  parts.push(
    made(
      "p",
      { className: "actions" },
      made("a", { className: "button", href: hrefOf(node) }, "Open"),
      made("a", { className: "button", href: `${hrefOf(node)}#history` }, "History"),
      made("a", { className: "button", href: address(`/records/${newest.position}/proof`) }, "Prove"),
      node.key === answer.subject ? null : made("a", { className: "button", href: actions.lineageOf(node) }, "Centre here"),
      actions.expand && node.beyond ? button(`Fetch ${node.beyond.toLocaleString("en")} more`, actions.expand) : null,
      actions.putBack ? button("Back into the stack", actions.putBack) : null,
    ),
  );
  return parts;
}

export function stackPanel(shown, members, { hrefOf, actions }) {
  const find = made("input", { type: "search", placeholder: "Find among them", autocomplete: "off", "aria-label": "Find among them" });
  const list = made("ul", { className: "members" });
  const fill = () => {
    const sought = find.value.trim().toLowerCase();
    const found = members.filter((node) => nameOf(node).toLowerCase().includes(sought) || String(node.id) === sought);
    list.replaceChildren(
      ...found.slice(0, LISTED_MAX).map((node) =>
        made("li", {}, made("a", { href: hrefOf(node) }, nameOf(node)), " ", button("Pull out", () => actions.pullOut(node)))),
    );
    if (found.length > LISTED_MAX) list.append(made("li", { className: "quiet" }, `and ${found.length - LISTED_MAX} more: say more of the name`));
    if (!found.length) list.append(made("li", { className: "quiet" }, "None of them is called so."));
  };
  find.addEventListener("input", fill);
  fill();
  return [
    made("h2", { tabIndex: -1 }, `${members.length} × ${shownText(shown.type)}`),
    made("p", { className: "quiet" }, "Their type, state and mark are the same, and so is what they are linked with."),
    made("p", { className: "actions" }, button("Open the stack", actions.openStack)),
    find,
    list,
  ];
}

export function chainPanel(steps, actions) {
  return [
    made("h2", { tabIndex: -1 }, `… ${steps} steps`),
    made("p", { className: "quiet" }, "One after the other, all of the same types."),
    made(
      "p",
      { className: "actions" },
      button("Open 5 at the left", actions.openLeft),
      button("Open 5 at the right", actions.openRight),
      button("Open all", actions.openAll),
    ),
  ];
}

export function foldPanel(count, actions) {
  return [
    made("h2", { tabIndex: -1 }, `${count} hidden`),
    made("p", { className: "actions" }, button("Show what is hidden", actions.showAll)),
  ];
}
