"""The lineage near a node and the graph of a context, between the two moments of a request."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from eventstore.answers import ErasedByAnswer, FieldAnswer
from eventstore.errors import InvalidArgumentError
from eventstore.history.lineage_between import (
    LineageBetween,
    Mark,
    NodeBetween,
    NodeVersion,
    context_between,
    lineage_between,
)
from eventstore.http_api.entities import erasures_told, missing
from eventstore.http_api.node_routes import Id
from eventstore.http_api.routes import Asked, Route
from eventstore.lineage.nearest import NODES_MAX, Key
from eventstore.lineage.walks import node_kind
from eventstore.log.kinds import CONTEXT
from eventstore.log.record import Position
from eventstore.plain_values import shown_struct
from eventstore.wording import quoted

NODES: Final = 500
HOPS: Final = 6
OPENED_MAX: Final = 50

Direction = Literal["upstream", "downstream", "both"]
Hops = Annotated[int, msgspec.Meta(ge=0)] | Literal["all"]
Limit = Annotated[int, msgspec.Meta(ge=1, le=NODES_MAX)]


class LineageVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a node was from a position on, and what changed with it.

    `changes` are against the version before it in the list. Who put it is told of versions after
    the first moment, and why of at most 50 commits, those that changed something first.
    """

    position: int
    name: str
    state: str
    changes: list[FieldAnswer]
    is_erased: bool
    erasures: list[ErasedByAnswer]
    commit: int | None
    recorded_at: datetime | None
    actor: str | None
    reason: str | None
    request_id: str | None


class LineageNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node; `key` is its kind and id, as in `artifact/7`.

    `hops` is how far it is from the subject as of the second moment, and `since` the position from
    which on it is part of the lineage. `beyond` counts its neighbours further along that the answer
    lacks: `open` with its key has them. `versions` are the one at the first moment, or the first,
    and the newest of those after it, oldest first; `versions_left_out` are missing after the first.
    """

    key: str
    kind: str
    id: int
    type: str
    name: str
    state: str
    hops: int
    since: int
    mark: Mark
    beyond: int
    versions: list[LineageVersion]
    versions_left_out: int


class LineageLink(msgspec.Struct, frozen=True):
    """An event in the direction in which data flows, and the position of its record."""

    source: str
    target: str
    type: str
    position: int


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes nearest to a subject, by hops, and all links between them.

    `first` and `second` are the positions that are compared; without `until` they are the same.
    `counts` are the nodes by mark. `left_out` counts what the hop at which the limit cut the walk
    has beyond it, or executions of a context.
    """

    subject: str
    direction: Direction
    hops: int | None
    opened: list[str]
    first: int
    second: int
    counts: dict[str, int]
    left_out: int
    nodes: list[LineageNode]
    links: list[LineageLink]


class LineageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which way from the node of an id, how far, and how many nodes at most.

    A hop leads from an artifact to an execution or back. From the nodes in `open`, such as
    `artifact/7,execution/3`, it goes two hops further.
    """

    id: Id
    direction: Direction = "upstream"
    hops: Hops = HOPS
    limit: Limit = NODES
    open: str = ""


class GraphQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Of which context, and how many nodes at most."""

    id: Id
    limit: Limit = NODES


def artifact_lineage(asked: Asked, query: LineageQuery) -> Lineage:
    """The lineage of an artifact, and how it differs between the moments."""
    return lineage_of(asked, "artifact", query)


def execution_lineage(asked: Asked, query: LineageQuery) -> Lineage:
    """The lineage of an execution, and how it differs between the moments."""
    return lineage_of(asked, "execution", query)


def lineage_of(asked: Asked, kind: str, query: LineageQuery) -> Lineage:
    """The lineage of a node.

    Raises NotYetError where it came after the last moment, NotFoundError where there never was one.
    """
    first, second = _positions(asked)
    source = asked.source_at(second)
    if not source.snapshot().exists(node_kind(kind), query.id):
        raise missing(source, kind, query.id)
    opened = [_key(text) for text in query.open.split(",") if text]
    if len(opened) > OPENED_MAX:
        raise InvalidArgumentError(f"open has {len(opened)} nodes: use at most {OPENED_MAX}")
    found = lineage_between(
        asked.engine.log,
        asked.engine.projections,
        kind,
        query.id,
        first,
        second,
        direction=query.direction,
        hops=None if query.hops == "all" else query.hops,
        limit=query.limit,
        opened=opened,
    )
    return _answer(found, query.direction, opened)


def context_graph(asked: Asked, query: GraphQuery) -> Lineage:
    """The newest executions of a context with their inputs and outputs, by both moments."""
    first, second = _positions(asked)
    source = asked.source_at(second)
    if not source.snapshot().exists(CONTEXT, query.id):
        raise missing(source, CONTEXT.name, query.id)
    found = context_between(
        asked.engine.log,
        asked.engine.projections,
        query.id,
        first,
        second,
        limit=query.limit,
    )
    return _answer(found, "both", [])


def _positions(asked: Asked) -> tuple[Position, Position]:
    first = asked.moments.at.position
    return first, first if asked.moments.until is None else asked.moments.until.position


def is_key(text: str) -> bool:
    """Whether a text names a node, as `artifact/7` does."""
    kind, _, number = text.partition("/")
    return kind in ("artifact", "execution") and number.isascii() and number.isdigit()


def _key(text: str) -> Key:
    if not is_key(text):
        raise InvalidArgumentError(
            f"open has {quoted(text)}: name nodes as in 'artifact/7,execution/3'"
        )
    kind, _, number = text.partition("/")
    return kind, int(number)


def _text(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _answer(found: LineageBetween, direction: Direction, opened: list[Key]) -> Lineage:
    return Lineage(
        subject=_text(found.subject),
        direction=direction,
        hops=found.hops,
        opened=[_text(key) for key in opened],
        first=found.first,
        second=found.second,
        counts=found.counts(),
        left_out=found.left_out,
        nodes=[_node(node) for node in found.nodes],
        links=[
            LineageLink(_text(link.source), _text(link.target), link.type, link.position)
            for link in found.links
        ],
    )


def _node(node: NodeBetween) -> LineageNode:
    return LineageNode(
        key=_text(node.key),
        kind=node.kind,
        id=node.id,
        type=node.type,
        name=node.name,
        state=node.state,
        hops=node.hops,
        since=node.since,
        mark=node.mark,
        beyond=node.beyond,
        versions=[_version(version) for version in node.versions],
        versions_left_out=node.versions_left_out,
    )


def _version(version: NodeVersion) -> LineageVersion:
    return LineageVersion(
        position=version.position,
        name=version.name,
        state=version.state,
        changes=[
            FieldAnswer(change.field, shown_struct(change.before), shown_struct(change.after))
            for change in version.changes
        ],
        is_erased=version.is_erased,
        erasures=erasures_told(version.erasures),
        commit=version.commit,
        recorded_at=version.recorded_at,
        actor=version.actor,
        reason=version.reason,
        request_id=version.request_id,
    )


ROUTES: Final = (
    Route("/artifacts/{id:int}/lineage", artifact_lineage),
    Route("/executions/{id:int}/lineage", execution_lineage),
    Route("/contexts/{id:int}/graph", context_graph),
)
