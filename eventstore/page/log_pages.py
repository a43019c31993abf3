"""The log: commits, newest first, and one commit with what it changed."""

from __future__ import annotations

from shlex import quote as shell
from typing import Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.history.versions import Version, versions_at
from eventstore.http_api.catalog import types
from eventstore.http_api.commits import CommitSummary, actors, commit, commits
from eventstore.http_api.entities import erasures_told
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.log.record import KIND_NAMES
from eventstore.metadata_store.source import Source
from eventstore.moment_texts import parsed_moment
from eventstore.moments import position_of
from eventstore.page.links import Links
from eventstore.page.showing import links_of, moment_fields, shown, store_name
from eventstore.plain_values import shown_struct
from eventstore.times import Microseconds, moment_of

_LIMIT: Final = 50
_ACTORS: Final = 100
_NODES: Final = ("artifact", "execution", "context")


class LogQuery(msgspec.Struct, frozen=True):
    """`since` and `to` are moments as texts, `before` is the number of a commit."""

    actor: str = ""
    kind: str = ""
    type: str = ""
    since: str = ""
    to: str = ""
    reason: bool = False
    before: int | None = None


class CommitQuery(msgspec.Struct, frozen=True):
    """`after` is a position: what comes before it in the commit is not shown."""

    number: int
    after: int | None = None


def log(asked: Asked, query: LogQuery) -> Html:
    """The newest commits, of those that are asked for."""
    source, links = asked.source, links_of(asked)
    given = {
        "actor": query.actor or None,
        "kind": query.kind or None,
        "type": query.type or None,
        "since": query.since or None,
        "to": query.to or None,
        "reason": 1 if query.reason else None,
    }
    found = commits(
        source,
        before=query.before,
        actor=query.actor or None,
        with_reason=query.reason,
        kinds=[query.kind] if query.kind else (),
        types=[query.type] if query.type else (),
        since=_time(source, query.since, is_start=True),
        until=_time(source, query.to, is_start=False),
        limit=_LIMIT + 1,
    )
    page = found[:_LIMIT]
    return shown(
        asked,
        "log.html.j2",
        title="Log",
        section="Log",
        actors=[one.actor for one in actors(source)[:_ACTORS] if one.actor],
        kinds=KIND_NAMES,
        types=[one.name for kind in _NODES for one in types(source, kind)],
        chosen=query,
        is_filtered=any(given.values()),
        moments=moment_fields(asked),
        commits=page,
        newest_page=links.to("/log", **given) if query.before else None,
        older=links.to("/log", **given, before=page[-1].commit) if len(found) > _LIMIT else None,
        command=_log_command(asked, query),
    )


def one_commit(asked: Asked, query: CommitQuery) -> Html:
    """One commit, and the differences that it made."""
    source, links = asked.source, links_of(asked)
    one = commit(source, query.number)
    known = source.projections.commits(source.position())
    start = max(one.first_position, (query.after or 0) + 1)
    positions = range(start, min(one.last_position, start + _LIMIT - 1) + 1)
    found = versions_at(source.log, source.snapshot(), positions)
    address = f"/commits/{one.commit}"
    return shown(
        asked,
        "commit.html.j2",
        title=f"Commit {one.commit:,}",
        section="Log",
        one=one,
        tree_head=_tree_head(source, one),
        previous=links.to(f"/commits/{one.commit - 1}") if one.commit > 1 else None,
        following=(
            links.to(f"/commits/{one.commit + 1}")
            if one.commit < known.count(source.position())
            else None
        ),
        changes=[_change(links, version) for version in found],
        more=(
            links.to(address, after=positions[-1]) if positions[-1] < one.last_position else None
        ),
        command=(
            f"eventstore changes {store_name(asked)} --since {one.first_position - 1} "
            f"--until {one.last_position}\n\n"
            f"store.changes(since={one.first_position - 1}, until={one.last_position})"
        ),
    )


def _change(links: Links, version: Version) -> dict[str, Any]:
    is_node = version.kind in _NODES
    name = getattr(version.message, "name", "") if version.message is not None else ""
    return {
        "kind": version.kind.replace("_", " "),
        "id": version.id,
        "name": name or f"{version.kind.replace('_', ' ')} {version.id}",
        "href": links.entity(version.kind, version.id) if is_node else None,
        "position": version.position,
        "sign": "+" if version.is_first else "~",
        "erasures": erasures_told(version.erasures),
        "fields": [
            {
                "field": one.field,
                "before": shown_struct(one.before),
                "after": shown_struct(one.after),
            }
            for one in version.changes
        ],
    }


def _tree_head(source: Source, one: CommitSummary) -> str:
    for batch in source.log.scan(one.last_position - 1, one.last_position, ("tree_head",)):
        for head in batch["tree_head"].to_pylist():
            return head.hex() if head is not None else ""
    return ""


def _time(source: Source, text: str, *, is_start: bool) -> Any:
    """The time that a text stands for; positions stand for the time of their record."""
    if not text.strip():
        return None
    moment = parsed_moment(text)
    if moment.number is None:
        return moment.start if is_start else moment.end
    if not moment.number:
        raise InvalidArgumentError("positions begin with 1")
    position = position_of(source.log, moment.number)
    return moment_of(Microseconds(source.log.recorded_at(position)))


def _log_command(asked: Asked, query: LogQuery) -> str:
    words = [f"eventstore log {store_name(asked)} --reverse --limit {_LIMIT}"]
    if query.actor:
        words.append(f"--actor {shell(query.actor)}")
    if query.kind:
        words.append(f"--kind {query.kind}")
    if query.since:
        words.append(f"--since {shell(query.since)}")
    if query.to:
        words.append(f"--until {shell(query.to)}")
    elif not asked.moments.is_now:
        words.append(f"--upto {asked.moments.at.position}")
    return " ".join(words)


ROUTES = (
    Route("/log", log),
    Route("/commits/{number:int}", one_commit),
)
