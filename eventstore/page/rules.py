"""Holds, retention rules and erasures as of the moment, each with what it covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from eventstore.answers import Scope
from eventstore.http_api.catalog import types
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.http_api.rules import (
    Coverage,
    covered,
    erased_records,
    erasures,
    expired,
    holds,
    rules,
)
from eventstore.log.kinds import NODE_KINDS, NODE_KINDS_BY_NAME
from eventstore.metadata_store.source import Source
from eventstore.page.formatting import counted
from eventstore.page.links import Links
from eventstore.page.showing import as_of, links_of, shown, store_name
from eventstore.server.roles import Role

_LIMIT: Final = 50
_SPANS: Final = ((366 * 86_400, "y"), (7 * 86_400, "w"), (86_400, "d"), (3_600, "h"), (1, "s"))
_TABS: Final = ("holds", "retention", "erasures")


class RulesQuery(msgspec.Struct, frozen=True):
    """`number` is of the one whose covered nodes are shown, those that come `after` a place.

    Those of higher numbers than `beyond` are listed.
    """

    number: int | None = None
    after: int = 0
    beyond: int = 0


def holds_page(asked: Asked, query: RulesQuery) -> Html:
    """What is held, since when, and by whom."""
    source = asked.source
    found, last = holds(source, after=query.beyond, limit=_LIMIT)
    rows = [
        {
            "one": row.hold,
            "scope": _words(source, row.hold.scope),
            "covers": _counts(row.covers),
        }
        for row in found
    ]
    return _page(
        asked,
        query,
        "holds",
        "hold",
        rows,
        last,
        nothing="Nothing was ever held.",
        does=f"eventstore hold place {store_name(asked)} --entity artifact:7 --basis CASE-1",
        command=_command("hold", [row.hold.number for row in found], asked),
    )


def retention_page(asked: Asked, query: RulesQuery) -> Html:
    """How long what is kept, and what has expired by now."""
    source = asked.source
    found, last = rules(source, after=query.beyond, limit=_LIMIT)
    rows = [
        {
            "one": row.rule,
            "by": row.recorded_by,
            "scope": _words(source, row.rule.scope),
            "covers": _counts(row.covers),
            "at_least": _span(row.rule.keep_at_least_seconds),
            "at_most": _span(row.rule.keep_at_most_seconds),
        }
        for row in found
    ]
    told = expired(source) if asked.moments.is_now and rows else None
    return _page(
        asked,
        query,
        "retention",
        "rule",
        rows,
        last,
        nothing="No rule says how long anything is kept.",
        does=(
            f"eventstore retention rule {store_name(asked)} --type-id 12 --keep-at-least 10y "
            "--basis LAW-1"
        ),
        command=_command("retention", [row.rule.number for row in found], asked),
        due=told
        and (
            f"{counted(len(told.due), 'version')} would be erased, {len(told.refused):,} are held "
            f"or locked, {len(told.pinned):,} are in use. Nothing is erased from here."
        ),
    )


def _command(group: str, numbers: Sequence[int], asked: Asked) -> str:
    store, then = store_name(asked), as_of(asked)
    lists = f"eventstore {group} list {store}{then}"
    return "\n".join(
        [lists, *(f"eventstore {group} covers {store} {number}{then}" for number in numbers[:3])]
    )


def erasures_page(asked: Asked, query: RulesQuery) -> Html:
    """What was erased, on which basis, and by whom."""
    found, last = erasures(asked.source, after=query.beyond, limit=_LIMIT)
    return _page(
        asked,
        query,
        "erasures",
        "erasure",
        found,
        last,
        nothing="Nothing was erased.",
        does=f"eventstore erase {store_name(asked)} artifact 7 --reason GDPR-17 --dry-run",
        command=f"eventstore sql {store_name(asked)} 'SELECT * FROM erasures'{as_of(asked)}",
    )


def _page(
    asked: Asked,
    query: RulesQuery,
    tab: str,
    one: str,
    rows: Sequence[Any],
    last: int | None,
    **values: Any,
) -> Html:
    """A page of rows; where more follow, `last` is the number of the last of them."""
    links = links_of(asked)
    covers, more = None, None
    if query.number is not None:
        covers, after = _covered(asked, one, query)
        beyond = query.beyond or None
        more = after and links.to(f"/rules/{tab}", number=query.number, after=after, beyond=beyond)
    around: dict[str, Any] = {"due": None, **values}
    return shown(
        asked,
        "rules.html.j2",
        title="Retention rules" if tab == "retention" else tab.capitalize(),
        section="Rules",
        tabs=_TABS if Role.AUDIT in asked.roles else ("erasures",),
        tab=tab,
        name=one,
        rules=rows,
        rules_more=last and links.to(f"/rules/{tab}", beyond=last),
        beyond=query.beyond or None,
        number=query.number,
        covered=covers,
        covered_more=more,
        **around,
    )


def _covered(asked: Asked, one: str, query: RulesQuery) -> tuple[list[dict[str, Any]], int | None]:
    """A page of what one of them covers, and the place that leads on."""
    source, links, number = asked.source, links_of(asked), query.number
    assert number is not None
    if one == "erasure":
        records, after = erased_records(source, number, after=query.after, limit=_LIMIT)
        return [
            {
                "kind": record.kind.replace("_", " "),
                "text": f"{record.kind.replace('_', ' ')} {record.id}",
                "href": _href(links, record.kind, record.id),
                "position": record.position,
                "said": ", ".join(record.redacted)
                or " and ".join(
                    word
                    for word, is_taken in (("content", record.content), ("who", record.who))
                    if is_taken
                ),
            }
            for record in records
        ], after
    nodes, after = covered(source, one, number, after=query.after, limit=_LIMIT)
    return [
        {
            "kind": it.node.kind,
            "text": it.node.name or f"{it.node.kind} {it.node.id}",
            "href": links.entity(it.node.kind, it.node.id),
            "position": it.node.position,
            "said": "upstream of what is in scope" if it.is_upstream else "in scope",
        }
        for it in nodes
    ], after


def _href(links: Links, kind: str, number: int) -> str | None:
    return links.entity(kind, number) if kind in NODE_KINDS_BY_NAME else None


def _counts(coverage: Coverage | None) -> str:
    """How many nodes are in scope, and upstream of these."""
    if coverage is None:
        return ""
    parts = []
    for counts, where in ((coverage.in_scope, ""), (coverage.upstream, " upstream")):
        parts += [counted(count, kind) + where for kind, count in counts.items() if count]
    more = "" if coverage.is_complete else "more than "
    return more + (", ".join(parts) or "nothing yet")


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


def _span(seconds: int | None) -> str:
    """A span as the command takes it: `10y` (of 366 days), `730d`."""
    if seconds is None:
        return ""
    length, unit = next(one for one in _SPANS if not seconds % one[0])
    return f"{seconds // length:,}{unit}"


ROUTES = (
    Route("/rules/holds", holds_page, need=Role.AUDIT),
    # What has expired depends on the clock.
    Route("/rules/retention", retention_page, need=Role.AUDIT, kept=False),
    Route("/rules/erasures", erasures_page),
)
