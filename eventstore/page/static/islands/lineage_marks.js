// How a lineage differs between two moments, from what the server has told of all of them in between.
// As `eventstore.history.lineage_between`, which says it for the moments of the page.

function versionAt(node, position) {
  return node.versions.findLast((version) => version.position <= position) ?? null;
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// Every field that differs between two moments: its name, and its values before and after.
export function differences(node, first, second) {
  const before = new Map();
  const after = new Map();
  for (const version of node.versions) {
    if (version.position <= first || version.position > second) continue;
    for (const change of version.changes) {
      if (!before.has(change.field)) before.set(change.field, change.before);
      after.set(change.field, change.after);
    }
  }
  return [...after]
    .filter(([field, value]) => !same(value, before.get(field)))
    .map(([field, value]) => ({ field, before: before.get(field), after: value }));
}

function markOf(node, now, first, second) {
  if (node.since > first) return "added";
  if (now?.is_erased) {
    const erasedAt = Math.min(...now.erasures.map((erasure) => erasure.position));
    return first < erasedAt && erasedAt <= second ? "gone" : "same";
  }
  return differences(node, first, second).length ? "changed" : "same";
}

// By key: `mark` and `state` at the second moment, and whether the node `isThere` then.
export function marksBetween(answer, first, second) {
  const marks = new Map();
  for (const node of answer.nodes) {
    const now = versionAt(node, second);
    marks.set(node.key, {
      mark: markOf(node, now, first, second),
      state: now?.state ?? "",
      isErased: now?.is_erased ?? false,
      isThere: node.since <= second,
    });
  }
  return marks;
}
