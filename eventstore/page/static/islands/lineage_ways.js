// Ways through a drawing, and where the arrow keys lead.

// The keys on all ways along the arrows between two nodes; where there is none, on a shortest way against them, too.
export function waysBetween({ nodes, edges }, one, other) {
  const after = new Map(nodes.map(({ key }) => [key, []]));
  const before = new Map(nodes.map(({ key }) => [key, []]));
  for (const { source, target } of edges) {
    after.get(source).push(target);
    before.get(target).push(source);
  }
  if (!after.has(one) || !after.has(other)) return new Set();
  for (const [start, end] of [[one, other], [other, one]]) {
    const forward = reached(start, after);
    if (forward.has(end)) {
      const back = reached(end, before);
      return new Set([...forward].filter((key) => back.has(key)));
    }
  }
  const near = new Map(nodes.map(({ key }) => [key, [...after.get(key), ...before.get(key)]]));
  return new Set(shortest(one, other, near));
}

function reached(start, near) {
  const found = new Set([start]);
  for (const key of found) for (const next of near.get(key)) found.add(next);
  return found;
}

function shortest(start, end, near) {
  const from = new Map([[start, null]]);
  for (const [key] of from) for (const next of near.get(key)) if (!from.has(next)) from.set(next, key);
  const way = [];
  for (let key = from.has(end) ? end : null; key !== null; key = from.get(key)) way.unshift(key);
  return way;
}

// One shortest way, as keys from the first node to the second, whichever way data flows.
export function wayBetween({ nodes, edges }, one, other) {
  const near = new Map(nodes.map(({ key }) => [key, []]));
  for (const { source, target } of edges) {
    near.get(source).push(target);
    near.get(target).push(source);
  }
  return near.has(one) && near.has(other) ? shortest(one, other, near) : [];
}

// The node that an arrow key leads to: along an edge, or to the next of the same column.
export function nextNode({ nodes, edges }, places, key, arrow) {
  const at = new Map(nodes.map((node, number) => [node.key, places[number]]));
  const [x, y] = at.get(key);
  if (arrow === "ArrowLeft" || arrow === "ArrowRight") {
    const isRight = arrow === "ArrowRight";
    const ends = edges
      .filter(({ source, target }) => (isRight ? source : target) === key)
      .map(({ source, target }) => (isRight ? target : source));
    return nearest(ends, at, (place) => Math.abs(place[1] - y));
  }
  const sign = arrow === "ArrowDown" ? 1 : -1;
  const column = nodes
    .map((node) => node.key)
    .filter((other) => other !== key && Math.abs(at.get(other)[0] - x) < 60 && (at.get(other)[1] - y) * sign > 0);
  return nearest(column, at, (place) => Math.abs(place[1] - y));
}

function nearest(keys, at, distance) {
  return keys.reduce((best, key) => (best === null || distance(at.get(key)) < distance(at.get(best)) ? key : best), null);
}
