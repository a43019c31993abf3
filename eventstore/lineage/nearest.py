"""The part of a lineage that is nearest to a node, and when each of its links came.

Links are never taken back, so a node that is once part of a lineage stays part of it, and one
position tells for every moment whether it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from eventstore.cancellation import check_wanted
from eventstore.errors import InvalidArgumentError
from eventstore.log.kinds import ARTIFACT, EXECUTION, NodeKind
from eventstore.projections import index_tables as tables
from eventstore.projections.index_tables import EVENTS_OF, decode_id
from eventstore.projections.lineage import INPUTS, OUTPUTS
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot

Key: TypeAlias = tuple[str, int]
"""A node: kind and id."""

OPENED_HOPS: Final = 2
"""How far beyond a node the walk goes on where the node is opened: a step, and what it made."""

NODES_MAX: Final = 2_000
"""How many nodes an answer has at most, those beyond opened nodes included."""

_KINDS: Final = {kind.name: kind for kind in (ARTIFACT, EXECUTION)}
_OTHER: Final = {ARTIFACT.name: EXECUTION.name, EXECUTION.name: ARTIFACT.name}
_ALL: Final = frozenset[int](mlmd.Event.Type.values())


class Link(msgspec.Struct, frozen=True):
    """An event in the direction in which data flows, with its type and the record's position."""

    source: Key
    target: Key
    type: str
    position: int


class Nearest(msgspec.Struct, frozen=True):
    """Nodes with their hops from the subject, in the order of the walk, and the links among them.

    `since` has the positions from which on they are reached over these links within the hops.
    `beyond` counts, for a node that has any, the neighbours further along that are not among the
    nodes. `left_out` counts what the hop at which a limit cut the walk has beyond it.
    """

    hops: dict[Key, int]
    since: dict[Key, int]
    links: tuple[Link, ...]
    beyond: dict[Key, int]
    left_out: int


class _Walk:
    """Looks each node's events up once."""

    def __init__(self, snapshot: Snapshot, direction: str) -> None:
        self._snapshot = snapshot
        self._direction = direction
        self._known: dict[Key, list[tuple[int, int, int]]] = {}

    def onward(self, key: Key) -> list[tuple[int, int, int]]:
        """The events that lead on from a node: the id at the other end, the type, the position.

        Of some nodes there are very many, of which few are asked for, so these are no links yet.
        """
        known = self._known.get(key)
        if known is None:
            check_wanted()
            kind, node_id = _KINDS[key[0]], key[1]
            entries = self._snapshot.entries(EVENTS_OF[kind], node_id)
            parse, types = mlmd.Event.FromString, _leading_on(kind, self._direction)
            found = ((position, parse(payload)) for position, payload in entries)
            if kind is ARTIFACT:
                known = [(e.execution_id, e.type, at) for at, e in found if e.type in types]
            else:
                known = [(e.artifact_id, e.type, at) for at, e in found if e.type in types]
            self._known[key] = known
        return known

    def links(self, key: Key) -> Iterator[Link]:
        """The same as links."""
        return (_link(key, *event) for event in self.onward(key))


def _leading_on(kind: NodeKind, direction: str) -> frozenset[int]:
    """The types of the events that lead on from a node of a kind."""
    if direction == "both":
        return _ALL
    return OUTPUTS if (kind is ARTIFACT) is (direction == "upstream") else INPUTS


def _link(key: Key, other_id: int, event_type: int, position: int) -> Link:
    other = (_OTHER[key[0]], other_id)
    is_from = (key[0] == EXECUTION.name) is (event_type in OUTPUTS)
    ends = (key, other) if is_from else (other, key)
    return Link(*ends, mlmd.Event.Type.Name(event_type), position)


def nearest(
    snapshot: Snapshot,
    subject: Key,
    direction: str,
    hops: int | None,
    limit: int,
    opened: Iterable[Key] = (),
) -> Nearest:
    """At most `limit` nodes within some hops of a node, the nearest; None for any number of hops.

    Of the hop that exceeds the limit the newest nodes are taken. From each of the `opened` nodes
    that was reached the walk goes two hops on, past the limit, up to 2,000 nodes in all. Each node
    of the answer costs a look-up, and no other does.
    """
    walk = _Walk(snapshot, direction)
    found = {subject: 0}
    left_out = _extend(found, subject, walk, hops, limit)
    for key in opened:
        if key in found:
            left_out += _extend(found, key, walk, OPENED_HOPS, NODES_MAX)
    links: set[Link] = set()
    beyond = {}
    for key in found:
        other_kind = _OTHER[key[0]]
        inside = [event for event in walk.onward(key) if (other_kind, event[0]) in found]
        links.update(_link(key, *event) for event in inside)
        further = {other for other, _, _ in walk.onward(key)} - {event[0] for event in inside}
        if further:
            beyond[key] = len(further)
    ordered = _in_order(links)
    onward = _onward(ordered, direction)
    since = {subject: 0}
    for start, far in ((subject, hops), *((key, OPENED_HOPS) for key in opened)):
        if start in since:
            _note_since(since, start, onward, far)
    return Nearest(found, since, ordered, beyond, left_out)


def _extend(found: dict[Key, int], start: Key, walk: _Walk, hops: int | None, limit: int) -> int:
    """Add what is within some hops of a node; how much of a hop the limit left out."""
    kind, level, hop = start[0], [start[1]], 0
    walked: dict[str, set[int]] = {ARTIFACT.name: set(), EXECUTION.name: set()}
    walked[kind].update(level)
    while level and (hops is None or hop < hops):
        hop += 1
        ends: dict[int, int] = {}
        for node_id in level:
            far = found[kind, node_id] + 1
            for other, _, _ in walk.onward((kind, node_id)):
                ends.setdefault(other, far)
        kind = _OTHER[kind]
        level = sorted(ends.keys() - walked[kind])
        walked[kind].update(level)
        new = [node_id for node_id in level if (kind, node_id) not in found]
        taken = new[max(len(new) - max(limit - len(found), 0), 0) :]
        found.update(((kind, node_id), ends[node_id]) for node_id in taken)
        if len(taken) < len(new):
            return len(new) - len(taken)
    return 0


def in_context(snapshot: Snapshot, context_id: int, limit: int) -> Nearest:
    """The executions of a context, with their inputs and outputs.

    The newest executions that make no more than `limit` nodes; one is always there. `left_out`
    counts the others.
    """
    walk = _Walk(snapshot, "both")
    members = snapshot.entries(tables.EXECUTIONS_BY_CONTEXT, context_id)
    since = {decode_id(value): position for position, value in reversed(members)}
    executions: list[Key] = []
    artifacts: set[Key] = set()
    for node_id in sorted(since, reverse=True):
        key = (EXECUTION.name, node_id)
        reached = artifacts.union((ARTIFACT.name, event[0]) for event in walk.onward(key))
        if executions and len(executions) + 1 + len(reached) > limit:
            break
        executions.append(key)
        artifacts = reached
    links = _in_order(link for key in executions for link in walk.links(key))
    sinces = {key: since[key[1]] for key in sorted(executions)}
    for link in links:
        execution, artifact = sorted((link.source, link.target), reverse=True)
        came = max(link.position, sinces[execution])
        sinces[artifact] = min(came, sinces.get(artifact, came))
    hops = dict.fromkeys(sorted(executions), 0) | dict.fromkeys(sorted(artifacts), 1)
    return Nearest(hops, sinces, links, {}, len(since) - len(executions))


def _onward(links: Iterable[Link], direction: str) -> Mapping[Key, list[tuple[Key, int]]]:
    """By node the neighbours further along, and since when."""
    onward: Mapping[Key, list[tuple[Key, int]]] = defaultdict(list)
    for link in links:
        for key in (link.source, link.target):
            if _leads_on(link.source, link.target, key, direction):
                other = link.target if key == link.source else link.source
                onward[key].append((other, link.position))
    return onward


def _note_since(
    since: dict[Key, int],
    start: Key,
    onward: Mapping[Key, list[tuple[Key, int]]],
    hops: int | None,
) -> None:
    """Note since when nodes within some hops of one are reached: that of the earliest way."""
    known = {start: since[start]}
    level, hop = dict(known), 0
    while level and (hops is None or hop < hops):
        hop += 1
        earlier: dict[Key, int] = {}
        for key, at in level.items():
            for other, position in onward.get(key, ()):
                came = max(at, position)
                if came < min(known.get(other, came + 1), earlier.get(other, came + 1)):
                    earlier[other] = came
        known.update(earlier)
        level = earlier
    for key, at in known.items():
        since[key] = min(at, since.get(key, at))


def _in_order(links: Iterable[Link]) -> tuple[Link, ...]:
    """Each link once, by source, target and type."""
    return tuple(sorted(set(links), key=lambda link: (link.source, link.target, link.type)))


def _leads_on(source: Key, target: Key, key: Key, direction: str) -> bool:
    if direction == "upstream":
        return key == target
    if direction == "downstream":
        return key == source
    return key in (source, target)


def check_limits(direction: str, hops: int | None, limit: int) -> None:
    """Raise InvalidArgumentError for an unknown direction, negative hops, too few or many nodes."""
    if direction not in ("upstream", "downstream", "both"):
        raise InvalidArgumentError(
            f"direction {direction!r}: use one of upstream, downstream, both"
        )
    if hops is not None and hops < 0:
        raise InvalidArgumentError(f"hops is {hops}: use 0 or more, or None for all")
    if not 1 <= limit <= NODES_MAX:
        raise InvalidArgumentError(f"limit is {limit}: use 1 to {NODES_MAX} nodes")
