"""Holds, retention rules and erasures as of the moment, each with what it covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from eventstore.answers import RuleAnswer, Scope
from eventstore.errors import NotFoundError
from eventstore.http_api.catalog import types
from eventstore.http_api.lists import found, node_rows
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.log.kinds import NODE_KINDS, NODE_KINDS_BY_NAME
from eventstore.metadata_store.source import Source
from eventstore.page.links import Links
from eventstore.page.showing import links_of, shown, store_name
from eventstore.proto import retention_pb2
from eventstore.retention.expiry import due
from eventstore.retention.holds import HoldAnswer, holds
from eventstore.retention.rules import rules
from eventstore.server.roles import Role
from eventstore.store.erasures import StoredErasure, actor_at, erasures_as_of
from eventstore.times import moment_of

_LIMIT: Final = 50
_SPANS: Final = ((366 * 86_400, "y"), (7 * 86_400, "w"), (86_400, "d"), (3_600, "h"), (1, "s"))
_TABS: Final = ("holds", "retention", "erasures")


class RulesQuery(msgspec.Struct, frozen=True):
    """`number` is that of the erasure that is shown with all that it covers, `after` a position."""

    number: int | None = None
    after: int = 0


class Covered(msgspec.Struct, frozen=True):
    """Nodes of a kind that a hold or rule covers as of the moment, and the list of them."""

    text: str
    href: str


def holds_page(asked: Asked, query: RulesQuery) -> Html:
    """What is held, since when, by whom, and until when."""
    source, links = asked.source, links_of(asked)
    return _page(
        asked,
        "holds",
        [
            {
                "number": one.number,
                "scope": _words(source, one.scope),
                "covers": [*_covered(source, links, one.scope)] if _holds(one) else [],
                "upstream": [*_upstream(links, one.scope)],
                **_members(one),
            }
            for one in holds(source.log, source.snapshot())
            if query.number in (None, one.number)
        ],
        nothing="Nothing was ever held.",
        does=f"eventstore hold place {store_name(asked)} --entity artifact:7 --basis CASE-1",
        command=f"eventstore hold list {store_name(asked)}",
    )


def retention_page(asked: Asked, query: RulesQuery) -> Html:
    """How long what is kept, and what has expired by now."""
    source, links = asked.source, links_of(asked)
    known = rules(source.log, source.snapshot())
    return _page(
        asked,
        "retention",
        [
            {
                "number": one.number,
                "scope": _words(source, one.scope),
                "covers": [*_covered(source, links, one.scope)] if not one.is_withdrawn else [],
                "at_least": _span(one.keep_at_least_seconds),
                "at_most": _span(one.keep_at_most_seconds),
                **_members(one),
            }
            for one in known
            if query.number in (None, one.number)
        ],
        nothing="No rule says how long anything is kept.",
        does=(
            f"eventstore retention rule {store_name(asked)} --type-id 12 --keep-at-least 10y "
            "--basis LAW-1"
        ),
        command=f"eventstore retention list {store_name(asked)}",
        due=_due(source, known),
    )


def erasures_page(asked: Asked, query: RulesQuery) -> Html:
    """What was erased, on which basis, by whom; one of them with its records and files."""
    source, links = asked.source, links_of(asked)
    known = erasures_as_of(source.projections.index, source.position())
    wanted = [one for one in known if query.number in (None, one.number)]
    if query.number is not None and not wanted:
        raise NotFoundError(f"there is no erasure {query.number} at position {source.position()}")
    return _page(
        asked,
        "erasures",
        [_erasure(source, one) for one in wanted],
        nothing="Nothing was erased.",
        does=f"eventstore erase {store_name(asked)} artifact 7 --reason GDPR-17 --dry-run",
        command=f"eventstore sql {store_name(asked)} 'SELECT * FROM erasures'",
        number=query.number,
        covered=_erased_nodes(source, links, wanted[0]) if query.number is not None else None,
    )


def _page(asked: Asked, tab: str, rows: Sequence[Any], **values: Any) -> Html:
    around: dict[str, Any] = {"due": None, "covered": None, "number": None, **values}
    return shown(
        asked,
        "rules.html.j2",
        title=tab.capitalize() if tab != "retention" else "Retention rules",
        section="Rules",
        tabs=_TABS,
        tab=tab,
        rules=rows,
        **around,
    )


def _members(one: msgspec.Struct) -> dict[str, Any]:
    told = msgspec.structs.asdict(one)
    return {name: value for name, value in told.items() if name not in ("number", "scope")}


def _holds(one: HoldAnswer) -> bool:
    return one.stage != "released"


def _words(source: Source, scope: Scope) -> str:
    """What a scope is about; types by their names."""
    names = {one.id: one.name for kind in NODE_KINDS for one in types(source, kind.name)}
    parts = (
        ", ".join(kind.replace("_", " ") + "s" for kind in scope.kinds),
        ", ".join(f"type {names.get(one, one)}" for one in scope.type_ids),
        ", ".join(f"context {one}" for one in scope.context_ids),
        ", ".join(f"{kind.replace('_', ' ')} {one}" for kind, one in scope.entities),
        scope.filter_query,
    )
    return "; ".join(filter(None, parts)) or "everything"


def _covered(source: Source, links: Links, scope: Scope) -> Iterator[Covered]:
    """The nodes in a scope by kind; a list of each kind has all of them."""
    for kind in NODE_KINDS:
        if scope.kinds and kind.name not in scope.kinds:
            continue
        ids = [number for of, number in scope.entities if of == kind.name]
        if scope.entities and not ids:
            continue
        conditions = [
            f"{name} IN ({', '.join(map(str, numbers))})"
            for name, numbers in (
                ("id", ids),
                ("type_id", scope.type_ids),
                ("contexts_0.id", scope.context_ids if kind.name != "context" else ()),
            )
            if numbers
        ]
        if scope.context_ids and kind.name == "context":
            conditions.append(f"id IN ({', '.join(map(str, scope.context_ids))})")
        if scope.filter_query:
            conditions.append(f"({scope.filter_query})")
        where = " AND ".join(conditions)
        try:
            many = found(source, kind.name, filter_query=where)
        except ValueError:
            # The filter is one on other kinds of nodes.
            continue
        if many.count:
            text = f"{many.count:,} {kind.name}{'s' if many.count > 1 else ''}"
            more = "" if many.is_exact else "more than "
            yield Covered(more + text, links.list(kind.name, filter=where or None))


def _upstream(links: Links, scope: Scope) -> Iterator[Covered]:
    """A hold covers what led to its nodes, too."""
    for kind, number in scope.entities:
        if kind in ("artifact", "execution"):
            yield Covered(
                f"upstream of {kind} {number}",
                links.entity(kind, number, "/lineage", direction="upstream"),
            )


def _span(seconds: int | None) -> str:
    """A span as the command takes it: `10y` (of 366 days), `730d`."""
    if seconds is None:
        return ""
    length, unit = next(one for one in _SPANS if not seconds % one[0])
    return f"{seconds // length:,}{unit}"


def _due(source: Source, known: Sequence[RuleAnswer]) -> str | None:
    """What `eventstore retention expired` counts; nothing where no rule lets anything expire."""
    if not any(one.keep_at_most_seconds and not one.is_withdrawn for one in known):
        return None
    told = due(source.log, source.snapshot())
    return (
        f"{len(told.due):,} versions would be erased, {len(told.refused):,} are held or locked, "
        f"{len(told.pinned):,} are in use. Nothing is erased from here."
    )


def _erasure(source: Source, one: StoredErasure) -> dict[str, Any]:
    message = one.message
    asked_at = one.requested_at or one.position
    positions = sum(it.last_position - it.first_position + 1 for it in message.ranges)
    ranges = [
        f"{it.first_position:,}"
        + (f" to {it.last_position:,}" if it.last_position > it.first_position else "")
        for it in message.ranges[:8]
    ]
    return {
        "number": one.number,
        "basis": message.basis,
        "ticket": message.ticket,
        "position": asked_at,
        "requested_at": _time(source, asked_at),
        "by": actor_at(source.log, asked_at) or "nobody named",
        "records": positions,
        "positions": ", ".join(ranges) + (", …" if len(message.ranges) > len(ranges) else ""),
        "stage": retention_pb2.Erasure.Stage.Name(message.stage).lower(),
        "contents": message.contents_erased,
        "whos": message.whos_erased,
        "files": [
            {
                "segment": file.segment,
                "old": file.old_sha256.hex(),
                "new": file.new_sha256.hex() or "dropped",
            }
            for file in message.files
        ],
    }


def _erased_nodes(source: Source, links: Links, one: StoredErasure) -> list[dict[str, Any]]:
    """The records of an erasure, the first of them; nodes lead to their tombstones."""
    wanted: list[int] = []
    for it in one.message.ranges:
        wanted += range(it.first_position, min(it.last_position + 1, it.first_position + _LIMIT))
        if len(wanted) >= _LIMIT:
            break
    rows = []
    for position in wanted[:_LIMIT]:
        for batch in source.log.scan(position - 1, position, ("kind", "entity_id")):
            for kind, number in zip(
                batch["kind"].to_pylist(), batch["entity_id"].to_pylist(), strict=True
            ):
                of = NODE_KINDS_BY_NAME.get(kind)
                node = node_rows(source, of, [number], ()) if of is not None else []
                rows.append(
                    {
                        "kind": kind.replace("_", " "),
                        "id": number,
                        "position": position,
                        "type": node[0].type if node else "",
                        "href": links.entity(kind, number) if node else None,
                    }
                )
    return rows


def _time(source: Source, position: int) -> datetime:
    return moment_of(source.log.recorded_at(position))


ROUTES = (
    Route("/rules/holds", holds_page, need=Role.AUDIT),
    # What has expired depends on the clock.
    Route("/rules/retention", retention_page, need=Role.AUDIT, kept=False),
    Route("/rules/erasures", erasures_page),
)
