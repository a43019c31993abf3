"""One type: its versions, its properties, and how many nodes have each."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from eventstore.http_api.catalog import (
    TypeSummary,
    UsedProperty,
    properties_of_type,
    types_named,
)
from eventstore.http_api.entities import VersionRow, versions
from eventstore.http_api.routes import Asked, Elsewhere, Html, Kind, Route
from eventstore.page.frame import Tick
from eventstore.page.links import Links
from eventstore.page.nodes import VersionRun
from eventstore.page.showing import as_of, links_of, seen_at, shown, store_name

_VERSIONS: Final = 50


class TypeQuery(msgspec.Struct, frozen=True):
    """A type of nodes of a kind by its name, which may hold slashes."""

    kind: Kind
    name: str


def type_page(asked: Asked, query: TypeQuery) -> Html:
    """A type: of two moments as of B, and what has come since A."""
    seen, links = seen_at(asked), links_of(asked)
    source = seen.source
    named = types_named(source, query.kind, query.name)
    used = {one.name: one for one in properties_of_type(source, query.kind, query.name)}
    put = sorted(
        (
            one
            for summary in named
            for one in versions(source, f"{query.kind}_type", summary.id, limit=_VERSIONS).versions
        ),
        key=lambda one: -one.position,
    )
    known = source.projections.commits(source.position())
    return shown(
        asked,
        "type.html.j2",
        title=query.name,
        section=f"{query.kind.capitalize()}s",
        ticks=[_tick(one) for one in put],
        kind=query.kind,
        name=query.name,
        types=named,
        nodes=sum(one.count for one in named),
        properties=_properties(links, query, named, used),
        groups=[VersionRun([one]) for one in put],
        ends={one.commit: known.positions(one.commit) for one in put},
        command=_command(seen, query),
    )


def by_path(asked: Asked, query: TypeQuery) -> Elsewhere:
    """As people write it: the name is then in the query, where any name can stand."""
    return Elsewhere(links_of(asked).to(f"/types/{query.kind}", name=query.name))


def _properties(
    links: Links, query: TypeQuery, named: list[TypeSummary], used: dict[str, UsedProperty]
) -> list[dict[str, Any]]:
    """Those that the type declares, by name, then what its nodes have beside."""
    declared = {
        f"properties.{one.name}": one.type for summary in named for one in summary.properties
    }
    beside = sorted(used.keys() - declared.keys())
    return [
        {
            "name": name,
            "type": declared.get(name) or ", ".join(used[name].types),
            "is_declared": name in declared,
            "nodes": used[name].nodes if name in used else 0,
            "href": links.list(query.kind, type=query.name, columns=f"name,{name}", sort=name),
        }
        for name in (*sorted(declared), *beside)
    ]


def _tick(one: VersionRow) -> Tick:
    return Tick(
        one.position, one.commit, 1_000 * one.recorded_at.timestamp(), one.actor, one.reason
    )


def _command(seen: Asked, query: TypeQuery) -> str:
    store = store_name(seen)
    at = seen.moments.at_text
    python = "store" if at is None else f"store.as_of({seen.moments.at.position})"
    commands = [
        f"eventstore history {store} {query.kind}_type {one.id}{as_of(seen)}"
        for one in types_named(seen.source, query.kind, query.name)
    ]
    return "\n".join([*commands, "", f"{python}.get_{query.kind}_type({json.dumps(query.name)})"])


ROUTES: Final = (
    Route("/types/{kind}", type_page),
    Route("/types/{kind}/{name:path}", by_path),
)
