// A plain layout for when the good one takes too long: columns by depth, in the order given.

const BESIDE = 14;
const BETWEEN = 34;

export function inColumns(nodes, edges) {
  const depth = new Map(nodes.map(({ key }) => [key, 0]));
  // As often as there are nodes at most, so that cycles end.
  for (let round = 0, moved = true; moved && round < nodes.length; round += 1) {
    moved = false;
    for (const { source, target } of edges) {
      if (depth.get(target) > depth.get(source) || depth.get(source) >= nodes.length) continue;
      depth.set(target, depth.get(source) + 1);
      moved = true;
    }
  }
  const levels = [...new Set(depth.values())].sort((one, other) => one - other);
  const columns = levels.map((level) => nodes.filter(({ key }) => depth.get(key) === level));
  const places = new Map();
  let x = 0;
  let height = 0;
  for (const column of columns) {
    const width = Math.max(...column.map((node) => node.width));
    let y = 0;
    for (const node of column) {
      places.set(node.key, [x + width / 2, y + node.height / 2]);
      y += node.height + BESIDE;
    }
    height = Math.max(height, y - BESIDE);
    x += width + BETWEEN;
  }
  return {
    width: x - BETWEEN,
    height,
    places: nodes.map(({ key }) => places.get(key)),
    lines: edges.map(({ source, target }) => [places.get(source), places.get(target)]),
  };
}
