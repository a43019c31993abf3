"""Append the content of an MLMD database to a new store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from eventstore import errors
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.log import DirectoryLog, Draft, Progress
from eventstore.log import record as kinds
from eventstore.log.os_errors import translated

RECORDS_PER_COMMIT = 1_000

_NODE_KINDS = (kinds.ARTIFACT, kinds.EXECUTION, kinds.CONTEXT)
_SEQUENCE_TABLES = {
    "Artifact": kinds.ARTIFACT,
    "Execution": kinds.EXECUTION,
    "Context": kinds.CONTEXT,
    "Type": "type",
}


class ImportReport(msgspec.Struct, frozen=True):
    """What an import brought in: records by kind, and what a reader of the data should know."""

    schema_version: int
    position: int
    records: dict[str, int]
    warnings: list[str]


def import_mlmd_database(
    source: Path,
    directory: Path,
    *,
    progress: Progress | None = None,
    actor: str | None = None,
) -> ImportReport:
    """Make a store in `directory` of the MLMD database `source`, schema version 6 to 10.

    Types come first, by id; nodes and links follow in the order in which they came to be (see
    `MlmdDatabase.timeline`). Ids, types, properties, times and links are kept as MLMD's own gets
    answer them. The records' recorded-at is the time of the import: what MLMD knew before is not in
    its database. The store appears in `directory`, which must not exist or be empty, when it is
    complete; an import that fails leaves nothing behind.

    Raises NotFoundError without a source, AlreadyExistsError when the target is in use,
    FailedPreconditionError for a database that is not MLMD's or of another version, DataLossError
    for a damaged one.
    """
    database = MlmdDatabase(source)
    try:
        _refuse_occupied(directory)
        unfinished = directory.absolute().parent / f".{directory.name}.import-{os.getpid()}"
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            report = _import_into(database, unfinished, progress, actor)
            os.replace(unfinished, directory)
            _sync_parent(directory)
        except OSError as error:
            raise translated(error, "importing into", directory) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return report
    finally:
        database.close()


def _import_into(
    database: MlmdDatabase, directory: Path, progress: Progress | None, actor: str | None
) -> ImportReport:
    log = DirectoryLog.create(directory)
    counts = dict.fromkeys(kinds.KINDS, 0)
    warnings = _Warnings()
    total = database.count()
    try:
        drafts = _drafts(database, warnings)
        while chunk := list(islice(drafts, RECORDS_PER_COMMIT)):
            log.append(
                chunk,
                expected_position=log.position,
                actor=actor,
                reason=f"import of {database.path.name}, MLMD schema {database.schema_version}",
            )
            for draft in chunk:
                counts[draft.kind] += 1
            warnings.note_ids(chunk)
            if progress is not None:
                progress(log.position, total)
        log.seal()
        warnings.compare_sequences(database.highest_given_ids())
        if progress is not None:
            progress(total, total)
        texts = warnings.texts()
        if database.properties_without_value:
            texts.append(f"{database.properties_without_value} properties had no value: left out")
        return ImportReport(database.schema_version, log.position, counts, texts)
    finally:
        log.close()


def _drafts(database: MlmdDatabase, warnings: _Warnings) -> Iterator[Draft]:
    for kind, node_type in database.types():
        yield Draft(kind, node_type.id, None, None, _serialized(node_type))
    timeline = database.timeline()
    while chunk := list(islice(timeline, RECORDS_PER_COMMIT)):
        by_kind: dict[str, list[int]] = {}
        for kind, row_id in chunk:
            by_kind.setdefault(kind, []).append(row_id)
        messages = {kind: database.read(kind, ids) for kind, ids in by_kind.items()}
        for kind, row_id in chunk:
            message = messages[kind][row_id]
            type_id = message.type_id if kind in _NODE_KINDS else None
            warnings.note_message(kind, message)
            yield Draft(kind, row_id, type_id, None, _serialized(message))


class _Warnings:
    """What an import met that MLMD accepted and a reader may stumble over."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}
        self._artifacts: set[int] = set()
        self._executions: set[int] = set()
        self._dangling_events = 0
        self._attributions_to_nothing = 0
        self._texts: list[str] = []

    def note_message(self, kind: str, message: Any) -> None:
        if kind == kinds.ARTIFACT:
            self._artifacts.add(message.id)
        elif kind == kinds.EXECUTION:
            self._executions.add(message.id)
        elif kind == kinds.EVENT:
            self._dangling_events += (
                message.artifact_id not in self._artifacts
                or message.execution_id not in self._executions
            )
        elif kind == kinds.ATTRIBUTION:
            self._attributions_to_nothing += message.artifact_id not in self._artifacts

    def note_ids(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            sequence = "type" if draft.kind.endswith("_type") else draft.kind
            self._highest[sequence] = max(self._highest.get(sequence, 0), draft.entity_id)

    def compare_sequences(self, highest_given: dict[str, int]) -> None:
        for table, sequence in _SEQUENCE_TABLES.items():
            given, kept = highest_given.get(table, 0), self._highest.get(sequence, 0)
            if given > kept:
                self._texts.append(
                    f"ids {kept + 1} to {given} of table {table} were given out and deleted: the "
                    "store will give them out again"
                )

    def texts(self) -> list[str]:
        texts = list(self._texts)
        if self._dangling_events:
            texts.append(f"{self._dangling_events} events name a node that does not exist")
        if self._attributions_to_nothing:
            texts.append(
                f"{self._attributions_to_nothing} attributions name an artifact that does not exist"
            )
        return texts


def _serialized(message: Any) -> bytes:
    payload: bytes = message.SerializeToString(deterministic=True)
    return payload


def _refuse_occupied(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists():
        raise errors.AlreadyExistsError(
            f"{directory} exists already: import into a directory that does not exist or is empty"
        )


def _sync_parent(directory: Path) -> None:
    from eventstore.log.manifest import sync_directory

    sync_directory(directory.absolute().parent)
