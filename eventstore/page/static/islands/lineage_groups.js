// What of a lineage is drawn: alike siblings become one stack, long chains a card, what is hidden a fold.
// A shown node is { key, form, kind, type, members, hops }; `form` is node, stack, chain or fold.

export const NODES_MAX = 500;
const ALIKE_MIN = 3;
const STEPS_MIN = 5;
const ADDED_ALONE_MAX = 40;

function push(map, key, value) {
  if (!map.has(key)) map.set(key, []);
  map.get(key).push(value);
}

// For each node of `keys`, by `of`, the groups before and after it.
function neighbours(links, of) {
  const before = new Map();
  const after = new Map();
  for (const { source, target } of links) {
    const [from, to] = [of.get(source), of.get(target)];
    if (from === to) continue;
    push(after, source, to);
    push(before, target, from);
  }
  return { before, after };
}

function groupsOf(of) {
  const groups = new Map();
  for (const [key, group] of of) push(groups, group, key);
  return groups;
}

// The nodes that are hidden, as connected components, by the key of their first member.
function folded(nodes, links, isHidden) {
  const near = new Map();
  for (const { source, target } of links) {
    if (!isHidden.has(source) || !isHidden.has(target)) continue;
    push(near, source, target);
    push(near, target, source);
  }
  const of = new Map();
  for (const { key } of nodes) {
    if (!isHidden.has(key) || of.has(key)) continue;
    const group = `fold/${key}`;
    of.set(key, group);
    const reached = [key];
    for (const one of reached) {
      for (const other of near.get(one) ?? []) {
        if (of.has(other)) continue;
        of.set(other, group);
        reached.push(other);
      }
    }
  }
  return of;
}

// The coarsest groups whose members have the same type, state and mark, and neighbours in the same groups.
function alike(nodes, links, marks, isFixed, folds) {
  let of = new Map();
  for (const node of nodes) {
    const { mark, state } = marks.get(node.key);
    const sort = JSON.stringify([node.kind, node.type, state, mark, node.beyond > 0]);
    of.set(node.key, folds.get(node.key) ?? (isFixed.has(node.key) ? node.key : sort));
  }
  for (;;) {
    const { before, after } = neighbours(links, of);
    const refined = new Map();
    const names = new Map();
    const said = (groups) => [...new Set(groups ?? [])].sort();
    for (const node of nodes) {
      const { key } = node;
      const group = of.get(key);
      if (folds.has(key)) {
        refined.set(key, group);
        continue;
      }
      const sort = JSON.stringify([group, said(before.get(key)), said(after.get(key))]);
      if (!names.has(sort)) names.set(sort, `stack/${key}`);
      refined.set(key, names.get(sort));
    }
    for (const [group, members] of groupsOf(refined)) {
      if (group.startsWith("stack/") && members.length < ALIKE_MIN) for (const key of members) refined.set(key, key);
    }
    const isStable = groupsOf(refined).size === groupsOf(of).size;
    of = refined;
    if (isStable) return of;
  }
}

// Chains of more than four steps of the same types, which nothing else touches: their middles.
function chained(nodes, links, of, isFixed, opened) {
  const groups = groupsOf(of);
  const byKey = new Map(nodes.map((node) => [node.key, node]));
  const before = new Map();
  const after = new Map();
  for (const { source, target } of links) {
    const [from, to] = [of.get(source), of.get(target)];
    if (from === to) continue;
    if (!after.has(from)) after.set(from, new Set());
    if (!before.has(to)) before.set(to, new Set());
    after.get(from).add(to);
    before.get(to).add(from);
  }
  const isPlain = (group) =>
    groups.get(group).length === 1 && !isFixed.has(group) && !group.startsWith("fold/") &&
    before.get(group)?.size === 1 && after.get(group)?.size === 1 && byKey.get(group).beyond === 0;
  const result = new Map(of);
  const seen = new Set();
  for (const start of groups.keys()) {
    if (seen.has(start) || !isPlain(start)) continue;
    const chain = [start];
    seen.add(start);
    for (const [side, add] of [[after, "push"], [before, "unshift"]]) {
      let [next] = side.get(start);
      while (isPlain(next) && !seen.has(next)) {
        chain[add](next);
        seen.add(next);
        [next] = side.get(next);
      }
    }
    for (const part of samely(chain, byKey)) collapse(part, byKey, result, opened);
  }
  return result;
}

// A chain cut where the types of its steps change.
function* samely(chain, byKey) {
  let part = [];
  for (const key of chain) {
    const node = byKey.get(key);
    const fellow = part.map((one) => byKey.get(one)).findLast((one) => one.kind === node.kind);
    if (fellow && fellow.type !== node.type) {
      yield part;
      part = [];
    }
    part.push(key);
  }
  yield part;
}

function collapse(part, byKey, result, opened) {
  const steps = part.filter((key) => byKey.get(key).kind === "execution").length;
  if (steps < STEPS_MIN) return;
  const name = `chain/${[...part].sort()[0]}`;
  const { left = 1, right = 1 } = opened.chains.get(name) ?? {};
  const middle = part.slice(2 * left, part.length - 2 * right);
  if (middle.length < 4) return;
  for (const key of middle) result.set(key, name);
}

// `opened`: what of the address says what stands apart: `groups` and `alone` are sets of keys, `chains` maps.
export function openedIn(texts) {
  const opened = { groups: new Set(), alone: new Set(), chains: new Map() };
  for (const text of texts) {
    const [form, kind, id, left, right] = text.split("/");
    const key = `${kind}/${id}`;
    if (form === "group") opened.groups.add(key);
    else if (form === "alone") opened.alone.add(key);
    else if (form === "chain") opened.chains.set(`chain/${key}`, { left: Number(left), right: Number(right) });
  }
  return opened;
}

export function shownGraph(answer, marks, { isGrouped, hiddenMarks, opened, selected }) {
  const { nodes, links } = answer;
  const isHidden = new Set(
    nodes.filter(({ key }) => key !== answer.subject && key !== selected && hiddenMarks.has(marks.get(key).mark))
      .map(({ key }) => key),
  );
  const folds = folded(nodes, links, isHidden);
  const added = nodes.filter(({ key }) => marks.get(key).mark === "added").length;
  const isFixed = new Set([answer.subject, ...opened.alone]);
  if (selected) isFixed.add(selected);
  for (const { key } of nodes) {
    const { mark } = marks.get(key);
    if (mark !== "same" && (mark !== "added" || added <= ADDED_ALONE_MAX)) isFixed.add(key);
  }
  let of = new Map(nodes.map(({ key }) => [key, folds.get(key) ?? key]));
  if (isGrouped) {
    of = alike(nodes, links, marks, isFixed, folds);
    for (const [group, members] of groupsOf(of)) {
      if (!group.startsWith("stack/")) continue;
      if (members.some((key) => opened.groups.has(key))) for (const key of members) of.set(key, key);
    }
    of = chained(nodes, links, of, isFixed, opened);
  }
  return drawn(answer, of);
}

function drawn(answer, of) {
  const byKey = new Map(answer.nodes.map((node) => [node.key, node]));
  const shown = new Map();
  for (const [group, keys] of groupsOf(of)) {
    const members = keys.map((key) => byKey.get(key));
    const form = group === keys[0] ? "node" : group.split("/")[0];
    const isOne = new Set(members.map((node) => `${node.kind}/${node.type}`)).size === 1;
    const hops = Math.min(...members.map((node) => node.hops));
    const beyond = members.reduce((sum, node) => sum + node.beyond, 0);
    const { kind, type } = members[0];
    shown.set(group, { key: group, form, kind, type: isOne ? type : "", members: keys, hops, beyond });
  }
  if (shown.size > NODES_MAX) {
    const farthest = [...shown.values()].sort((one, other) => one.hops - other.hops).slice(NODES_MAX);
    for (const { key } of farthest) shown.delete(key);
  }
  const edges = new Map();
  for (const link of answer.links) {
    const [source, target] = [of.get(link.source), of.get(link.target)];
    if (source === target) continue;
    if (!shown.has(source) || !shown.has(target)) {
      const kept = shown.get(source) ?? shown.get(target);
      if (kept) kept.beyond += 1;
      continue;
    }
    const name = `${source} ${target}`;
    if (!edges.has(name)) edges.set(name, { source, target, since: link.position });
    const edge = edges.get(name);
    edge.since = Math.min(edge.since, link.position);
  }
  return { nodes: [...shown.values()], edges: [...edges.values()], of, left: of.size - countOf(shown) };
}

function countOf(shown) {
  let count = 0;
  for (const { members } of shown.values()) count += members.length;
  return count;
}
