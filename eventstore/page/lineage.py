"""The lineage of an artifact or execution, drawn and as tables."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import msgspec
from markupsafe import Markup

from eventstore.http_api.lineage import (
    HOPS,
    NODES,
    Direction,
    Hops,
    Limit,
    Lineage,
    LineageNode,
    LineageQuery,
    is_key,
    lineage_of,
)
from eventstore.http_api.node_routes import Id
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.page.formatting import brief
from eventstore.page.frame import Tick
from eventstore.page.showing import links_of, pinned_moments, shown, store_name
from eventstore.plain_json import plain

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_FURTHEST: Final = 3
_DRAWN_CHARACTERS_MAX: Final = 600
_IN_SCRIPT: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """As of the API. `open` names stacks and chains, too, which the drawing alone knows."""

    id: Id
    direction: Direction = "upstream"
    hops: Hops = HOPS
    limit: Limit = NODES
    open: str = ""


def artifact_page(asked: Asked, query: PageQuery) -> Html:
    """The lineage of an artifact."""
    return _page(asked, "artifact", query)


def execution_page(asked: Asked, query: PageQuery) -> Html:
    """The lineage of an execution."""
    return _page(asked, "execution", query)


def _page(asked: Asked, kind: str, query: PageQuery) -> Html:
    found = lineage_of(
        asked,
        kind,
        LineageQuery(
            id=query.id,
            direction=query.direction,
            hops=query.hops,
            limit=query.limit,
            open=",".join(text for text in query.open.split(",") if is_key(text)),
        ),
    )
    (subject,) = (node for node in found.nodes if node.key == found.subject)
    name = subject.name or f"{kind} {query.id}"
    links = links_of(asked)
    moments = asked.moments
    return shown(
        asked,
        "lineage.html.j2",
        title=f"Lineage of {name}",
        section=f"{kind.capitalize()}s",
        ticks=_ticks(found),
        kind=kind,
        id=query.id,
        name=name,
        subject=subject,
        shown=found,
        hops=query.hops,
        two=moments.until is not None,
        differing=differing(found),
        origins=_origins(found) if query.direction == "upstream" else None,
        furthest=sorted(
            (node for node in found.nodes if node.beyond), key=lambda node: -node.beyond
        )[:_FURTHEST],
        sources=sources_of(found),
        embedded=embedded(found),
        api=f"{asked.prefix}/api/v1/{kind}s/{query.id}/lineage",
        pinned=links.entity(
            kind,
            query.id,
            "/lineage",
            **{name: value for name, value in asked.parameters if name not in ("at", "until")},
            **pinned_moments(asked),
        ),
        python=_python(asked, kind, query),
        command=_command(asked, kind, query),
    )


def differing(found: Lineage) -> list[LineageNode]:
    """What has changed or is gone, by hops, and then what was added."""
    nodes = [node for node in found.nodes if node.mark != "same"]
    return sorted(nodes, key=lambda node: node.mark == "added")


def _ticks(found: Lineage) -> list[Tick]:
    """The commits between the moments that the strip marks: those of all versions after A."""
    ticks = {
        version.commit: Tick(
            version.position,
            version.commit,
            version.recorded_at.timestamp() * 1_000,
            brief(version.actor),
            brief(version.reason),
        )
        for node in found.nodes
        for version in node.versions
        if version.commit is not None and version.recorded_at is not None
    }
    return sorted(ticks.values(), key=lambda tick: tick.position)


def embedded(found: Lineage) -> Markup:
    """The answer for the drawing, as JSON that ends no script."""
    text = _ENCODER.encode(_cut(plain(found))).decode().translate(_IN_SCRIPT)
    # Nothing in it is markup any more, and a script's content is read without unescaping.
    return Markup(text)  # noqa: S704


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _cut(held) for name, held in value.items()}
    if isinstance(value, list):
        return [*map(_cut, value)]
    return brief(value, _DRAWN_CHARACTERS_MAX) if isinstance(value, str) else value


def sources_of(found: Lineage) -> dict[str, list[LineageNode]]:
    """By key the nodes that data came from."""
    by_key = {node.key: node for node in found.nodes}
    sources: dict[str, list[LineageNode]] = defaultdict(list)
    for link in found.links:
        if by_key[link.source] not in sources[link.target]:
            sources[link.target].append(by_key[link.source])
    return sources


def _origins(found: Lineage) -> list[LineageNode]:
    """Artifacts upstream that are made of no other, and an execution that made the subject so."""
    makers: dict[str, list[str]] = {}
    for link in found.links:
        makers.setdefault(link.target, []).append(link.source)
    first = {node.key for node in found.nodes if node.key not in makers and not node.beyond}
    of_subject = {*makers.get(found.subject, ())}
    return [
        node
        for node in found.nodes
        if node.key != found.subject
        and not node.beyond
        and (
            first.issuperset(makers.get(node.key, ()))
            if node.kind == "artifact"
            else node.key in first & of_subject
        )
    ]


def _python(asked: Asked, kind: str, query: PageQuery) -> str:
    hops = None if query.hops == "all" else query.hops
    of = f'"{kind}", {query.id}, direction="{query.direction}", '
    return "\n".join(
        f"store.as_of({position}).lineage({of}max_hops={hops}, max_nodes={query.limit})"
        for position in _positions(asked)
    )


def _command(asked: Asked, kind: str, query: PageQuery) -> str:
    hops = "" if query.hops == "all" else f" --hops {query.hops}"
    positions, name = _positions(asked), store_name(asked)
    said = [
        f"eventstore lineage {name} {kind} {query.id} --direction {query.direction}{hops} "
        f"--limit {query.limit} --as-of {position}"
        for position in positions
    ]
    if len(positions) > 1:
        between = " ".join(map(str, positions))
        said.append(
            f"eventstore diff {name} {between} --lineage {kind} {query.id} "
            f"--direction {query.direction}{hops} --limit {query.limit}"
        )
    return "\n".join([*said, _python(asked, kind, query)])


def _positions(asked: Asked) -> list[int]:
    moments = asked.moments
    return [at.position for at in (moments.at, moments.until) if at is not None]


ROUTES: Final = (
    Route("/artifacts/{id:int}/lineage", artifact_page),
    Route("/executions/{id:int}/lineage", execution_page),
)
