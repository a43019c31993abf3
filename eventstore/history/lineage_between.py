"""The lineage near a node, between two moments: what was added, has changed, or was erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.history.fields import FieldChange, field_changes, parsed
from eventstore.history.marks import ErasedBy, Marks, marks_of
from eventstore.lineage.nearest import (
    Key,
    Link,
    Nearest,
    check_limits,
    in_context,
    nearest,
)
from eventstore.lineage.walks import node_kind, require_node
from eventstore.log import Log, Position
from eventstore.log.kinds import CONTEXT
from eventstore.plain_values import is_same
from eventstore.projections import Projections
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.index_tables import STORED_TABLES, Entry
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot
from eventstore.times import Microseconds, moment_of

Mark: TypeAlias = Literal["added", "changed", "gone", "same"]

VERSIONS_MAX: Final = 20
"""How many versions are told of a node: the newest, and the one at the first moment."""

_REASONS_MAX: Final = 50


class NodeVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a node was from a position on, and what changed with it.

    `changes` are against the version before it in the list; the first has none. Who put it is told
    of those after the first moment, and why of at most 50 commits: those that changed something
    before those that made something. `is_erased` says that its content is erased.
    """

    position: int
    name: str
    state: str
    changes: tuple[FieldChange, ...] = ()
    is_erased: bool = False
    erasures: tuple[ErasedBy, ...] = ()
    commit: int | None = None
    recorded_at: datetime | None = None
    actor: str | None = None
    reason: str | None = None
    request_id: str | None = None


class NodeBetween(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the lineage as of the second moment, `hops` from the subject.

    It is part of the lineage from the position `since` on. `state` is the name of its state, ""
    when it has none. `mark` tells how it differs: it was `added` to the lineage after the first
    moment, has `changed`, is `gone` (its content was erased), or is the `same`. `beyond` counts
    its neighbours further along that the answer lacks.

    `versions` are the one at the first moment, or the first, and the newest after it, oldest first;
    `versions_left_out` are between the first two of these.
    """

    kind: str
    id: int
    type: str
    name: str
    state: str
    hops: int
    since: int
    mark: Mark
    beyond: int
    versions: tuple[NodeVersion, ...]
    versions_left_out: int = 0

    @property
    def key(self) -> Key:
        """Kind and id."""
        return self.kind, self.id


class LineageBetween(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes nearest to a subject, by hops, then kind and id, and all links between them.

    `left_out` counts what the hop at which the limit cut the walk has beyond it, or executions of a
    context. Where it is not 0, nodes are taken as part of the lineage since they were made: what
    connected them may be left out.
    """

    subject: Key
    direction: str
    hops: int | None
    first: int
    second: int
    nodes: tuple[NodeBetween, ...]
    links: tuple[Link, ...]
    left_out: int

    def counts(self) -> dict[str, int]:
        """How many nodes have each mark."""
        counted = {"added": 0, "changed": 0, "gone": 0, "same": 0}
        for node in self.nodes:
            counted[node.mark] += 1
        return counted


def lineage_between(
    log: Log,
    projections: Projections,
    kind: str,
    node_id: int,
    first: Position,
    second: Position,
    *,
    direction: str,
    hops: int | None,
    limit: int,
    opened: Sequence[Key] = (),
) -> LineageBetween:
    """How the nearest nodes of a lineage differ as of two positions, which may be the same.

    The lineage is that of `direction` (`upstream`, `downstream`, `both`) within some hops, None for
    any number, and at most `limit` nodes. From nodes that are `opened` it goes two hops further.
    Raises NotFoundError when the node was not there at the second position, InvalidArgumentError
    for a kind without lineage, another direction, limits out of range, or positions that are
    swapped.
    """
    _check_order(first, second)
    check_limits(direction, hops, limit)
    snapshot = Snapshot(projections, second)
    require_node(snapshot, node_kind(kind), node_id)
    subject = (kind, node_id)
    found = nearest(snapshot, subject, direction, hops, limit, opened)
    return LineageBetween(
        subject=subject,
        direction=direction,
        hops=hops,
        first=first,
        second=second,
        nodes=_nodes(log, snapshot, first, found),
        links=found.links,
        left_out=found.left_out,
    )


def context_between(
    log: Log,
    projections: Projections,
    context_id: int,
    first: Position,
    second: Position,
    *,
    limit: int,
) -> LineageBetween:
    """How the executions of a context, with their inputs and outputs, differ as of two positions.

    The newest executions that have no more than `limit` nodes between them. Raises what
    `lineage_between` does.
    """
    _check_order(first, second)
    check_limits("both", None, limit)
    snapshot = Snapshot(projections, second)
    require_node(snapshot, CONTEXT, context_id)
    found = in_context(snapshot, context_id, limit)
    return LineageBetween(
        subject=(CONTEXT.name, context_id),
        direction="both",
        hops=None,
        first=first,
        second=second,
        nodes=_nodes(log, snapshot, first, found),
        links=found.links,
        left_out=found.left_out,
    )


def _check_order(first: int, second: int) -> None:
    if first > second:
        raise InvalidArgumentError(
            f"the first moment (position {first}) is later than the second ({second}): swap them"
        )


def _nodes(
    log: Log, snapshot: Snapshot, first: Position, found: Nearest
) -> tuple[NodeBetween, ...]:
    """The nodes with their versions."""
    reading = _Reading(snapshot, first, marks_of(log, snapshot.index))
    stored = {key: reading.stored(key) for key in found.hops}
    after = [[at for at, _ in entries if at > first] for entries, _, _ in stored.values()]
    is_new = [entries[0][0] > first for entries, _, _ in stored.values()]
    pairs = [*zip(after, is_new, strict=True)]
    changes = [at for positions, new in pairs for at in positions[new:]]
    first_versions = [positions[0] for positions, new in pairs if new]
    who = _who(log, snapshot.projections, changes, first_versions)
    nodes = []
    for key, far in found.hops.items():
        entries, left_out, created = stored[key]
        versions, type_name = reading.versions(key, entries, who)
        since = created if found.left_out else max(created, found.since[key])
        node = NodeBetween(
            kind=key[0],
            id=key[1],
            type=type_name,
            name=versions[-1].name,
            state=versions[-1].state,
            hops=far,
            since=since,
            mark=_mark(since, versions, first, snapshot.position),
            beyond=found.beyond.get(key, 0),
            versions=versions,
            versions_left_out=left_out,
        )
        nodes.append(node)
    return tuple(nodes)


def _mark(since: int, versions: Sequence[NodeVersion], first: int, second: int) -> Mark:
    if since > first:
        return "added"
    if versions[-1].is_erased:
        erased_at = min((erased.position for erased in versions[-1].erasures), default=0)
        return "gone" if first < erased_at <= second else "same"
    before, after = dict[str, Any](), dict[str, Any]()
    for version in versions[1:]:
        for change in version.changes:
            before.setdefault(change.field, change.before)
            after[change.field] = change.after
    return "same" if all(is_same(before[field], after[field]) for field in after) else "changed"


class _Reading:
    """Reads the versions of nodes."""

    def __init__(self, snapshot: Snapshot, first: Position, marks: Marks) -> None:
        self._snapshot = snapshot
        self._first = first
        self._marks = marks
        self._has_erasures = bool(snapshot.index.erasures)

    def stored(self, key: Key) -> tuple[list[Entry], int, int]:
        """What is told of a node's versions, and where the first of all is.

        The versions oldest first, and how many are left out after the first of these.
        """
        kind, node_id = key
        entries = self._snapshot.entries(STORED_TABLES[kind], node_id)
        at_first = sum(position <= self._first for position, _ in entries)
        told = entries[max(at_first - 1, 0) :]
        left_out = max(len(told) - VERSIONS_MAX, 0)
        return [told[0], *told[1 + left_out :]], left_out, entries[0][0]

    def versions(
        self, key: Key, entries: Sequence[Entry], who: Mapping[int, Mapping[str, Any]]
    ) -> tuple[tuple[NodeVersion, ...], str]:
        """The versions, and the name of the type as of the newest."""
        kind = key[0]
        told: list[NodeVersion] = []
        before: Any = None
        type_name = ""
        for position, payload in entries:
            is_erased = isinstance(payload, Tombstone)
            message = parsed(kind, payload)
            type_name = message.type
            # A redaction has put former versions again, and changes nothing but what it names.
            repeats = self._has_erasures and self._marks.replaced_at(position) is not None
            is_compared = bool(told) and not (is_erased or told[-1].is_erased or repeats)
            told.append(
                NodeVersion(
                    position=position,
                    name="" if is_erased else message.name,
                    state="" if is_erased else _state(message),
                    changes=field_changes(kind, before, message) if is_compared else (),
                    is_erased=is_erased,
                    erasures=self._marks.of(position) if self._has_erasures else (),
                    **who.get(position, {}),
                )
            )
            if not repeats or before is None:
                before = message
        return tuple(told), type_name


def _state(message: Any) -> str:
    if isinstance(message, mlmd.Execution):
        has_state = message.HasField("last_known_state")
        return mlmd.Execution.State.Name(message.last_known_state) if has_state else ""
    return mlmd.Artifact.State.Name(message.state) if message.HasField("state") else ""


def _who(
    log: Log, projections: Projections, changes: Sequence[int], first_versions: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """By position who put the record there and when; why, of so many commits, changes first."""
    if not changes and not first_versions:
        return {}
    known = projections.commits(Position(max(*changes, *first_versions, 0)))
    erased = projections.index.erasures.erased.who
    found: dict[int, dict[str, Any]] = {}
    of_commit: dict[int, int] = {}
    for position in (*sorted(changes, reverse=True), *sorted(first_versions, reverse=True)):
        number = known.number_at(position)
        found[position] = {
            "commit": number,
            "recorded_at": moment_of(Microseconds(known.recorded_at[number - 1])),
            "actor": None if position in erased else known.by(number),
        }
        if position not in erased:
            of_commit.setdefault(number, position)
    said = {
        number: row
        for number, position in islice(of_commit.items(), _REASONS_MAX)
        for batch in log.scan(position - 1, position, ("reason", "request_id"))
        for row in batch.to_pylist()
    }
    for position, told in found.items():
        if position not in erased:
            told.update(said.get(told["commit"], {}))
    return found
