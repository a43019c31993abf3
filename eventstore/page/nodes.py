"""One artifact, execution or context: what it says, who said it, and what it is connected with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec

from eventstore.answers import FieldAnswer
from eventstore.http_api.entities import (
    Entity,
    Events,
    VersionRow,
    contexts,
    entity,
    events,
    members,
    relatives,
    touching,
    versions,
)
from eventstore.http_api.lists import NodeRow, node_rows
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.http_api.rules import covering
from eventstore.log.kinds import EXECUTION, LINK_KINDS
from eventstore.metadata_store.source import Source
from eventstore.page.formatting import brief
from eventstore.page.frame import Tick
from eventstore.page.links import Links
from eventstore.page.showing import as_of, links_of, pinned_moments, shown, store_name
from eventstore.plain_values import is_same
from eventstore.server.roles import Role

_VERSIONS: Final = 50
_EVENTS: Final = 25
_RUN_MIN: Final = 3
_RUN_GAP: Final = timedelta(minutes=1)
_SPARK: Final = (160, 24)
_LINKS: Final = frozenset(kind.name for kind in LINK_KINDS)


class NodeQuery(msgspec.Struct, frozen=True):
    """`before` is the number of a version that older ones come before; the others lead on, too."""

    id: int
    before: int | None = None
    inputs_before: int | None = None
    outputs_before: int | None = None
    contexts_after: int | None = None


class ShownField(msgspec.Struct, frozen=True):
    """A field at A and, where there are two moments, at B. `version` is the one that set it."""

    field: str
    value: Any
    later: Any
    differs: bool
    version: int | None
    position: int | None
    actor: str | None
    recorded_at: Any


class RunLine(msgspec.Struct, frozen=True):
    """A field over some versions: its value before all of them, None without one, and the last.

    `points` draw numbers as a line.
    """

    field: str
    before: Any
    after: Any
    points: str | None


class VersionRun(msgspec.Struct, frozen=True):
    """Versions that are shown as one, the newest first; a single one as itself."""

    versions: list[VersionRow]
    lines: list[RunLine] = []

    @property
    def is_of_links(self) -> bool:
        """Whether these are several links that began together."""
        return len(self.versions) > 1 and self.first.is_first

    @property
    def first(self) -> VersionRow:
        """The oldest."""
        return self.versions[-1]

    @property
    def last(self) -> VersionRow:
        """The newest."""
        return self.versions[0]


def node(kind: str, asked: Asked, query: NodeQuery) -> Html:
    """A node, its history and what it is connected with."""
    source, links = asked.source, links_of(asked)
    found = entity(source, kind, query.id)
    if kind == "context":
        history = touching(source, query.id, before=query.before, limit=_VERSIONS)
    else:
        history = versions(source, kind, query.id, before=query.before, limit=_VERSIONS)
    here = partial(links.entity, kind, query.id)
    values: dict[str, Any] = {}
    if kind == "context":
        values = _of_context(asked, query.id, links)
    else:
        near = contexts(source, kind, query.id, after=query.contexts_after)
        values["contexts"] = [_related(row) for row in near.nodes]
        values["contexts_total"] = near.count
        values["contexts_more"] = near.after and here(contexts_after=near.after)
        values["uses"] = _uses(asked, kind, query, here)
    return shown(
        asked,
        "context.html.j2" if kind == "context" else "entity.html.j2",
        title=found.name or f"{kind} {found.id}",
        section=f"{kind.capitalize()}s",
        kind=kind,
        id=found.id,
        name=found.name or f"{kind} {found.id}",
        type=found.type,
        state=found.state,
        created_at=found.created_at,
        updated_at=found.updated_at,
        versions_total=found.versions,
        is_erased=found.erased_by is not None,
        notices=_notices(asked, found, links),
        fields=_fields(found, _at_b(asked, found)),
        two=asked.moments.until is not None,
        groups=runs_of(history.versions),
        ends=_ends(asked, history.versions),
        ticks=[_tick(one) for one in history.versions],
        position=found.position,
        later_versions=_later(asked, found),
        older=history.before and here(before=history.before),
        pinned=here(**pinned_moments(asked)),
        has_report=kind != "context" and Role.AUDIT in asked.roles,
        python=_python(kind, found, asked),
        command=_command(kind, found, asked),
        **values,
    )


def runs_of(found: Sequence[VersionRow]) -> list[VersionRun]:
    """Versions, the newest first, with those together that are better shown as one.

    These are three or more by one actor, each within a minute of the next, that change the same
    fields and say neither why nor on which request; or as many links of a kind that one commit put.
    """
    runs: list[VersionRun] = []
    for group in _alike(found):
        if len(group) < _RUN_MIN:
            runs += [VersionRun([one]) for one in group]
        else:
            runs.append(VersionRun(group, [] if group[0].is_first else [*_lines(group)]))
    return runs


def _alike(found: Iterable[VersionRow]) -> Iterator[list[VersionRow]]:
    group: list[VersionRow] = []
    for one in found:
        if group and not (_continues(group[-1], one) or _are_links(group[-1], one)):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _continues(newer: VersionRow, older: VersionRow) -> bool:
    plain = not (older.is_first or older.reason or older.request_id or older.erasures)
    return (
        plain
        and not (newer.reason or newer.request_id or newer.erasures or newer.replaces)
        and (older.kind, older.id, older.actor) == (newer.kind, newer.id, newer.actor)
        and newer.recorded_at - older.recorded_at <= _RUN_GAP
        and [one.field for one in older.changes] == [one.field for one in newer.changes]
    )


def _are_links(newer: VersionRow, older: VersionRow) -> bool:
    """Whether both are links of the same kind, and begin in the same commit."""
    return (
        newer.kind in _LINKS
        and (older.kind, older.commit) == (newer.kind, newer.commit)
        and all(one.is_first and not (one.erasures or one.replaces) for one in (newer, older))
    )


def _lines(group: Sequence[VersionRow]) -> Iterator[RunLine]:
    for place, last in enumerate(group[0].changes):
        values = [one.changes[place].after for one in reversed(group)]
        first: FieldAnswer = group[-1].changes[place]
        yield RunLine(last.field, first.before, last.after, spark(values))


def spark(values: Sequence[Any]) -> str | None:
    """The points of a line through numbers, None for what is no line."""
    if len(values) < 2 or not all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and abs(one) < 1e300
        for one in values
    ):
        return None
    low, high = min(values), max(values)
    width, height = _SPARK
    across, up = width / (len(values) - 1), (height - 4) / ((high - low) or 1)
    return " ".join(
        f"{place * across:.1f},{height - 2 - (one - low) * up:.1f}"
        for place, one in enumerate(values)
    )


def _fields(found: Entity, later: Entity | None) -> list[ShownField]:
    """The fields as they are at A; state first, since it says what the node is worth."""
    then = {} if later is None else {one.field: one.value for one in later.fields}
    fields = [
        ShownField(
            one.field,
            one.value,
            then.get(one.field),
            later is not None and not is_same(one.value, then.get(one.field)),
            one.version,
            one.position,
            one.actor,
            one.recorded_at,
        )
        for one in found.fields
    ]
    if later is not None:
        known = {one.field for one in found.fields}
        fields += [
            ShownField(
                one.field,
                None,
                one.value,
                True,
                one.version,
                one.position,
                one.actor,
                one.recorded_at,
            )
            for one in later.fields
            if one.field not in known
        ]
    return sorted(fields, key=lambda one: (one.field != "state", "." in one.field, one.field))


def _at_b(asked: Asked, found: Entity) -> Entity | None:
    until = asked.moments.until
    if until is None:
        return None
    return entity(asked.source_at(until.position), found.kind, found.id)


def _later(asked: Asked, found: Entity) -> int:
    """How many versions came after the moment."""
    if asked.moments.is_now:
        return 0
    now = versions(asked.source_at(asked.moments.newest.position), found.kind, found.id, limit=1)
    return now.count - found.versions


def _notices(asked: Asked, found: Entity, links: Links) -> list[dict[str, Any]]:
    """What a reader has to know before all else, with the record that says it."""
    notices = []
    if found.erased_by is not None:
        notices.append(
            {
                "text": "What it said was erased. What is left is its id, its type and its links.",
                "is_bad": True,
                "href": links.to("/rules/erasures", number=found.erased_by),
                "link": f"erasure {found.erased_by}",
            }
        )
    if Role.AUDIT in asked.roles:
        by = covering(asked.source, found.kind, found.id)
        for tab, said, refusals in (
            ("holds", "Held", by.holds),
            ("retention", "Locked", by.locks),
        ):
            notices += [
                {
                    "text": f"{said} for {one.basis}"
                    + (f" until {one.until:%Y-%m-%d}" if one.until else "")
                    + ": it cannot be erased.",
                    "is_bad": False,
                    "href": links.to(f"/rules/{tab}", number=one.number),
                    "link": f"{'hold' if tab == 'holds' else 'rule'} {one.number}",
                }
                for one in refusals
            ]
    return notices


def _ends(asked: Asked, found: Iterable[VersionRow]) -> dict[int, tuple[int, int]]:
    """The first and the last position of each commit."""
    known = asked.source.projections.commits(asked.moments.at.position)
    return {one.commit: known.positions(one.commit) for one in found}


def _tick(one: VersionRow) -> Tick:
    time = 1_000 * one.recorded_at.timestamp()
    return Tick(one.position, one.commit, time, brief(one.actor), brief(one.reason))


def _uses(asked: Asked, kind: str, query: NodeQuery, here: partial[str]) -> list[dict[str, Any]]:
    """Events by direction, and within it by the type at the other end."""
    shown_first = (False, True) if kind == "artifact" else (True, False)
    verbs = {
        ("artifact", False): "Made by",
        ("artifact", True): "Used by",
        ("execution", True): "Read",
        ("execution", False): "Made",
    }
    groups = []
    for is_input in shown_first:
        name = "inputs_before" if is_input else "outputs_before"
        found: Events = events(
            asked.source,
            kind,
            query.id,
            inputs=is_input,
            before=getattr(query, name),
            limit=_EVENTS,
        )
        if not found.events:
            continue
        by_type: dict[str, list[dict[str, Any]]] = {}
        for one in found.events:
            by_type.setdefault(one.node.type, []).append(
                {**_related(one.node), "at": one.occurred_at, "event": one.type, "path": one.path}
            )
        groups.append(
            {
                "verb": verbs[kind, is_input],
                "total": found.inputs if is_input else found.outputs,
                "types": [*by_type.items()],
                "more": found.before and here(**{name: found.before}),
            }
        )
    return groups


def _of_context(asked: Asked, context_id: int, links: Links) -> dict[str, Any]:
    source = asked.source
    parents = relatives(source, context_id, parents=True)
    children = relatives(source, context_id, parents=False)
    executions = members(source, context_id, "execution", limit=300)
    artifacts = members(source, context_id, "artifact", limit=50)
    return {
        "parents": [_related(row) for row in parents.nodes],
        "children": [_related(row) for row in children.nodes],
        "children_total": children.count,
        "executions": [_related(row) for row in executions.nodes],
        "executions_total": executions.count,
        "spans": _spans(source, [row.id for row in executions.nodes]),
        "artifacts": [_related(row) for row in artifacts.nodes],
        "artifacts_total": artifacts.count,
        "children_list": links.list("context", filter=f"parent_contexts_0.id = {context_id}"),
        "artifacts_list": links.list("artifact", filter=f"contexts_0.id = {context_id}"),
        "executions_list": links.list("execution", filter=f"contexts_0.id = {context_id}"),
    }


def _spans(source: Source, ids: Sequence[int]) -> dict[str, Any] | None:
    """Executions as bars from their first version to their last, on one scale in percent."""
    timed = [
        (row, row.created_at, row.cells[0])
        for row in node_rows(source, EXECUTION, ids, ("updated_at",))
        if isinstance(row.created_at, datetime) and isinstance(row.cells[0], datetime)
    ]
    if not timed:
        return None
    start, end = min(one[1] for one in timed), max(one[2] for one in timed)
    whole = (end - start).total_seconds() or 1.0
    return {
        "start": start,
        "end": end,
        "bars": [
            {
                **_related(row),
                "x": min(99.0, round(100 * (first - start).total_seconds() / whole, 2)),
                "width": max(1.0, round(100 * (last - first).total_seconds() / whole, 2)),
                "from": first,
                "to": last,
            }
            for row, first, last in timed
        ],
    }


def _related(row: NodeRow) -> dict[str, Any]:
    return {"kind": row.kind, "id": row.id, "name": row.name, "type": row.type, "state": row.state}


def _python(kind: str, found: Entity, asked: Asked) -> str:
    store = "store" if asked.moments.is_now else f"store.as_of({asked.moments.at.position})"
    return f"[node] = {store}.get_{kind}s_by_id([{found.id}])"


def _command(kind: str, found: Entity, asked: Asked) -> str:
    store = store_name(asked)
    return (
        f"eventstore get {store} {kind} {found.id}{as_of(asked)}\n"
        f"eventstore history {store} {kind} {found.id}\n\n{_python(kind, found, asked)}\n"
        f'store.history("{kind}", {found.id})'
    )


def artifact(asked: Asked, query: NodeQuery) -> Html:
    """An artifact."""
    return node("artifact", asked, query)


def execution(asked: Asked, query: NodeQuery) -> Html:
    """An execution."""
    return node("execution", asked, query)


def context(asked: Asked, query: NodeQuery) -> Html:
    """A context, with its executions, artifacts, parents and children."""
    return node("context", asked, query)


ROUTES = (
    Route("/artifacts/{id:int}", artifact),
    Route("/executions/{id:int}", execution),
    Route("/contexts/{id:int}", context),
)
