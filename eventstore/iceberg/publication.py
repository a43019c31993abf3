"""Registers the sealed segments of a store in an Iceberg table, as they are."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.iceberg.catalogs import AMBIGUOUS
from eventstore.iceberg.iceberg_errors import reading, translating
from eventstore.iceberg.table import (
    Head,
    bring_up_to_date,
    found_table,
    head_of,
    is_up_to_date,
    made_table,
    summary_of,
)
from eventstore.log import Log, Progress, SealedFile
from eventstore.log.places import place_of
from eventstore.log.stores import open_log
from eventstore.wording import quoted

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

TABLE: Final = "mlmd.records"

_WAITS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Seconds at most before another try, each once."""

_READABLE: Final = ("file", "s3", "gs")
"""Schemes of the URLs of files that pyiceberg reads as well as this project writes them."""

_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)+")
"""Names of tables that are the same in paths and URLs of every catalog."""


class Published(msgspec.Struct, frozen=True):
    """What a table has of a store: all records up to `position`, and nothing else.

    Before, it had those up to `position_before`. `files_added`, `files_removed` and
    `snapshots_expired` say what a run has changed, or would change in a dry run. `snapshot_id` is
    of the current snapshot, None without one. `snapshots_kept` are older ones that name a file
    which is no longer there, and which a tag or a branch keeps. `unsealed_records` is how many
    records the store has after `position`, which no sealed segment has yet.
    """

    table: str
    position: int
    position_before: int
    files: int
    files_added: int
    files_removed: int
    snapshots_expired: int
    snapshots_kept: int
    snapshot_id: int | None
    unsealed_records: int


class _Changes(msgspec.Struct, frozen=True):
    """What makes a table agree with the files of a log; `files` are all of these by their URLs."""

    files: dict[str, SealedFile]
    added: Sequence[str]
    removed: Sequence[DataFile]
    expired: Sequence[int]
    kept: Sequence[int]
    before: Head


class _OvertakenError(Exception):
    """Somebody else has changed the table, or the files of the log: look at both again."""


def publish(
    store: str | Path,
    catalog: Catalog,
    *,
    table: str = TABLE,
    seal: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Published:
    """Have an Iceberg table name the sealed segments of the store at a path or URL.

    The table, and its namespace, are made at the first time. A run makes one snapshot, or none
    where there is nothing new; it can be repeated after whatever ended it. With `seal`, all that
    was put so far is sealed first. A dry run changes nothing, and seals nothing. `progress` is
    called with (records done, records in all) while new files are looked at.

    Where files have taken the place of others, as after an erasure, or of a store that was moved,
    that is one snapshot, too, and older snapshots that name what is gone expire with it.

    Raises FailedPreconditionError for a table that is not this store's, that somebody else has
    written or altered, or that another history was published in, and for a store without such
    files; AbortedError when others go on changing the table, DataLossError for a file of the store
    or of the table's metadata that is missing or not as it was written, InvalidArgumentError for a
    name that is not NAMESPACE.NAME, and what opening the store raises.
    """
    if not _NAME.fullmatch(table):
        raise errors.InvalidArgumentError(
            f"{quoted(table)} names no table in a namespace: name it NAMESPACE.NAME, as {TABLE}, "
            "of letters, digits, - and _"
        )
    with closing(open_log(place_of(store), read_only=not seal or dry_run)) as log:
        if seal and not dry_run:
            log.seal()
        return _publish(log, catalog, table, dry_run, progress or (lambda _, __: None))


def _publish(log: Log, catalog: Catalog, name: str, dry_run: bool, progress: Progress) -> Published:
    for wait in (*_WAITS, None):
        with translating(f"publishing in the table {name}"):
            try:
                return _published(log, catalog, name, dry_run, progress)
            except _OvertakenError as error:
                if wait is None:
                    raise errors.AbortedError(
                        f"the table {name} was not published, since {error}, {len(_WAITS) + 1} "
                        "times in a row: publish again"
                    ) from None
        time.sleep(random.uniform(wait / 2, wait))  # noqa: S311
    raise AssertionError


def _published(
    log: Log, catalog: Catalog, name: str, dry_run: bool, progress: Progress
) -> Published:
    files = _urls(log.sealed_files())
    # After them: so that it knows what others have sealed by then.
    log.refresh()
    position = max((file.last_position for file in files.values()), default=0)
    table = found_table(catalog, name, log.store_id)
    if table is None:
        changes = _Changes(files, [*files], [], [], [], Head(0, ""))
    else:
        changes = _changes(table, log, files)
    snapshot_id = None if table is None else table.metadata.current_snapshot_id
    if files and not dry_run:
        snapshot_id = _made(log, catalog, table, name, changes, progress)
    return Published(
        name,
        position,
        changes.before.position,
        len(files),
        len(changes.added),
        len(changes.removed),
        len(changes.expired),
        len(changes.kept),
        snapshot_id,
        log.position - position,
    )


def _urls(sealed: Sequence[SealedFile]) -> dict[str, SealedFile]:
    """Sealed files by the URLs under which a table names them.

    Raises FailedPreconditionError for one that not all engines would find.
    """
    files = {
        f"file://{file.path.absolute()}" if isinstance(file.path, Path) else file.path: file
        for file in sealed
    }
    for url in files:
        scheme, _, path = url.partition("://")
        if scheme not in _READABLE:
            raise errors.FailedPreconditionError(
                f"Iceberg's engines do not read {scheme}:// URLs: only stores in a directory, and "
                "with s3:// and gs:// URLs, can be published"
            )
        if found := AMBIGUOUS.intersection(path):
            raise errors.FailedPreconditionError(
                f"{path} has {' and '.join(sorted(found))} in its name, which engines read in "
                "different ways: move the store"
            )
    return files


def _changes(table: Table, log: Log, files: dict[str, SealedFile]) -> _Changes:
    """What is to be done. Raises FailedPreconditionError for a table of another history."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return _Changes(files, [*files], [], [], [], Head(0, ""))
    before = head_of(snapshot, log.store_id)
    assert before is not None, "another writer's"
    _refuse_other_history(log, before, max((f.last_position for f in files.values()), default=0))
    named = {file.file_path: file for file in _files_of(table, snapshot)}
    removed = [file for url, file in named.items() if url not in files]
    added = [url for url in files if url not in named]
    gone = _naming(table, log.store_id, removed)
    pinned = {ref.snapshot_id for name, ref in table.refs().items() if name != "main"}
    return _Changes(
        files,
        added,
        removed,
        [each for each in gone if each not in pinned],
        [each for each in gone if each in pinned],
        before,
    )


def _files_of(table: Table, snapshot: Snapshot) -> Iterator[DataFile]:
    """The files that a snapshot names. Raises DataLossError where that cannot be read."""
    name = ".".join(table.name())
    with reading(f"the manifest list {snapshot.manifest_list} of the table {name}", name):
        manifests = snapshot.manifests(table.io)
    for manifest in manifests:
        with reading(f"the manifest {manifest.manifest_path} of the table {name}", name):
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        for entry in entries:
            yield entry.data_file


def _refuse_other_history(log: Log, before: Head, position: int) -> None:
    if before.position > log.position or _tree_head(log, before.position) != before.tree_head:
        raise errors.FailedPreconditionError(
            f"the table has a history of this store up to position {before.position} that is not "
            "this log's: it was published from another copy; name another table"
        )
    if before.position > position:
        raise errors.FailedPreconditionError(
            f"the table goes up to position {before.position}, and what is sealed here up to "
            f"{position}: seal the store first"
        )


def _tree_head(log: Log, position: int) -> str:
    """The head of the tree up to the end of a commit, in hexadecimal; "" inside of one."""
    for batch in log.scan(position - 1, position, ["tree_head"]):
        for head in batch["tree_head"].to_pylist():
            return "" if head is None else str(head.hex())
    return ""


def _naming(table: Table, store_id: UUID, removed: Sequence[DataFile]) -> list[int]:
    """The snapshots, the current one too, that name a file which is to be removed.

    A snapshot has all files up to its position; of one that says none, nothing is known.
    """
    if not removed:
        return []
    first = min(_positions(table, file)[0] for file in removed)
    heads = {each.snapshot_id: head_of(each, store_id) for each in table.snapshots()}
    return [each for each, head in heads.items() if head is None or head.position >= first]


def _positions(table: Table, file: DataFile) -> tuple[int, int]:
    """The first and last position in a file, by the table's metadata."""
    from pyiceberg.conversions import from_bytes
    from pyiceberg.types import LongType

    column = table.schema().find_field("position").field_id
    first, last = (
        from_bytes(LongType(), bounds[column]) for bounds in (file.lower_bounds, file.upper_bounds)
    )
    return int(first), int(last)


def _made(
    log: Log,
    catalog: Catalog,
    table: Table | None,
    name: str,
    changes: _Changes,
    progress: Progress,
) -> int | None:
    """Change the table; the id of its current snapshot then. Raises _OvertakenError."""
    from pyiceberg.exceptions import (
        CommitFailedException,
        NamespaceAlreadyExistsError,
        NoSuchTableError,
        TableAlreadyExistsError,
        ValidationException,
    )

    try:
        if table is None:
            table = made_table(catalog, name, log.store_id)
        elif not is_up_to_date(table):
            bring_up_to_date(table)
        if not changes.added and not changes.removed:
            return table.metadata.current_snapshot_id
        return _committed(log, table, changes, progress)
    except (
        *(CommitFailedException, ValidationException, NoSuchTableError),
        *(NamespaceAlreadyExistsError, TableAlreadyExistsError),
    ):
        raise _OvertakenError("others have changed it meanwhile") from None


def _committed(log: Log, table: Table, changes: _Changes, progress: Progress) -> int:
    """Commit one snapshot, in which files take the place of others; its id."""
    from pyiceberg.exceptions import CommitStateUnknownException
    from pyiceberg.table.update.snapshot import ExpireSnapshots

    described = _described(log, table, changes, progress)
    last = max(changes.files.values(), key=lambda file: file.last_position)
    head = Head(last.last_position, _tree_head(log, last.last_position))
    segment = max(s.number for s in log.segments() if s.last_position == head.position)
    transaction = table.transaction()
    snapshots = transaction.update_snapshot(summary_of(log.store_id, head, segment))
    # Streams of appends pass over what others are: readers of changes see each record once.
    producer = snapshots.overwrite() if changes.removed else snapshots.merge_append()
    with producer:
        for file in changes.removed:
            producer.delete_data_file(file)
        for file in described:
            producer.append_data_file(file)
    if changes.expired:
        ExpireSnapshots(transaction).by_ids([*changes.expired]).commit()
    try:
        transaction.commit_transaction()
    except CommitStateUnknownException:
        table.refresh()
        if table.snapshot_by_id(producer.snapshot_id) is None:
            raise
    if not changes.files.keys() <= _urls(log.sealed_files()).keys():
        raise _OvertakenError("files of the store were rewritten meanwhile")
    return producer.snapshot_id


def _described(log: Log, table: Table, changes: _Changes, progress: Progress) -> list[DataFile]:
    """What the table says of each new file: its rows, bytes and bounds."""
    files = [changes.files[url] for url in changes.added]
    records = sum(file.last_position - file.first_position + 1 for file in files)
    described: list[DataFile] = []
    done = 0
    for url, file in zip(changes.added, files, strict=True):
        if (found := _as_written(table, url, file)) is None:
            if url not in _urls(log.sealed_files()):
                raise _OvertakenError("files of the store were rewritten meanwhile")
            raise errors.DataLossError(
                f"{file.path} is missing, or is not as it was written: nothing was published; run "
                "`eventstore verify` and restore it from a backup"
            )
        described.append(found)
        done += file.last_position - file.first_position + 1
        progress(done, records)
    return described


def _as_written(table: Table, url: str, file: SealedFile) -> DataFile | None:
    """What a table says of a file; None when its length or rows are not what they were."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    try:
        found = parquet_file_to_data_file(table.io, table.metadata, url)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    wanted = (file.first_position, file.last_position)
    is_as_written = (
        found.file_size_in_bytes == file.file_bytes
        and found.record_count == wanted[1] - wanted[0] + 1
        and _positions(table, found) == wanted
    )
    return found if is_as_written else None
