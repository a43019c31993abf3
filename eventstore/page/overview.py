"""The first page: what there is, and whether it is well."""

from __future__ import annotations

from eventstore.http_api.catalog import totals
from eventstore.http_api.commits import actors, commits
from eventstore.http_api.routes import Asked, Html, Nothing, Route
from eventstore.page.showing import shown, store_name

_FIRST_RUN = """\
import eventstore

with eventstore.open("{store}") as store, store.run("Train", learning_rate=0.01) as run:
    run.output("Model", uri="s3://models/first")
"""
_COMMAND = """\
eventstore info {store}
eventstore log {store} --reverse --limit 10
"""


def overview(asked: Asked, query: Nothing) -> Html:  # noqa: ARG001
    """What there is, who puts, and what was said lately."""
    source, position = asked.source, asked.moments.at.position
    store = store_name(asked)
    values = {"position": position, "store_id": asked.engine.log.store_id}
    if not position:
        first_run = _FIRST_RUN.format(store=store)
        return shown(
            asked,
            "overview.html.j2",
            title="Overview",
            section="Overview",
            first_run=first_run,
            command=_COMMAND.format(store=store),
            **values,
        )
    there = totals(source)
    who = actors(source)
    most = who[0].commits if who else 1
    known = source.projections.commits(position)
    return shown(
        asked,
        "overview.html.j2",
        title="Overview",
        section="Overview",
        kinds=[
            {
                "name": kind,
                "total": there.counts.get(kind, 0),
                "types": [one for one in there.types if one.kind == kind and one.count],
            }
            for kind in ("artifact", "execution", "context")
        ],
        actors=[
            {
                "actor": one.actor,
                "commits": one.commits,
                "share": round(100 * one.commits / most, 1),
            }
            for one in who[:6]
        ],
        reasons=commits(source, with_reason=True, limit=5),
        holds=None,
        commits=known.count(position),
        recorded_at=asked.moments.at.recorded_at,
        log_bytes=asked.whole_store.info().log_bytes if asked.moments.is_now else None,
        verified="not verified since the start",
        command=_COMMAND.format(store=store),
        **values,
    )


ROUTES = (Route("/", overview, kept=False),)
