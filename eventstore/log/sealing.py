"""Turn a closed segment, an Arrow IPC stream, into Parquet with its derived columns."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.ipc_message import UndecodableError
from eventstore.log.ipc_stream import (
    Ending,
    read_batches,
    schema_message_bytes,
    walk_messages,
)
from eventstore.log.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Manifest,
    Segment,
    closed_name,
    sealed_name,
    sync_directory,
)
from eventstore.log.os_errors import translated
from eventstore.log.regular_file import opened_to_read, read_regular

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 16_384

_TEMPORARY_MANIFEST = f"{MANIFEST_NAME}.*.tmp"

_DICTIONARY_COLUMNS = ["kind", "type_id", "actor", "reason", "request_id", "version", "state"]
_BYTES_PER_GROUP = 16 * 1024 * 1024
"""About so many bytes of messages become a row group, so that long ones take no more memory."""


def read_closed(path: Path) -> pa.Table:
    """All commits of a closed segment as one table of ACTIVE_SCHEMA, a chunk a row group.

    Raises DataLossError when a message is damaged or the end-of-stream marker is missing.
    """
    import pyarrow as pa

    from eventstore.log.columns import ACTIVE_SCHEMA

    try:
        data = memoryview(read_regular(path))
    except OSError as error:
        raise translated(error, "reading", path) from None
    header_bytes = schema_message_bytes(data)
    walk = walk_messages(data, header_bytes)
    if walk.ending is not Ending.END_OF_STREAM:
        raise errors.DataLossError(
            f"{path} is damaged at byte {walk.stopped_at}: {walk.ending.value}; run `eventstore "
            "verify` and restore the file from a backup"
        )
    try:
        batches = read_batches(data, walk.ends, header_bytes)
    except UndecodableError as error:
        start = (header_bytes, *walk.ends)[error.number]
        raise errors.DataLossError(
            f"{path} is damaged: the message at byte {start} is no commit ({error.reason}); run "
            "`eventstore verify` and restore the file from a backup"
        ) from None
    sizes = [end - start for start, end in pairwise((header_bytes, *walk.ends))]
    return pa.Table.from_batches(_grouped(batches, sizes), ACTIVE_SCHEMA)


def _grouped(batches: Iterable[pa.RecordBatch], sizes: Iterable[int]) -> Iterator[pa.RecordBatch]:
    """Batches of whole commits put together, as far as they are neither many rows nor long."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch, batch_size in zip(batches, sizes, strict=True):
        pending.append(batch)
        rows += batch.num_rows
        size += batch_size
        if rows >= ROWS_PER_GROUP or size >= _BYTES_PER_GROUP:
            yield from _one_batch(pending)
            pending, rows, size = [], 0, 0
    yield from _one_batch(pending)


def _one_batch(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    if len(batches) < 2:
        return batches
    import pyarrow as pa

    merged: list[pa.RecordBatch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return merged


def derived_batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """The table in batches of RECORD_SCHEMA."""
    from eventstore.log.columns import with_derived_columns

    for batch in table.to_batches(max_chunksize=ROWS_PER_GROUP):
        yield with_derived_columns(batch)


def write_parquet(table: pa.Table, path: Path, store_id: UUID, number: int) -> str:
    """Write a table of ACTIVE_SCHEMA as a sealed segment, durably; the SHA-256 of the file.

    It is read back and compared.
    """
    import pyarrow.parquet as parquet

    from eventstore.log.columns import RECORD_SCHEMA

    metadata = {
        "eventstore.format_version": str(FORMAT_VERSION),
        "eventstore.store_id": str(store_id),
        "eventstore.segment": str(number),
    }
    sealed: list[pa.RecordBatch] = []
    try:
        with parquet.ParquetWriter(
            path,
            RECORD_SCHEMA.with_metadata(metadata),
            compression="zstd",
            use_dictionary=_DICTIONARY_COLUMNS,
            write_page_checksum=True,
        ) as writer:
            for batch in derived_batches(table):
                writer.write_batch(batch.replace_schema_metadata(metadata), ROWS_PER_GROUP)
                sealed.append(batch)
        if not _reads_back(path, sealed):
            raise errors.DataLossError(f"{path} does not read back as it was written")
        digest = file_sha256(path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise translated(error, "writing", path) from None
        raise
    return digest


def _reads_back(path: Path, written: list[pa.RecordBatch]) -> bool:
    """Whether a Parquet file holds these batches, each a row group."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        return file.num_row_groups == len(written) and all(
            _is_group(file.read_row_group(group), batch) for group, batch in enumerate(written)
        )


def _is_group(found: pa.Table, written: pa.RecordBatch) -> bool:
    from eventstore.log.columns import RECORD_SCHEMA, same_values

    return bool(found.schema.remove_metadata() == RECORD_SCHEMA) and all(
        same_values(_one_array(found[name]), written[name]) for name in RECORD_SCHEMA.names
    )


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def sealed_batches(
    path: Path, first_row: int, end_row: int, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Rows [first_row, end_row) of a sealed segment, a batch a row group.

    Raises DataLossError when the file cannot be decoded.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from eventstore.log.columns import RECORD_SCHEMA

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow
            for name in columns:
                if name not in found.names or not found.field(name).equals(
                    RECORD_SCHEMA.field(name)
                ):
                    raise pa.ArrowInvalid(f"its column {name} is not that of a segment")
            row = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                start, end = max(first_row - row, 0), min(end_row - row, rows)
                row += rows
                if start < end:
                    table = file.read_row_group(group, columns=list(columns))
                    part = table.slice(start, end - start)
                    # Arrow does not check that texts in Parquet are UTF-8.
                    part.validate(full=True)
                    yield from part.combine_chunks().to_batches()
    except (pa.ArrowException, OSError) as error:
        raise errors.DataLossError(
            f"{path} is damaged: {error}; run `eventstore verify` and restore it from a backup"
        ) from None


def file_sha256(path: Path) -> str:
    with opened_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepared(folder: Path, segment: Segment, store_id: UUID) -> tuple[Path, Segment]:
    """Write the Parquet file of a closed segment, durably, under a temporary name.

    Gives that name and the segment's new entry for the manifest.
    """
    name = sealed_name(segment.number)
    path = folder / f"{name}.{secrets.token_hex(8)}.tmp"
    digest = write_parquet(read_closed(folder / segment.file), path, store_id, segment.number)
    return path, msgspec.structs.replace(
        segment,
        sealed=True,
        file=name,
        file_bytes=path.stat().st_size,
        file_sha256=digest,
    )


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a file that was written durably its name, durably. Only under the writers' lock."""
    try:
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise translated(error, "moving into place", path) from None


def has_leftovers(folder: Path, manifest: Manifest) -> bool:
    """Whether there is anything for `remove_leftovers`."""
    return next(_leftovers(folder, manifest), None) is not None


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Delete what a crash left in the log folder: temporary files, closed segments once sealed.

    Only under the lock for sealing and that of the writers.
    """
    for path in list(_leftovers(folder, manifest)):
        path.unlink(missing_ok=True)


def _leftovers(folder: Path, manifest: Manifest) -> Iterator[Path]:
    named = {manifest.active.file, *(segment.file for segment in manifest.segments)}
    forms = {
        segment.number: folder / segment.file
        for segment in manifest.segments
        # Were another file named, the segment's only form would be taken for superseded.
        if segment.file in (sealed_name(segment.number), closed_name(segment.number))
    }
    for path in folder.iterdir():
        stem = path.name.split(".", 1)[0]
        is_number = stem.isascii() and stem.isdecimal()
        form = forms.get(int(stem)) if is_number else None
        # Where the form that the manifest names is missing, the other may be all that is left.
        is_superseded = form is not None and form.exists()
        if path.name not in named and (path.suffix == ".tmp" or is_superseded):
            yield path


def remove_temporary_files(directory: Path, folder: Path) -> None:
    """Delete what writers that died were writing. Only under the writers' lock."""
    for path in (*directory.glob(_TEMPORARY_MANIFEST), *folder.glob("*.arrows.*.tmp")):
        path.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file beside the manifest is one that `remove_temporary_files` deletes."""
    return fnmatch.fnmatchcase(name, _TEMPORARY_MANIFEST)
