"""The log: commits, newest first, and one commit with what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from shlex import quote as shell
from typing import Any, Final

import msgspec

from eventstore.http_api.catalog import types
from eventstore.http_api.commits import actors, commits
from eventstore.http_api.entities import VersionRow
from eventstore.http_api.lists import node_rows
from eventstore.http_api.records import commit_detail, rows_for
from eventstore.http_api.request_moment import time_of
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.log.kinds import NODE_KINDS
from eventstore.log.record import KIND_NAMES
from eventstore.metadata_store.source import Source
from eventstore.page.links import Links
from eventstore.page.showing import as_of, links_of, moment_fields, shown, store_name
from eventstore.sql.type_views import quoted_text

_LIMIT: Final = 50
_ACTORS: Final = 100


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
    since = time_of(source, query.since, is_start=True)
    until = time_of(source, query.to, is_start=False)
    found = commits(
        source,
        before=query.before,
        actor=query.actor or None,
        with_reason=query.reason,
        kinds=[query.kind] if query.kind else (),
        types=[query.type] if query.type else (),
        since=since,
        until=until,
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
        types=[one.name for kind in NODE_KINDS for one in types(source, kind.name)],
        chosen=query,
        is_filtered=any(given.values()),
        moments=moment_fields(asked),
        commits=page,
        newest_page=links.to("/log", **given) if query.before else None,
        older=links.to("/log", **given, before=page[-1].commit) if len(found) > _LIMIT else None,
        command=_log_command(asked, query, since, until),
    )


def one_commit(asked: Asked, query: CommitQuery) -> Html:
    """One commit, and the differences that it made."""
    source, links = asked.source, links_of(asked)
    found = commit_detail(source, query.number, after=query.after or 0, limit=_LIMIT)
    one = found.summary
    before, last = one.first_position - 1, one.last_position
    return shown(
        asked,
        "commit.html.j2",
        title=f"Commit {one.commit:,}",
        section="Log",
        one=one,
        tree_head=found.tree_head,
        previous=found.older and links.to(f"/commits/{found.older}"),
        following=found.newer and links.to(f"/commits/{found.newer}"),
        changes=_changes(source, links, rows_for(found.changes, asked.roles)),
        more=found.after and links.to(f"/commits/{one.commit}", after=found.after),
        command=(
            f"eventstore changes {store_name(asked)} --since {before} --until {last}\n\n"
            f"store.changes(since={before}, until={last})"
        ),
    )


def _changes(source: Source, links: Links, found: Sequence[VersionRow]) -> list[dict[str, Any]]:
    """What a commit did, with the names that nodes have as of the moment."""
    names: dict[tuple[str, int], str | None] = {}
    for kind in NODE_KINDS:
        ids = {one.id for one in found if one.kind == kind.name}
        for row in node_rows(source, kind, sorted(ids), ()) if ids else ():
            names[kind.name, row.id] = row.name
    return [
        {
            "kind": one.kind.replace("_", " "),
            "id": one.id,
            "name": names.get((one.kind, one.id)) or f"{one.kind.replace('_', ' ')} {one.id}",
            "href": links.entity(one.kind, one.id) if (one.kind, one.id) in names else None,
            "position": one.position,
            "is_new": one.is_first,
            "erasures": one.erasures,
            "fields": one.changes,
            "is_withheld": one.is_withheld,
        }
        for one in found
    ]


def _log_command(asked: Asked, query: LogQuery, since: datetime | None, to: datetime | None) -> str:
    """The query for the commits that are shown."""
    conditions = []
    if query.actor:
        conditions.append(f"actor = {quoted_text(query.actor)}")
    if query.reason:
        conditions.append("reason IS NOT NULL")
    if since is not None:
        conditions.append(f"recorded_at >= '{since.isoformat()}'")
    if to is not None:
        conditions.append(f"recorded_at <= '{to.isoformat()}'")
    if query.before:
        conditions.append(f"number < {query.before}")
    of = [f"kind = {quoted_text(query.kind)}"] if query.kind else []
    if query.type:
        kinds = ", ".join(f"'{kind.name}_type'" for kind in NODE_KINDS)
        named = f"kind IN ({kinds}) AND name = {quoted_text(query.type)}"
        of.append(f"type_id IN (SELECT id FROM types WHERE {named})")
    if of:
        conditions.append(f"number IN (SELECT commit FROM records WHERE {' AND '.join(of)})")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"FROM commits{where} ORDER BY number DESC LIMIT {_LIMIT}"
    return f"eventstore sql {store_name(asked)} {shell(sql)}{as_of(asked)}"


ROUTES = (
    Route("/log", log),
    Route("/commits/{number:int}", one_commit),
)
