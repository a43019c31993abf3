"""Single records of the log, and what a commit put, entity by entity."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from eventstore.answers import ErasedByAnswer
from eventstore.errors import NotFoundError
from eventstore.history.marks import marks_of
from eventstore.history.versions import records_at, versions_at
from eventstore.http_api.commits import CommitSummary, commit
from eventstore.http_api.entities import VersionRow, erasures_told, version_row
from eventstore.http_api.problems import NotYetError
from eventstore.log.kinds import KINDS
from eventstore.log.readable import read_message
from eventstore.metadata_store.source import Source
from eventstore.plain_json import plain
from eventstore.server.roles import Role, is_withheld
from eventstore.times import moment_of


class RecordDetail(msgspec.Struct, frozen=True):
    """A record of the log, as `eventstore log --json` has it.

    `content` is None where it was erased, or `is_withheld`: told to auditors alone.
    `commit_positions` are the first and last of its commit.
    """

    position: int
    commit: int
    commit_positions: tuple[int, int]
    recorded_at: Any
    kind: str
    entity_id: int
    type_id: int | None
    previous: int | None
    actor: str | None
    reason: str | None
    request_id: str | None
    content: dict[str, Any] | None
    erasures: list[ErasedByAnswer]
    is_withheld: bool = False


class CommitDetail(msgspec.Struct, frozen=True):
    """A commit, and what it did to entities in the order of its records.

    `after` is the position that leads on to further ones. `older` and `newer` are the numbers of
    the commits beside it, as of the moment.
    """

    summary: CommitSummary
    tree_head: str
    changes: list[VersionRow]
    after: int | None
    older: int | None
    newer: int | None


def record(source: Source, position: int) -> RecordDetail:
    """The record at a position.

    Raises NotYetError where it came after the moment, NotFoundError where there is none.
    """
    newest = source.position()
    if newest < position <= source.engine.snapshot().position:
        raise NotYetError(f"position {position} is later than the moment, {newest}", position)
    if not 1 <= position <= newest:
        raise NotFoundError(f"there is no record at position {position}: the newest is {newest}")
    (found,) = records_at(source.log, [position])
    known = source.projections.commits(newest)
    content = None
    if found.payload is not None:
        content = plain(read_message(KINDS[found.kind].message, found.payload))
    return RecordDetail(
        position,
        found.commit,
        known.positions(found.commit),
        moment_of(found.recorded_at),
        found.kind,
        found.entity_id,
        found.type_id,
        found.previous,
        found.actor,
        found.reason,
        found.request_id,
        content,
        erasures_told(marks_of(source.log, source.projections.index).of(position)),
    )


def commit_detail(source: Source, number: int, *, after: int = 0, limit: int = 100) -> CommitDetail:
    """A commit and some of its changes, those after a position.

    Raises NotFoundError where there is none of this number as of the moment.
    """
    summary = commit(source, number)
    start = max(summary.first_position, after + 1)
    end = min(summary.last_position, start + limit - 1)
    found = versions_at(source.log, source.snapshot(), range(start, end + 1))
    newest = source.projections.commits(source.position()).count(source.position())
    head = summary.last_position
    (batch,) = source.log.scan(head - 1, head, ["tree_head"])
    return CommitDetail(
        summary,
        batch["tree_head"][0].as_py().hex(),
        [version_row(None, version) for version in found],
        end if end < summary.last_position else None,
        number - 1 if number > 1 else None,
        number + 1 if number < newest else None,
    )


def changes_of(
    source: Source, commits: Sequence[CommitSummary], limit: int
) -> dict[int, list[VersionRow]]:
    """By commit the first of its changes, read together."""
    positions = sorted(
        position
        for one in commits
        for position in range(
            one.first_position, min(one.last_position, one.first_position + limit - 1) + 1
        )
    )
    found: dict[int, list[VersionRow]] = {one.commit: [] for one in commits}
    for version in versions_at(source.log, source.snapshot(), positions):
        found[version.commit].append(version_row(None, version))
    return found


def rows_for(rows: Sequence[VersionRow], roles: Collection[Role]) -> list[VersionRow]:
    """What somebody with these roles is told: of holds and rules only auditors what they say."""
    return [
        msgspec.structs.replace(row, changes=[], is_withheld=True)
        if is_withheld(row.kind, roles)
        else row
        for row in rows
    ]


def record_for(found: RecordDetail, roles: Collection[Role]) -> RecordDetail:
    """The same of a record."""
    if not is_withheld(found.kind, roles):
        return found
    return msgspec.structs.replace(found, content=None, is_withheld=True)
