"""What there is, and whether it is well."""

from __future__ import annotations

from eventstore.http_api.commits import actors, commits
from eventstore.http_api.routes import Asked, Html, Nothing, Route
from eventstore.page.showing import shown

_LATELY = 8
_ACTORS = 8


def overview(asked: Asked, query: Nothing) -> Html:  # noqa: ARG001
    """Counts, who puts, and the newest commits that have a reason."""
    source, info = asked.source, asked.whole_store.info()
    position = asked.moments.at.position
    counts = source.projections.counts(position)
    put = actors(source)[:_ACTORS]
    most = max((one.commits for one in put), default=1)
    return shown(
        asked,
        "overview.html.j2",
        title="Overview",
        section="Overview",
        store_id=info.store_id,
        position=position,
        kinds=[
            {"name": kind, "total": counts.get(kind, 0), "types": []}
            for kind in ("artifact", "execution", "context")
        ],
        actors=[
            {"actor": one.actor, "commits": one.commits, "share": 100 * one.commits / most}
            for one in put
        ],
        reasons=commits(source, with_reason=True, limit=_LATELY),
        holds=None,
        commits=source.projections.commits(position).count(position),
        recorded_at=asked.moments.at.recorded_at,
        log_bytes=info.log_bytes,
        verified="not since the start",
        command=f"eventstore info {asked.engine.log.name}",
        first_run="",
    )


ROUTES = (Route("/", overview, kept=False),)
