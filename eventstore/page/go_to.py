"""Go to: from a name, an id, a position or a commit to what is meant."""

from __future__ import annotations

import msgspec

from eventstore.http_api.catalog import types
from eventstore.http_api.routes import Asked, Elsewhere, Html, Route
from eventstore.http_api.search import Hit, search
from eventstore.log.kinds import NODE_KINDS
from eventstore.page.links import Links
from eventstore.page.showing import links_of, shown, store_name

_LIMIT = 50


class GoingQuery(msgspec.Struct, frozen=True):
    """What was typed."""

    q: str = ""


def going(asked: Asked, query: GoingQuery) -> Html | Elsewhere:
    """The one thing that is meant; a list of those that may be."""
    links, text = links_of(asked), query.q.strip()
    hits = search(asked.source, text, limit=_LIMIT)
    exact = [hit for hit in hits if hit.by in ("name", "uri", "external_id")]
    for meant in (exact, hits):
        if len(meant) == 1:
            return Elsewhere(_address(asked, links, meant[0]))
    return shown(
        asked,
        "search.html.j2",
        title=f"Go to {text}" if text else "Go to",
        found=[{"href": _address(asked, links, hit), "hit": hit} for hit in hits],
        is_cut=len(hits) == _LIMIT,
        command=f"eventstore list {store_name(asked)} artifact --filter \"name LIKE '%…%'\"",
    )


def _address(asked: Asked, links: Links, hit: Hit) -> str:
    if hit.kind == "commit":
        return links.to(f"/commits/{hit.number}")
    if hit.kind == "position":
        known = asked.source.projections.commits(asked.moments.at.position)
        return links.to(f"/commits/{known.number_at(hit.number)}")
    if hit.kind == "type":
        for kind in NODE_KINDS:
            for one in types(asked.source, kind.name):
                if one.id == hit.number:
                    return links.to(f"/types/{kind.name}", name=one.name)
    return links.entity(hit.kind, hit.number)


ROUTES = (Route("/go", going),)
