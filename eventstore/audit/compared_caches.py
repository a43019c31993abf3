"""Compare the caches on disk, as a whole, with the log that they were folded from.

Reads check what they read of them, but by checksums that a forger can forge as well. Here the
caches are made again and compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa

from eventstore.audit.subtree_heads import SUBTREE_HEADS_NAME, SubtreeHeads
from eventstore.log import Finding, Log, Position, Progress, VerifyReport, content_id
from eventstore.log.columns import one_batch
from eventstore.log.os_errors import translated
from eventstore.log.regular_file import IRREGULAR, opened_to_read
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.projections.erased_records import ErasedRecords, erasure_records
from eventstore.projections.erasures import NONE_KNOWN
from eventstore.projections.index_tables import TABLES
from eventstore.projections.projections import (
    INDEX_NAME,
    TABLES_NAME,
)
from eventstore.projections.run_batches import sorted_batch
from eventstore.projections.run_building import INDEXED_COLUMNS, highest_ids, run_tables
from eventstore.projections.run_file import RunMetadata, UnusableRunError, parts
from eventstore.projections.run_folder import run_path
from eventstore.projections.run_writing import write_run_file
from eventstore.projections.sorted_run import SortedRun
from eventstore.projections.tables import Tables
from eventstore.projections.tables_check import has_tables_as_made, others_in
from eventstore.projections.tables_file import (
    folded_position_of,
    has_irregular,
    open_tables_to_compare,
)

DISAGREES: Final = "a cache does not agree with the log, which is sound; it can be rebuilt: "

_RECORDS_AT_ONCE: Final = 262_144
_COMPARED_BYTES: Final = 1 << 20
_OBJECTS: Final = "SELECT type, name, sql FROM sqlite_master ORDER BY ALL"
_TABLE_NAMES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY ALL"
_DIGEST: Final = """
SELECT count(*), bit_xor(hash(t)), sum(hash(t)), sum(hash(hash(t), 'again')) FROM {} AS t
"""


def with_caches(report: VerifyReport, log: Log, progress: Progress | None = None) -> VerifyReport:
    """A report on a log, with what its caches say that the log does not.

    `progress` counts records of the point index.
    """
    folder = log.cache_folder()
    if folder is None:
        return report.without("the caches, which are in memory as the log is")
    if not report.ok:
        return report.without("the caches, since the log is damaged")
    tables, heads = folder / TABLES_NAME, folder / SUBTREE_HEADS_NAME
    not_checked: list[str] = []
    findings: list[Finding] = []
    if not _is_readable(folder, not_checked):
        return report.without(*not_checked)
    if _is_readable(folder / INDEX_NAME, not_checked):
        findings += _index_findings(log, folder / INDEX_NAME, not_checked, progress)
    if _is_readable(tables, not_checked) and os.path.exists(tables):
        findings += _tables_findings(log, tables, not_checked)
    if _is_readable(heads, not_checked) and os.path.exists(heads):
        kept = SubtreeHeads(log, heads, read_only=True)
        if kept.is_empty:
            not_checked.append(_unusable(heads, "it holds no heads of this log"))
        elif not kept.are_of_log():
            findings.append(Finding(f"{heads} is not what the log gives", file=str(heads)))
    return msgspec.structs.replace(
        report.without(*not_checked), ok=not findings, cache_findings=findings
    )


def _is_readable(path: Path, not_checked: list[str]) -> bool:
    """Whether this process may read a cache, if it is there; what it may not is said."""
    wanted = os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK
    if not os.path.lexists(path) or os.access(path, wanted):
        return True
    not_checked.append(f"{path}, which this user may not read")
    return False


def _unusable(path: Path, why: object) -> str:
    """The finding about a cache that no read believes."""
    return f"{path}, which is not usable and will be rebuilt: {why}"


def _index_findings(
    log: Log, folder: Path, not_checked: list[str], progress: Progress | None
) -> Iterator[Finding]:
    highest: dict[int, dict[str, int]] = {0: {}}
    erasures = _Erasures(log)
    done = 0
    for path in sorted(folder.glob("*.run")):
        if not _is_readable(path, not_checked):
            continue
        try:
            run = SortedRun(path)
        except UnusableRunError as error:
            if path.exists():
                not_checked.append(_unusable(path, error))
            continue
        if run.last_position > log.position:
            # Another process is ahead.
            continue
        metadata = run.metadata
        is_of_log = (
            metadata.content_id == content_id(log)
            and run_path(folder, run.first_position, run.last_position) == path
            and 1 <= run.first_position <= run.last_position
            and log.recorded_at(run.last_position) == metadata.last_recorded_at
        )
        if is_of_log and erasures.outdate(metadata):
            not_checked.append(f"{path}, which will be built again without what was erased since")
            continue
        try:
            is_wrong = is_of_log and not _is_as_folded(log, run, highest, erasures)
        except FileNotFoundError:
            if path.exists():
                raise
            # It was merged into another meanwhile.
            continue
        except OSError as error:
            not_checked.append(f"{path}: {translated(error, 'comparing', path)}")
            continue
        if is_wrong:
            yield Finding(
                f"the point index of positions {run.first_position} to {run.last_position}, "
                f"{path}, is not what the log gives",
                file=str(path),
                position=run.first_position,
            )
        done += run.records
        if progress is not None:
            progress(min(done, log.position), log.position)


class _Erasures:
    """The erasures of a log, as far as runs take account of them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._records = erasure_records(log, 0)
        self._all = NONE_KNOWN.with_records(self._records)

    def outdate(self, run: RunMetadata) -> bool:
        """Whether a run may hold what was erased after it was written."""
        return any(self.change(first, last, known=known) for first, last, known in parts(run))

    def change(self, first: int, last: int, *, known: int) -> bool:
        """Whether what is not known by a position erases any of some records."""
        return bool(self._all.changed_since(known).within(first, last))

    def known(self, position: int) -> ErasedRecords:
        """What was erased by records up to a position."""
        known = [record for record in self._records if record[0] <= position]
        return ErasedRecords(self._log, NONE_KNOWN.with_records(known))


def _is_as_folded(
    log: Log, run: SortedRun, highest: dict[int, dict[str, int]], erasures: _Erasures
) -> bool:
    """Whether a run is, byte for byte, what the log gives; notes the highest ids at its end."""
    start = run.first_position - 1
    before = highest.get(start)
    if before is None:
        before = _highest_ids(log, {}, 0, start)
    found: dict[int, list[pa.RecordBatch]] = {}
    for first, last, known_to in parts(run.metadata):
        erased = erasures.known(known_to)
        for position in range(first - 1, last, _RECORDS_AT_ONCE):
            end = min(position + _RECORDS_AT_ONCE, last)
            records = one_batch(log.scan(position, end, INDEXED_COLUMNS))
            for table, batch in run_tables(records, erased).items():
                found.setdefault(table, []).append(batch)
    highest[run.last_position] = known = _highest_ids(log, before, start, run.last_position)
    metadata = run.metadata
    if dict(metadata.highest_ids) != known or metadata.preceding_recorded_at != (
        log.recorded_at(start) if start else 0
    ):
        return False
    tables = {
        table: sorted_batch(*one_batch(found[table]).columns) for table in TABLES if table in found
    }
    with TemporaryFolder() as folder:
        expected = folder / run.path.name
        write_run_file(expected, metadata, tables, seed=run.file.seed)
        return same_file(expected, run.path)


def same_file(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    with opened_to_read(one) as first, opened_to_read(other) as second:
        while True:
            part = first.read(_COMPARED_BYTES)
            if part != second.read(_COMPARED_BYTES):
                return False
            if not part:
                return True


def _highest_ids(log: Log, before: dict[str, int], after: int, upto: int) -> dict[str, int]:
    found = before
    for batch in log.scan(after, upto, ["kind", "entity_id"]):
        found = highest_ids(batch, found)
    return found


def _tables_findings(log: Log, path: Path, not_checked: list[str]) -> Iterator[Finding]:
    if has_irregular(path):
        not_checked.append(_unusable(path, f"it is {IRREGULAR}"))
        return
    try:
        opened = open_tables_to_compare(log, path)
        if opened is None:
            not_checked.append(f"{path}, which another process has open")
            return
        with opened:
            # Others of this process may fold meanwhile.
            opened.execute("BEGIN TRANSACTION READ ONLY")
            # What is defined comes first: a view in place of a table may be endless.
            position = folded_position_of(opened, log) if has_tables_as_made(opened) else None
            if position is None:
                not_checked.append(_unusable(path, "it is of another log, format or version"))
                return
            if others := others_in(opened):
                yield Finding(
                    f"{path} is not what the log gives: it has {', '.join(others)} that were not "
                    "made in it",
                    file=str(path),
                )
                return
            if _Erasures(log).change(1, position, known=position):
                not_checked.append(f"{path}, which will be folded without what was erased since")
                return
            found = _digests(opened)
    except duckdb.Error as error:
        not_checked.append(_unusable(path, error))
        return
    expected = Tables(_LogUpTo(log, Position(position)), None)
    try:
        expected.fold(position)
        wanted = expected.asked(_digests, position)
    finally:
        expected.close()
    wrong = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if wrong:
        yield Finding(
            f"{path} is not what the log gives as of position {position}, in "
            f"{', '.join(sorted(wrong))}",
            file=str(path),
        )


def _digests(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """By table a digest of all rows, whatever their order; and what else the database has."""
    names = [name for (name,) in connection.execute(_TABLE_NAMES).fetchall()]
    found: dict[str, Any] = {
        name: connection.execute(_DIGEST.format(f'"{name}"')).fetchall()
        for name in names
        # Its position may be that of a commit that is not the last of a batch.
        if name != "folded_position"
    }
    found["the definitions"] = connection.execute(_OBJECTS).fetchall()
    return found


class _LogUpTo:
    """A log as it was at a position."""

    def __init__(self, log: Log, position: Position) -> None:
        self._log, self.position = log, position

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)
