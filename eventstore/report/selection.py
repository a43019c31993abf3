"""Choose what of a lineage is drawn when not all of it can be: origins, then the ways to them.

What is left out stays in the drawing as folds, each of which tells how many nodes it stands for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

Key = tuple[str, int]
"""A node of a drawing: kind and id, or `fold` and a number."""

_FOLDS_MAX: Final = 12
# Of the nodes that can be shown, at most these shares: origins come before the ways to them, and a
# few places are kept for what lies next to the ways.
_ORIGINS_SHARE: Final = 3 / 4
_BESIDE_SHARE: Final = 1 / 5


@dataclass(frozen=True, slots=True)
class Fold:
    """Nodes that are left out together, where they are: how many, and how many are origins."""

    key: Key
    artifacts: int
    executions: int
    origins: int

    @property
    def nodes(self) -> int:
        """How many nodes are left out here."""
        return self.artifacts + self.executions


@dataclass(frozen=True, slots=True)
class Selection:
    """What is shown of a lineage, and folds for the rest with the ways from and to them."""

    kept: frozenset[Key]
    origins: frozenset[Key]
    folds: tuple[Fold, ...]
    fold_edges: tuple[tuple[Key, Key], ...]
    unfollowed: frozenset[Key] = frozenset()
    """Nodes, kept or folded, for which it was not looked up where they come from or lead to."""

    @property
    def left_out(self) -> int:
        """How many nodes are left out in all."""
        return sum(fold.nodes for fold in self.folds)


def selection(
    subject: Key,
    upstream: Collection[tuple[Key, Key]],
    downstream: Collection[tuple[Key, Key]],
    limit: int | None,
    unfollowed: Collection[Key] = (),
) -> Selection:
    """At most `limit` nodes of a lineage, given as edges in the direction in which data flows.

    Origins are nodes upstream that nothing led to; of a cycle that nothing led to, one node. Those
    that are `unfollowed` do not count: it is not known what led to them.
    """
    nodes_up, nodes_down = ({subject}.union(*edges) for edges in (upstream, downstream))
    edges = {*upstream, *downstream}
    toward, distance = _ways_back(subject, upstream)
    origins = _origins(nodes_up, upstream, distance) - set(unfollowed)
    not_followed = frozenset(unfollowed)
    everything = nodes_up | nodes_down
    if limit is None or len(everything) <= limit:
        return Selection(frozenset(everything), frozenset(origins), (), (), not_followed)
    room = limit - 1
    nearest = sorted(origins - {subject}, key=lambda key: (distance[key], key))
    kept = {subject, *nearest[: max(1, int(room * _ORIGINS_SHARE))][:room]}
    ways = _by_rank(kept - {subject}, toward, distance)
    beside = min(int(room * _BESIDE_SHARE), len(everything) - len(kept) - len(ways))
    kept.update(ways[: max(0, limit - len(kept) - beside)])
    for key in _nearest(subject, edges):
        if len(kept) >= limit:
            break
        kept.add(key)
    folds, fold_edges = _folds(everything - kept, nodes_up, edges, origins)
    return Selection(frozenset(kept), frozenset(origins), folds, fold_edges, not_followed)


def _ways_back(
    subject: Key, upstream: Iterable[tuple[Key, Key]]
) -> tuple[dict[Key, Key], dict[Key, int]]:
    """From each node upstream the next one on a shortest way to the subject, and how long it is."""
    sources = _neighbours((target, source) for source, target in upstream)
    toward: dict[Key, Key] = {}
    distance = {subject: 0}
    reached = [subject]
    for key in reached:
        for source in sources.get(key, ()):
            if source not in distance:
                distance[source] = distance[key] + 1
                toward[source] = key
                reached.append(source)
    return toward, distance


def _origins(
    nodes: Collection[Key], edges: Iterable[tuple[Key, Key]], distance: Mapping[Key, int]
) -> set[Key]:
    targets = _neighbours(edges)
    led_to = {target for found in targets.values() for target in found}
    origins = set(nodes) - led_to
    reached: set[Key] = set()
    waiting = list(origins)
    # What no origin leads to comes from a cycle: its farthest node stands for it.
    farthest = sorted(nodes, key=lambda key: (distance[key], key))
    while True:
        while waiting:
            key = waiting.pop()
            if key not in reached:
                reached.add(key)
                waiting += targets.get(key, ())
        while farthest and farthest[-1] in reached:
            farthest.pop()
        if not farthest:
            return origins
        origins.add(farthest[-1])
        waiting.append(farthest[-1])


def _by_rank(
    origins: Collection[Key], toward: Mapping[Key, Key], distance: Mapping[Key, int]
) -> list[Key]:
    """The nodes between origins and subject: where ways meet first, the middle of a way last."""
    ends: dict[Key, int] = dict.fromkeys(origins, 0)
    ways_in: dict[Key, int] = defaultdict(int)
    waiting: dict[int, set[Key]] = defaultdict(set)
    for key in origins:
        waiting[distance[key]].add(key)
    for hops in range(max(waiting, default=0), 1, -1):
        for key in waiting[hops]:
            onward = toward[key]
            ways_in[onward] += 1
            ends[onward] = min(ends.get(onward, hops + ends[key]), ends[key] + 1)
            waiting[hops - 1].add(onward)
    between = [key for key in ends if key not in origins]
    return sorted(
        between, key=lambda key: (ways_in[key] < 2, min(ends[key], distance[key]), distance[key])
    )


def _nearest(start: Key, edges: Iterable[tuple[Key, Key]]) -> Iterable[Key]:
    """The nodes by their distance from one, whichever way data flows."""
    neighbours = _neighbours(
        pair for source, target in edges for pair in ((source, target), (target, source))
    )
    seen = {start}
    reached = [start]
    for key in reached:
        yield key
        for neighbour in neighbours.get(key, ()):
            if neighbour not in seen:
                seen.add(neighbour)
                reached.append(neighbour)


def _folds(
    left_out: set[Key],
    nodes_up: Collection[Key],
    edges: Collection[tuple[Key, Key]],
    origins: Collection[Key],
) -> tuple[tuple[Fold, ...], tuple[tuple[Key, Key], ...]]:
    """The nodes that are left out, in groups that are connected or have the same neighbours."""
    groups = _components(left_out, nodes_up, edges)
    of_node = {key: number for number, group in enumerate(groups) for key in group}
    before: dict[int, set[Key]] = defaultdict(set)
    after: dict[int, set[Key]] = defaultdict(set)
    for source, target in edges:
        if source in of_node and target not in of_node:
            after[of_node[source]].add(target)
        elif target in of_node and source not in of_node:
            before[of_node[target]].add(source)
    is_up = [group[0] in nodes_up for group in groups]
    ways_to_merge: tuple[Callable[[int], object], ...] = (
        lambda n: (is_up[n], frozenset(before[n]), frozenset(after[n])),
        lambda n: (is_up[n], min(after[n] if is_up[n] else before[n], default=None)),
        lambda n: is_up[n],
    )
    merged: dict[object, list[int]] = {}
    for way in ways_to_merge:
        merged = defaultdict(list)
        for number in range(len(groups)):
            merged[way(number)].append(number)
        # Folds of one node take the place of these nodes and say less.
        singles = sum(
            len(numbers) == 1 and len(groups[numbers[0]]) == 1 for numbers in merged.values()
        )
        if len(merged) <= _FOLDS_MAX and (singles < 2 or way is not ways_to_merge[0]):
            break
    folds = []
    fold_of: dict[int, Key] = {}
    for place, numbers in enumerate(merged.values(), 1):
        keys = [key for number in numbers for key in groups[number]]
        artifacts = sum(kind == "artifact" for kind, _ in keys)
        found = sum(key in origins for key in keys)
        folds.append(Fold(("fold", place), artifacts, len(keys) - artifacts, found))
        fold_of |= dict.fromkeys(numbers, ("fold", place))

    def shown(key: Key) -> Key:
        return fold_of[of_node[key]] if key in of_node else key

    pairs = {
        (shown(source), shown(target))
        for source, target in edges
        if source in of_node or target in of_node
    }
    return tuple(folds), tuple(sorted(pair for pair in pairs if pair[0] != pair[1]))


def _components(
    nodes: set[Key], nodes_up: Collection[Key], edges: Iterable[tuple[Key, Key]]
) -> list[list[Key]]:
    """The groups of connected nodes, those upstream apart from those downstream."""
    neighbours = _neighbours(
        pair
        for source, target in edges
        if source in nodes and target in nodes and (source in nodes_up) == (target in nodes_up)
        for pair in ((source, target), (target, source))
    )
    groups = []
    seen: set[Key] = set()
    for start in sorted(nodes):
        if start in seen:
            continue
        seen.add(start)
        group = [start]
        for key in group:
            for neighbour in neighbours.get(key, ()):
                if neighbour not in seen:
                    seen.add(neighbour)
                    group.append(neighbour)
        groups.append(group)
    return groups


def _neighbours(pairs: Iterable[tuple[Key, Key]]) -> dict[Key, list[Key]]:
    found: dict[Key, list[Key]] = defaultdict(list)
    for source, target in pairs:
        found[source].append(target)
    return {source: sorted(targets) for source, targets in found.items()}
