// The drawing of a lineage, its panel and its switches. What a reader sees is in the address.

import { makeDrawing, SIGNS, sizeOf } from "./lineage_drawing.js";
import { openedIn, shownGraph } from "./lineage_groups.js";
import { marksBetween } from "./lineage_marks.js";
import { chainPanel, foldPanel, made, nameOf, nodePanel, stackPanel } from "./lineage_panel.js";
import { placesOf } from "./lineage_places.js";
import { nextNode, waysBetween, wayBetween } from "./lineage_ways.js";
import { shownText } from "./shown_text.js";

const WEIGHT = ["same", "gone", "added", "changed"];

const isNode = (text) => /^(artifact|execution)\//.test(text);

// Whole numbers that a browser cannot hold stay the text that they are.
function exactly(text) {
  return JSON.parse(text, (_, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) ? (context?.source ?? String(value)) : value);
}

const readable = (query) => query.toString().replaceAll("%2F", "/").replaceAll("%2C", ",");

function momentsIn({ search }) {
  const query = new URLSearchParams(search);
  return Object.fromEntries(["at", "until"].filter((name) => query.has(name)).map((name) => [name, query.get(name)]));
}

async function showLineage(box) {
  const page = box.closest("[data-lineage-page]");
  const panel = page.querySelector("[data-lineage-panel]");
  const notes = page.querySelector("[data-lineage-notes]");
  const embedded = page.querySelector("script[type='application/json']");
  let answer = embedded ? exactly(embedded.textContent) : await fetched(new URLSearchParams(momentsIn(location)));
  if (answer === null) return;
  let byKey = new Map(answer.nodes.map((node) => [node.key, node]));
  let [first, second] = [answer.first, answer.second];
  const isTwo = new URLSearchParams(location.search).has("until");
  let marks = marksBetween(answer, first, second);
  let shown = null;
  let layout = null;
  for (const hidden of page.querySelectorAll("[data-scripted][hidden]")) hidden.hidden = false;
  box.hidden = false;
  let asked = stateIn(location);

  const drawing = makeDrawing(box, { choose: (key) => choose(key), expand: (key) => expand(key), open: (key) => openNode(key) });

  function stateIn({ search }) {
    const query = new URLSearchParams(search);
    return {
      open: (query.get("open") ?? "").split(",").filter(Boolean),
      hide: new Set((query.get("hide") ?? "").split(",").filter((mark) => WEIGHT.includes(mark))),
      isGrouped: query.get("alike") !== "apart",
      selected: query.get("select"),
    };
  }

  function addressOf({ open, hide, isGrouped, selected }) {
    const query = new URLSearchParams(location.search);
    const set = (name, value) => (value ? query.set(name, value) : query.delete(name));
    set("open", open.join(","));
    set("hide", [...hide].join(","));
    set("alike", isGrouped ? "" : "apart");
    set("select", selected);
    const said = readable(query);
    return `${location.pathname}${said ? "?" : ""}${said}`;
  }

  function note(changes) {
    asked = { ...asked, ...changes };
    history.pushState(null, "", addressOf(asked));
  }

  // An address below the store's, at the moments of the page.
  function address(path, more = {}) {
    const query = new URLSearchParams({ ...more, ...momentsIn(location) });
    return `${box.dataset.prefix}${path}${query.size ? "?" : ""}${query}`;
  }

  const hrefOf = (node) => address(`/${node.kind}s/${node.id}`);
  const lineageOf = (node) => address(`/${node.kind}s/${node.id}/lineage`, { direction: answer.direction });

  function heaviest(keys) {
    return WEIGHT[Math.max(...keys.map((key) => WEIGHT.indexOf(marks.get(key).mark)))];
  }

  function titleOf(one) {
    if (one.form === "stack") return `${one.members.length} × ${shownText(one.type)}`;
    if (one.form === "chain") return `… ${stepsOf(one)} steps`;
    if (one.form === "fold") return `${one.members.length} hidden`;
    return nameOf(byKey.get(one.key));
  }

  const stepsOf = (one) => one.members.filter((key) => key.startsWith("execution/")).length;

  // How each shown node and each edge looks at the moments, and with the selection.
  function looks() {
    const chosen = chosenNow()?.key ?? null;
    const ways = chosen === null ? new Set() : waysBetween(shown, chosen, shown.of.get(answer.subject) ?? chosen);
    const nodes = new Map();
    for (const one of shown.nodes) {
      const alone = one.form === "node" ? marks.get(one.key) : null;
      const mark = one.form === "fold" ? "same" : (alone?.mark ?? heaviest(one.members));
      const title = titleOf(one);
      const said = one.form === "node" ? `${one.type} ${one.key.replace("/", " ")}` : "";
      const look = {
        mark,
        title,
        state: alone?.state ?? "",
        isErased: alone?.isErased ?? false,
        isThere: one.members.some((key) => marks.get(key).isThere),
        isSubject: one.members.includes(answer.subject),
        isSelected: one.key === chosen,
        isOnWay: ways.has(one.key),
        isDownward: answer.direction === "downstream",
      };
      const told = [title, shownText(said), look.state, mark === "same" ? "" : mark, look.isThere ? "" : "not yet part of it", one.beyond ? `${one.beyond} more beyond` : ""];
      nodes.set(one.key, { ...look, label: told.filter(Boolean).join(", ") });
    }
    const edges = shown.edges.map(({ source, target, since }) => {
      const classes = [];
      if (since > second || !nodes.get(source).isThere || !nodes.get(target).isThere) classes.push("absent");
      else if (since > first) classes.push("added");
      if (ways.has(source) && ways.has(target)) classes.push("isOnWay");
      return classes.join(" ");
    });
    return { nodes, edges };
  }

  // What is shown of the selection: a node, or the stack, chain or fold that it names or is in.
  function chosenNow() {
    const named = shown.nodes.find((one) => one.key === asked.selected);
    return named ?? shown.nodes.find((one) => one.key === shown.of.get(asked.selected)) ?? null;
  }

  async function draw({ anchor = null } = {}) {
    const loaded = marksBetween(answer, answer.first, answer.second);
    const options = { isGrouped: asked.isGrouped, hiddenMarks: asked.hide, opened: openedIn(asked.open), selected: asked.selected };
    const next = shownGraph(answer, loaded, options);
    const sized = next.nodes.map((one) => ({ key: one.key, ...sizeOf(one, statedLongest(one)) }));
    box.setAttribute("aria-busy", "true");
    const laid = await placesOf(sized, next.edges.map(({ source, target }) => ({ source, target })));
    // Where a group was opened or closed, what has taken its place stays where it was.
    const kept = anchor === null ? null : [anchor, next.of.get(anchor), shown?.of.get(anchor)].find((key) => key && drawing.place(key) && next.nodes.some((one) => one.key === key));
    shown = next;
    layout = laid;
    drawing.show(shown, laid, looks(), { subject: shown.of.get(answer.subject) ?? subjectOfContext(), anchor: kept ?? null });
    box.setAttribute("aria-busy", "false");
    box.dataset.drawn = String(shown.nodes.length);
    tellLimits(laid.isPlain);
    tellAround();
  }

  const subjectOfContext = () => shown.nodes[0]?.key;

  // The tallest that a node gets at any moment, so that it keeps its place.
  function statedLongest(one) {
    if (one.form !== "node") return "";
    const node = byKey.get(one.key);
    const stated = node.versions.find((version) => version.is_erased || !["", "LIVE", "UNKNOWN", "COMPLETE"].includes(version.state));
    return stated ? stated.state || "erased" : "";
  }

  function tellLimits(isPlain) {
    const said = [];
    if (isPlain) said.push("In plain columns by depth: the better layout took more than 1.5 s.");
    if (shown.left) said.push(`${shown.left.toLocaleString("en")} nodes are not drawn: the nearest ${shown.nodes.length} are.`);
    notes.replaceChildren(...said.map((text) => made("p", { className: "notice" }, text)));
  }

  // Everything that tells of the moments or of the selection, but for the places of nodes.
  function tell() {
    drawing.mark(looks());
    tellAround();
  }

  function tellAround() {
    tellChips();
    tellRows();
    tellMoments();
    tellPanel();
    tellLink();
  }

  // What is copied as a link says all of this, and pins now.
  function tellLink() {
    const query = new URLSearchParams(location.search);
    if (!query.has("at")) query.set("at", first);
    for (const one of document.querySelectorAll("[data-copy-is='address']")) {
      one.dataset.copy = `${location.pathname}?${readable(query)}`;
    }
  }

  // Where a handle was followed, texts in the tables and commands are still those of the moments before.
  function tellMoments() {
    const place = page.querySelector("[data-followed]");
    if (!place) return;
    place.hidden = first === answer.first && second === answer.second;
    const [now, before] = [[first, second], [answer.first, answer.second]].map((two) =>
      two.map((position) => position.toLocaleString("en")).join(" to "));
    place.replaceChildren(
      `Drawing and marks: position ${now}. Tables and commands: ${before}. `,
      made("a", { href: location.href }, "Show these, too"),
    );
  }

  function tellChips() {
    for (const chip of page.querySelectorAll("[data-mark]")) {
      const { mark } = chip.dataset;
      const count = [...marks.values()].filter((one) => one.mark === mark && one.isThere).length;
      chip.querySelector("[data-count]").textContent = count.toLocaleString("en");
      chip.setAttribute("aria-pressed", String(!asked.hide.has(mark)));
    }
    page.querySelector("[data-alike]")?.setAttribute("aria-pressed", String(asked.isGrouped));
    page.querySelector("[data-only]")?.setAttribute("aria-pressed", String(asked.hide.has("same")));
  }

  function tellRows() {
    for (const row of page.querySelectorAll("tr[data-key]")) {
      const look = marks.get(row.dataset.key);
      if (!look) continue;
      row.dataset.marked = look.mark;
      row.classList.toggle("absent", !look.isThere);
      const place = row.querySelector("[data-sign]");
      if (place) place.textContent = look.mark === "same" ? "" : `${SIGNS[look.mark]} ${look.mark}`;
    }
  }

  function tellPanel() {
    const one = chosenNow();
    panel.hidden = !one;
    page.classList.toggle("with-panel", Boolean(one));
    if (!one) return panel.replaceChildren();
    const close = made("button", { type: "button", className: "close" }, "Close");
    close.addEventListener("click", () => unselect());
    panel.replaceChildren(close, ...partsOf(one));
  }

  function partsOf(one) {
    const keep = (...texts) => [...asked.open.filter((text) => !texts.includes(text)), ...texts];
    if (one.form === "stack") {
      const actions = {
        openStack: () => reopen(keep(`group/${one.members[0]}`), one.members[0], one.members[0]),
        pullOut: (node) => reopen(keep(`alone/${node.key}`), node.key, node.key),
      };
      return stackPanel(one, one.members.map((key) => byKey.get(key)), { hrefOf, actions });
    }
    if (one.form === "chain") {
      const steps = stepsOf(one);
      const { left = 1, right = 1 } = openedIn(asked.open).chains.get(one.key) ?? {};
      const opened = (more, other) => {
        const others = asked.open.filter((text) => !text.startsWith(`${one.key}/`));
        reopen([...others, `${one.key}/${left + more}/${right + other}`], null, one.members[0]);
      };
      return chainPanel(steps, { openLeft: () => opened(5, 0), openRight: () => opened(0, 5), openAll: () => opened(steps, 0) });
    }
    if (one.form === "fold") {
      return foldPanel(one.members.length, { showAll: () => rehide(new Set()) });
    }
    const node = byKey.get(one.key);
    const way = wayBetween(shown, one.key, shown.of.get(answer.subject) ?? one.key).map((key) => byKey.get(key)).filter(Boolean);
    const pulled = asked.open.includes(`alone/${node.key}`) ? `alone/${node.key}` : asked.open.find((text) => text.startsWith("group/") && alikeIn(text, node.key));
    const actions = {
      lineageOf,
      expand: canExpand(node) ? () => expand(node.key) : null,
      putBack: pulled ? () => reopen(asked.open.filter((text) => text !== pulled), null, node.key) : null,
    };
    return nodePanel(node, { answer, first, second, look: marks.get(node.key), way, hrefOf, address, actions });
  }

  // Whether a node would be in the stack that was opened.
  function alikeIn(text, key) {
    const open = asked.open.filter((other) => other !== text);
    const options = { isGrouped: true, hiddenMarks: asked.hide, opened: openedIn(open), selected: null };
    const { of } = shownGraph(answer, marksBetween(answer, answer.first, answer.second), options);
    const group = of.get(key);
    return group?.startsWith("stack/") && group === of.get(text.slice("group/".length));
  }

  const canExpand = (node) => Boolean(box.dataset.api) && node.beyond > 0 && !asked.open.includes(node.key);

  function choose(key) {
    note({ selected: key });
    tell();
  }

  function unselect() {
    if (asked.selected === null) return;
    const key = chosenNow()?.key;
    note({ selected: null });
    tell();
    if (key) drawing.focus(key);
  }

  async function reopen(open, selected, anchor) {
    note({ open, selected });
    await draw({ anchor });
    drawing.focus(shown.of.get(anchor));
  }

  async function rehide(hide) {
    note({ hide });
    await draw({ anchor: answer.subject });
  }

  function openNode(key) {
    const one = shown.nodes.find((node) => node.key === key);
    if (one.form === "stack") reopen([...asked.open, `group/${one.members[0]}`], null, one.members[0]);
    else if (one.form === "node") location.assign(hrefOf(byKey.get(key)));
  }

  // Fetches what lies beyond a node, as the address then says, and draws it in place.
  async function expand(key) {
    const one = shown.nodes.find((node) => node.key === key);
    if (one?.form !== "node" || !canExpand(byKey.get(key))) return choose(key);
    note({ open: [...asked.open, key], selected: null });
    await reload(key);
  }

  // Asks for the moments of the answer at hand, which the address may have left since.
  async function reload(anchor) {
    const query = new URLSearchParams({ at: answer.first });
    if (isTwo) query.set("until", answer.second);
    const here = new URLSearchParams(location.search);
    for (const name of ["direction", "hops", "limit"]) if (here.has(name)) query.set(name, here.get(name));
    query.set("open", asked.open.filter(isNode).join(","));
    const said = await fetched(query);
    if (said === null) return;
    answer = said;
    byKey = new Map(answer.nodes.map((node) => [node.key, node]));
    marks = marksBetween(answer, first, second);
    await draw({ anchor });
    if (anchor !== null) drawing.focus(shown.of.get(anchor));
  }

  async function fetched(query) {
    box.setAttribute("aria-busy", "true");
    const reply = await fetch(`${box.dataset.api}?${query}`, { headers: { Accept: "application/json" } });
    const said = exactly(await reply.text());
    box.setAttribute("aria-busy", "false");
    if (reply.ok) return said;
    notes.replaceChildren(made("p", { className: "notice notice-bad" }, said.detail ?? said.title ?? reply.statusText));
    return null;
  }

  // Follows a handle of the strip between the moments of the answer, which holds all versions in between.
  document.addEventListener("moment-moves", (event) => {
    if (!isTwo) return;
    const { name, time, position, is_final: isFinal } = event.detail;
    const moved = position ?? positionAt(time);
    const [one, other] = name === "at" ? [moved, second] : [first, moved];
    // What lies outside is asked for once the handle rests there.
    if (one < answer.first || other > answer.second || one > other) return;
    event.preventDefault();
    [first, second] = [one, other];
    marks = marksBetween(answer, first, second);
    if (isFinal) {
      const query = new URLSearchParams(location.search);
      query.set(name, moved);
      history.replaceState(null, "", `${location.pathname}?${readable(query)}`);
    }
    tell();
  });

  // The newest position by a time at which nothing of the answer is yet that came later.
  function positionAt(time) {
    const later = answer.nodes
      .flatMap((node) => node.versions)
      .filter((version) => version.recorded_at && Date.parse(version.recorded_at) > time)
      .map((version) => version.position - 1);
    return Math.max(answer.first, Math.min(answer.second, ...later));
  }

  drawing.canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = drawing.focused;
    const act = {
      Enter: () => choose(key),
      " ": () => choose(key),
      Escape: () => unselect(),
      e: () => (shown.nodes.find((node) => node.key === key)?.form === "node" ? expand(key) : openNode(key)),
      g: () => regroup(),
      f: () => drawing.centre(key),
      d: () => nextDifference(key),
      "+": () => drawing.zoom(drawing.scale * 1.25),
      "-": () => drawing.zoom(drawing.scale / 1.25),
      0: () => drawing.fit(),
    }[event.key];
    if (act) act();
    else if (event.key.startsWith("Arrow")) {
      const next = nextNode(shown, layout.places, key, event.key);
      if (next !== null) drawing.focus(next);
    } else return;
    event.preventDefault();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") unselect();
  });

  function nextDifference(key) {
    const { nodes: looking } = looks();
    const differing = shown.nodes.filter((one) => looking.get(one.key).mark !== "same").map((one) => one.key);
    if (!differing.length) return;
    drawing.focus(differing[(differing.indexOf(key) + 1) % differing.length]);
  }

  async function regroup() {
    note({ isGrouped: !asked.isGrouped });
    await draw({ anchor: answer.subject });
  }

  page.querySelector("[data-alike]")?.addEventListener("click", regroup);
  page.querySelector("[data-only]")?.addEventListener("click", () => rehide(asked.hide.has("same") ? new Set() : new Set(["same"])));
  for (const chip of page.querySelectorAll("[data-mark]")) {
    chip.addEventListener("click", () => {
      const hide = new Set(asked.hide);
      if (!hide.delete(chip.dataset.mark)) hide.add(chip.dataset.mark);
      rehide(hide);
    });
  }
  addEventListener("popstate", async () => {
    const before = asked;
    asked = stateIn(location);
    if (before.open.filter(isNode).join() !== asked.open.filter(isNode).join()) await reload(answer.subject);
    else await draw({ anchor: answer.subject });
  });
  await draw();
}

for (const box of document.querySelectorAll("[data-lineage]")) {
  const button = box.parentElement.querySelector("[data-draw]");
  if (!button) showLineage(box);
  else {
    button.hidden = false;
    button.addEventListener("click", () => {
      button.remove();
      showLineage(box);
    });
  }
}
