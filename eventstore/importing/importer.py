"""Append the content of an MLMD database to a new store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from eventstore import errors
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.mlmd_rows import MlmdReader, parent_context
from eventstore.importing.oddities import oddities
from eventstore.importing.sources import opened_source
from eventstore.importing.timeline import Timeline
from eventstore.log import Draft, Log, Progress
from eventstore.log import record as kind_names
from eventstore.log.os_errors import refuse_no_path, resolved, translated
from eventstore.log.readable import refuse_unreadable
from eventstore.log.stores import new_store
from eventstore.long_work import long_work

RECORDS_PER_COMMIT = 1_000
BYTES_PER_COMMIT = 16 * 1024 * 1024
"""The last record may exceed it somewhat: a commit is held in memory."""

_NODE_KINDS = (kind_names.ARTIFACT, kind_names.EXECUTION, kind_names.CONTEXT)
_NO_ID = "ids are positive"


class ImportReport(msgspec.Struct, frozen=True):
    """What an import brought in.

    `source` is the path of the database, or its URL without the password. `records` counts by
    record kind; `position` is that of the store then. `warnings` are lines about what MLMD let
    into its database and a reader of the data should know.
    """

    source: str
    schema_version: int
    position: int
    records: dict[str, int]
    warnings: list[str]


@long_work("Importing")
def import_mlmd_database(
    source: str | Path,
    store_directory: Path,
    *,
    copies: bool = False,
    progress: Progress | None = None,
    actor: str | None = None,
    reason: str | None = None,
) -> ImportReport:
    """Make a store in `store_directory` of the MLMD database `source`, schema version 0 to 10.

    The source is the path of an SQLite database or a URL, `mysql://user:password@host/database` or
    `postgresql://…`. Types come first, by id; nodes and links follow in the order in which they
    came to be (see `eventstore.importing.timeline`). Ids, types, properties, times and links are
    kept as MLMD's own gets answer them. The records' recorded-at is the time of the import: what
    MLMD knew before is not in its database. Without a `reason`, that of each commit names the
    source, never its password.

    The database is read in one transaction and not changed. Writers of an SQLite database wait
    meanwhile unless it is in WAL mode, with `copies` only until it is copied; those of a server
    never do. The store appears in
    `store_directory`, which must not exist or be empty, when it is complete; an import that fails
    leaves nothing. `progress` is called with (records done, records in all).

    Raises NotFoundError without a source, AlreadyExistsError when the target is in use,
    FailedPreconditionError for a database that is not MLMD's or of another version,
    UnavailableError while it is being written or out of reach, UnauthenticatedError or
    PermissionDeniedError where the server refuses the user, DataLossError for a damaged database,
    and the errors of the disk that is written to.
    """
    refuse_no_path(store_directory)
    opened = opened_source(source, copies=copies)
    try:
        database = MlmdDatabase(opened)
        target = resolved(store_directory)
        _refuse_occupied(target)
        try:
            with new_store(target) as log:
                report = import_into(
                    database,
                    log,
                    progress=progress,
                    actor=actor,
                    reason=reason or f"import of {database.described}",
                )
        except OSError as error:
            raise translated(error, "importing into", store_directory) from None
        return report
    finally:
        opened.close()


def drafts(database: MlmdDatabase, reader: MlmdReader) -> Iterator[Draft]:
    """Every type, node and link as a draft, in the order of the import.

    Raises DataLossError for an id that no put gives out: readers refuse a record with it.
    """
    for kind, node_type in reader.types():
        yield draft_of(database, kind, node_type.id, node_type)
    timeline = iter(Timeline(database))
    while chunk := list(islice(timeline, RECORDS_PER_COMMIT)):
        by_kind: dict[str, list[int]] = {}
        for kind, row_id, ends in chunk:
            if ends is None:
                by_kind.setdefault(kind, []).append(row_id)
        messages = {kind: reader.read(kind, ids) for kind, ids in by_kind.items()}
        for kind, row_id, ends in chunk:
            message = messages[kind][row_id] if ends is None else parent_context(*ends)
            yield draft_of(database, kind, row_id, message)


def draft_of(
    database: MlmdDatabase, kind: str, row_id: int, message: Any, previous: int | None = None
) -> Draft:
    """The draft of a type, node or link that has a record at `previous`, if any.

    Raises DataLossError for an id that no put gives out.
    """
    type_id = message.type_id if kind in _NODE_KINDS else None
    if row_id < 1:
        raise database.damaged(_table(kind), row_id, _NO_ID)
    if type_id is not None and type_id < 1:
        what = f"its type_id is {type_id}, and {_NO_ID}"
        raise database.damaged(_table(kind), row_id, what)
    payload: bytes = message.SerializeToString(deterministic=True)
    return Draft(kind, row_id, type_id, previous, payload)


def import_into(
    database: MlmdDatabase,
    log: Log,
    *,
    progress: Progress | None,
    actor: str | None,
    reason: str,
) -> ImportReport:
    """Append to an empty log what a database holds, and seal it."""
    reader = MlmdReader(database)
    counts = dict.fromkeys(kind_names.ENTITY_KIND_NAMES, 0)
    total = database.count()
    for chunk in commits_of(drafts(database, reader)):
        refuse_unreadable(chunk)
        log.append(chunk, expected_position=log.position, actor=actor, reason=reason)
        for draft in chunk:
            counts[draft.kind] += 1
        if progress is not None:
            progress(log.position, total)
    log.seal()
    warnings = list(oddities(database))
    warnings += [f"{count} {words}" for words, count in sorted(reader.noticed.items())]
    if progress is not None:
        progress(total, total)
    return ImportReport(database.name, database.schema.version, log.position, counts, warnings)


def commits_of(pending: Iterator[Draft]) -> Iterator[list[Draft]]:
    """The drafts of each commit: as many as a commit takes, or fewer when they are long."""
    chunk: list[Draft] = []
    size = 0
    for draft in pending:
        chunk.append(draft)
        size += len(draft.payload)
        if len(chunk) == RECORDS_PER_COMMIT or size >= BYTES_PER_COMMIT:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _table(kind: str) -> str:
    """The MLMD table that holds a kind of type, node or link."""
    return "Type" if kind.endswith("_type") else kind.title().replace("_", "")


def _refuse_occupied(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise errors.AlreadyExistsError(
            f"{target} exists already: import into a directory that does not exist or is empty"
        )
