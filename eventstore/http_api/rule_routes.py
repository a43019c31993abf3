"""The addresses of holds, retention rules and erasures."""

from __future__ import annotations

from typing import Final

import msgspec

from eventstore.answers import DueAnswer
from eventstore.http_api.cursors import cursor_after, cursor_text
from eventstore.http_api.node_routes import Id, Limit
from eventstore.http_api.routes import Asked, Kind, Nothing, Route
from eventstore.http_api.rules import (
    CoveredNode,
    Covering,
    ErasedRecord,
    ErasureRow,
    HoldRow,
    RuleRow,
    covered,
    covering,
    erased_records,
    erasures,
    expired,
    holds,
    rules,
)
from eventstore.server.roles import Role


class HoldsAnswer(msgspec.Struct, frozen=True):
    """All holds, by number."""

    holds: list[HoldRow]


class RulesAnswer(msgspec.Struct, frozen=True):
    """All retention rules, by number."""

    rules: list[RuleRow]


class ErasuresAnswer(msgspec.Struct, frozen=True):
    """All erasures, by number."""

    erasures: list[ErasureRow]


class NumberQuery(msgspec.Struct, frozen=True):
    """A page of what a hold, rule or erasure of a number covers."""

    number: Id
    cursor: str | None = None
    limit: Limit = 50


class CoveringQuery(msgspec.Struct, frozen=True):
    """A node."""

    kind: Kind
    id: Id


class CoveredAnswer(msgspec.Struct, frozen=True):
    """Nodes that are covered: those in scope first, then those upstream of them."""

    nodes: list[CoveredNode]
    next: str | None


class ErasedAnswer(msgspec.Struct, frozen=True):
    """Records that an erasure is of, by position."""

    records: list[ErasedRecord]
    next: str | None


def holds_answer(asked: Asked, query: Nothing) -> HoldsAnswer:  # noqa: ARG001
    """The legal holds, and how much each covers."""
    return HoldsAnswer(holds(asked.source))


def rules_answer(asked: Asked, query: Nothing) -> RulesAnswer:  # noqa: ARG001
    """The retention rules, and how much is in the scope of each."""
    return RulesAnswer(rules(asked.source))


def erasures_answer(asked: Asked, query: Nothing) -> ErasuresAnswer:  # noqa: ARG001
    """The erasures, and what was destroyed."""
    return ErasuresAnswer(erasures(asked.source))


def expired_answer(asked: Asked, query: Nothing) -> DueAnswer:  # noqa: ARG001
    """What has expired by the rules by now, whatever the moment, and what keeps it."""
    return expired(asked.source)


def held_nodes(asked: Asked, query: NumberQuery) -> CoveredAnswer:
    """The nodes that a hold covers."""
    return _covered(asked, "hold", query)


def ruled_nodes(asked: Asked, query: NumberQuery) -> CoveredAnswer:
    """The nodes that are in the scope of a retention rule."""
    return _covered(asked, "rule", query)


def erased_answer(asked: Asked, query: NumberQuery) -> ErasedAnswer:
    """The records that an erasure is of."""
    after = cursor_after(query.cursor, query, int) or 0
    found, last = erased_records(asked.source, query.number, after=after, limit=query.limit)
    return ErasedAnswer(found, cursor_text(asked.moments.at.position, query, last))


def covering_answer(asked: Asked, query: CoveringQuery) -> Covering:
    """The holds and locks that protect a node."""
    return covering(asked.source, query.kind, query.id)


def _covered(asked: Asked, by: str, query: NumberQuery) -> CoveredAnswer:
    after = cursor_after(query.cursor, query, int) or 0
    found, place = covered(asked.source, by, query.number, after=after, limit=query.limit)
    return CoveredAnswer(found, cursor_text(asked.moments.at.position, query, place))


ROUTES: Final = (
    Route("/holds", holds_answer, need=Role.AUDIT),
    Route("/holds/{number}/covered", held_nodes, need=Role.AUDIT),
    Route("/retention", rules_answer, need=Role.AUDIT),
    # It goes by the clock.
    Route("/retention/due", expired_answer, need=Role.AUDIT, kept=False),
    Route("/retention/{number}/covered", ruled_nodes, need=Role.AUDIT),
    Route("/erasures", erasures_answer),
    Route("/erasures/{number}/covered", erased_answer),
    Route("/covering", covering_answer, kept=False),
)
