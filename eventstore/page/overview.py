"""The first page: what there is, and whether it is well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventstore.http_api.catalog import totals
from eventstore.http_api.commits import Activity, CommitSummary, activity, actors, commits
from eventstore.http_api.routes import Asked, Html, Nothing, Route
from eventstore.page.showing import as_of, seen_at, shown, store_name
from eventstore.retention.holds import HoldAnswer, holds
from eventstore.server.roles import Role

_REASONS = 5
_REASONS_READ = 50
_BUCKETS = 90
_ACTORS = 6
_FIRST_RUN = """\
import eventstore

with eventstore.open("{store}") as store, store.run("Train", learning_rate=0.01) as run:
    run.output("Model", uri="s3://models/first")
"""
_COMMAND = """\
eventstore info {store}
eventstore sql {store} "SELECT type, count(*) FROM artifacts GROUP BY type"{as_of}
eventstore sql {store} "SELECT type, count(*) FROM executions GROUP BY type"{as_of}
eventstore sql {store} "SELECT type, count(*) FROM contexts GROUP BY type"{as_of}
eventstore sql {store} "SELECT actor, count(*) FROM commits GROUP BY actor"{as_of}
"""


def overview(asked: Asked, query: Nothing) -> Html:  # noqa: ARG001
    """What there is, who puts, and what was said lately; of two moments at B, and what is new."""
    seen = seen_at(asked)
    source, position = seen.source, seen.moments.at.position
    store = store_name(asked)
    values: dict[str, Any] = {"position": position, "store_id": asked.engine.log.store_id}
    if not position:
        first_run = _FIRST_RUN.format(store=store)
        return shown(
            asked,
            "overview.html.j2",
            title="Overview",
            section="Overview",
            first_run=first_run,
            command=_COMMAND.format(store=store, as_of=as_of(seen)),
            **values,
        )
    there = totals(source)
    who = actors(source)
    others = sum(one.commits for one in who[_ACTORS:])
    most = max([others, *(one.commits for one in who[:1]), 1])
    known = source.projections.commits(position)
    before = None if seen is asked else totals(asked.source)
    types_before = {} if before is None else {(one.kind, one.id): one.count for one in before.types}
    return shown(
        asked,
        "overview.html.j2",
        title="Overview",
        section="Overview",
        kinds=[
            {
                "name": kind,
                "total": there.counts.get(kind, 0),
                "gained": there.counts.get(kind, 0) - before.counts.get(kind, 0) if before else 0,
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
            for one in who[:_ACTORS]
        ],
        others={"commits": others, "share": round(100 * others / most, 1)} if others else None,
        activity=_stacks(activity(source, buckets=_BUCKETS), position),
        reasons=_reasons(commits(source, with_reason=True, limit=_REASONS_READ)),
        holds=_holds(seen),
        commits=known.count(position),
        two=before is not None,
        gained_by={
            (one.kind, one.id): one.count - types_before.get((one.kind, one.id), 0)
            for one in there.types
            if before is not None
        },
        commits_gained=known.count(position) - known.count(asked.moments.at.position),
        recorded_at=seen.moments.at.recorded_at,
        log_bytes=asked.whole_store.info().log_bytes if seen.moments.is_now else None,
        command=_COMMAND.format(store=store, as_of=as_of(seen)),
        **values,
    )


def _holds(asked: Asked) -> list[HoldAnswer] | None:
    """The holds in force; None for who may not see them."""
    if Role.AUDIT not in asked.roles:
        return None
    found = holds(asked.source.log, asked.source.snapshot())
    return [one for one in found if one.stage != "released"]


def _reasons(found: Sequence[CommitSummary]) -> list[CommitSummary]:
    """The newest commit of each reason."""
    newest: dict[tuple[str | None, str | None], CommitSummary] = {}
    for one in found:
        newest.setdefault((one.actor, one.reason), one)
    return [*newest.values()][:_REASONS]


def _stacks(found: Activity, position: int) -> dict[str, Any] | None:
    """Commits over time by who made them, as boxes in a drawing of 1,000 by 100."""
    if found.start is None or found.end is None:
        return None
    whole = (found.end - found.start).total_seconds()
    most = max(one.commits for one in found.buckets)
    wide = 1_000 * found.bucket_seconds / whole
    boxes: list[dict[str, Any]] = []
    for one in found.buckets:
        if one.first_position > position:
            break
        left = 1_000 * (one.start - found.start).total_seconds() / whole
        below = 0.0
        for place, commits_of in enumerate(one.by):
            # By the square root of all, as the strip in the header.
            height = 100 * (one.commits / most) ** 0.5 * commits_of / one.commits
            below += height
            if commits_of:
                boxes.append(
                    {
                        "place": place,
                        "x": round(left, 1),
                        "y": round(100 - below, 1),
                        "width": round(max(1.0, 0.85 * wide), 1),
                        "height": round(height, 1),
                    }
                )
    names = [one or "nobody named" for one in found.actors]
    seen = {box["place"] for box in boxes}
    return {
        "boxes": boxes,
        "names": [(place, name) for place, name in enumerate([*names, "others"]) if place in seen],
        "others_place": len(names),
        "start": found.start,
        "end": found.end,
    }


ROUTES = (Route("/", overview, kept=False),)
