"""The addresses of holds, retention rules and erasures."""

from __future__ import annotations

from typing import Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.cursors import cursor_after, cursor_text
from eventstore.http_api.node_routes import Id, Limit
from eventstore.http_api.routes import Asked, Kind, Route
from eventstore.http_api.rules import (
    CoveredNode,
    Covering,
    ErasedRecord,
    ErasureRow,
    ExpiredPage,
    ExpiredPlace,
    HoldRow,
    RuleRow,
    covered,
    covering,
    erased_records,
    erasures,
    expired_page,
    holds,
    rules,
)
from eventstore.server.roles import Role


class HoldsAnswer(msgspec.Struct, frozen=True):
    """Holds, by number."""

    holds: list[HoldRow]
    next: str | None


class RulesAnswer(msgspec.Struct, frozen=True):
    """Retention rules, by number."""

    rules: list[RuleRow]
    next: str | None


class ErasuresAnswer(msgspec.Struct, frozen=True):
    """Erasures, by number."""

    erasures: list[ErasureRow]
    next: str | None


class ExpiredAnswer(ExpiredPage, frozen=True, kw_only=True):
    """A page of what has expired: first `due`, then what is `refused`, then what is `pinned`.

    `due` would go, `refused` is held or locked, `pinned` is in use; the counts are of all pages.
    """

    next: str | None


class RulesQuery(msgspec.Struct, frozen=True):
    """A page of holds, rules or erasures, or of what has expired."""

    cursor: str | None = None
    limit: Limit = 50


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


def holds_answer(asked: Asked, query: RulesQuery) -> HoldsAnswer:
    """The legal holds, and how much each covers."""
    found, last = holds(asked.source, after=_number_after(query), limit=query.limit)
    return HoldsAnswer(found, cursor_text(asked.moments.at.position, query, last))


def rules_answer(asked: Asked, query: RulesQuery) -> RulesAnswer:
    """The retention rules, and how much is in the scope of each."""
    found, last = rules(asked.source, after=_number_after(query), limit=query.limit)
    return RulesAnswer(found, cursor_text(asked.moments.at.position, query, last))


def erasures_answer(asked: Asked, query: RulesQuery) -> ErasuresAnswer:
    """The erasures, and what was destroyed."""
    found, last = erasures(asked.source, after=_number_after(query), limit=query.limit)
    return ErasuresAnswer(found, cursor_text(asked.moments.at.position, query, last))


def expired_answer(asked: Asked, query: RulesQuery) -> ExpiredAnswer:
    """What has expired by the rules by now, and what keeps it.

    Raises InvalidArgumentError for another moment.
    """
    after = cursor_after(query.cursor, query, ExpiredPlace)
    if after is None and asked.moments.at.position != asked.moments.newest.position:
        raise InvalidArgumentError("what is due is told as of now alone: leave at and until out")
    page, place = expired_page(asked.source, after, query.limit)
    following = cursor_text(asked.moments.at.position, query, place)
    return ExpiredAnswer(**msgspec.structs.asdict(page), next=following)


def held_nodes(asked: Asked, query: NumberQuery) -> CoveredAnswer:
    """The nodes that a hold covers."""
    return _covered(asked, "hold", query)


def ruled_nodes(asked: Asked, query: NumberQuery) -> CoveredAnswer:
    """The nodes that are in the scope of a retention rule."""
    return _covered(asked, "rule", query)


def erased_answer(asked: Asked, query: NumberQuery) -> ErasedAnswer:
    """The records that an erasure is of."""
    after = _number_after(query)
    found, last = erased_records(asked.source, query.number, after=after, limit=query.limit)
    return ErasedAnswer(found, cursor_text(asked.moments.at.position, query, last))


def covering_answer(asked: Asked, query: CoveringQuery) -> Covering:
    """The holds and locks that protect a node."""
    return covering(asked.source, query.kind, query.id)


def _covered(asked: Asked, by: str, query: NumberQuery) -> CoveredAnswer:
    after = _number_after(query)
    found, place = covered(asked.source, by, query.number, after=after, limit=query.limit)
    return CoveredAnswer(found, cursor_text(asked.moments.at.position, query, place))


def _number_after(query: RulesQuery | NumberQuery) -> int:
    return cursor_after(query.cursor, query, int) or 0


ROUTES: Final = (
    Route("/holds", holds_answer, need=Role.AUDIT),
    Route("/holds/{number}/covered", held_nodes, need=Role.AUDIT),
    Route("/retention", rules_answer, need=Role.AUDIT),
    # It goes by the clock.
    Route("/retention/due", expired_answer, need=Role.AUDIT, kept=False),
    Route("/retention/{number}/covered", ruled_nodes, need=Role.AUDIT),
    Route("/erasures", erasures_answer),
    Route("/erasures/{number}/covered", erased_answer),
    Route("/covering", covering_answer, need=Role.AUDIT, kept=False),
)
