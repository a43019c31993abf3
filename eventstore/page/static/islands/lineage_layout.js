// Places the nodes of a drawing left to right, the way that data flows.

import { coordGreedy, decrossTwoLayer, graph, layeringSimplex, sugiyama } from "../parts/d3-dag.js";

const BESIDE = 14;
const BETWEEN = 34;

// `nodes` have key, width and height; `edges` have source and target. Gives the middles of nodes by key and, in the
// order of the edges, points from source to target.
export function laidOut(nodes, edges) {
  const made = graph();
  const byKey = new Map(nodes.map((node) => [node.key, made.node(node)]));
  const forward = withoutCycles(nodes, edges);
  const links = edges.map(({ source, target }, place) =>
    forward[place] ? made.link(byKey.get(source), byKey.get(target)) : made.link(byKey.get(target), byKey.get(source)));
  const place = sugiyama()
    .layering(layeringSimplex())
    .decross(decrossTwoLayer().passes(4))
    .coord(coordGreedy())
    .nodeSize(({ data }) => [data.height, data.width])
    .gap([BESIDE, BETWEEN]);
  const { width, height } = place(made);
  return {
    width: height,
    height: width,
    places: nodes.map((node) => [byKey.get(node.key).y, byKey.get(node.key).x]),
    lines: links.map((link, at) => {
      const points = link.points.map(([x, y]) => [y, x]);
      return forward[at] ? points : points.reverse();
    }),
  };
}

// Which edges lead forward, so that without turning the others there is no cycle.
function withoutCycles(nodes, edges) {
  const outgoing = new Map(nodes.map(({ key }) => [key, []]));
  for (const [place, { source }] of edges.entries()) outgoing.get(source).push(place);
  const forward = edges.map(() => true);
  const state = new Map();
  for (const { key: start } of nodes) {
    if (state.has(start)) continue;
    state.set(start, "open");
    const way = [[start, 0]];
    while (way.length) {
      const top = way.at(-1);
      const [key, next] = top;
      const found = outgoing.get(key);
      if (next === found.length) {
        state.set(key, "done");
        way.pop();
        continue;
      }
      top[1] += 1;
      const { target } = edges[found[next]];
      if (state.get(target) === "open") forward[found[next]] = false;
      else if (!state.has(target)) {
        state.set(target, "open");
        way.push([target, 0]);
      }
    }
  }
  return forward;
}
