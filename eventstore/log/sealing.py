"""Turn a closed segment, an Arrow IPC stream, into Parquet with its derived columns."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.forking import made_in_steps, no_fork_in_libraries
from eventstore.log.ipc_message import UndecodableError
from eventstore.log.ipc_stream import (
    END_OF_STREAM,
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
    file_name,
    rewriting_of,
    sealed_name,
)
from eventstore.log.os_errors import refuse_lack_of_threads, tells_of_damage, translated
from eventstore.log.regular_file import opened_to_read, read_regular
from eventstore.log.syncing import sync_directory
from eventstore.log.turns import give_turns

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as parquet

ROWS_PER_GROUP = 4_096
"""What is compared with one record is read by groups; more of them make the files longer."""

_ROWS_DERIVED = 2_048
"""Columns are derived for so many rows at once: their values are Python objects meanwhile."""

_TEMPORARY_MANIFEST = f"{MANIFEST_NAME}.*.tmp"

_DICTIONARY_COLUMNS = ["kind", "type_id", "actor", "reason", "request_id", "version", "state"]
_SMALL_BATCHES_MAX = 512
"""A batch of one record takes 10 kB, so no more of them are kept."""

_BYTES_PER_GROUP = 4 * 1024 * 1024
"""About so many bytes of messages become a row group, so that long ones take no more memory."""


def closed_batches(path: Path, segment: Segment) -> Iterator[pa.RecordBatch]:
    """All records of a closed segment in batches of ACTIVE_SCHEMA, each of a row group or several.

    Raises DataLossError when it is not the file that the manifest describes, a message is damaged
    or the end-of-stream marker is missing.
    """
    try:
        data = memoryview(read_regular(path))
    except OSError as error:
        raise translated(error, "reading", path) from None
    # Of these very bytes: once they are Parquet, the file that could be restored is removed.
    if hashlib.sha256(data).hexdigest() != segment.file_sha256:
        raise errors.DataLossError(
            f"{path} is damaged: it does not match the SHA-256 in the manifest; run `eventstore "
            "verify` and restore the file from a backup"
        )
    header_bytes = schema_message_bytes(data)
    walk = walk_messages(data, header_bytes, give_turns)
    if walk.ending is not Ending.END_OF_STREAM:
        raise errors.DataLossError(
            f"{path} is damaged at byte {walk.stopped_at}: {walk.ending.value}; run `eventstore "
            "verify` and restore the file from a backup"
        )
    starts = [header_bytes, *walk.ends]
    try:
        yield from grouped_batches(data, starts)
    except UndecodableError as error:
        raise errors.DataLossError(
            f"{path} is damaged: the message at byte {starts[error.number]} is no commit "
            f"({error.reason}); run `eventstore verify` and restore the file from a backup"
        ) from None


def grouped_batches(data: memoryview, starts: list[int]) -> Iterator[pa.RecordBatch]:
    """The commits of messages in batches, each a row group's. Raises UndecodableError."""
    return _grouped(_some_batches(data, starts), starts)


def _some_batches(data: memoryview, starts: list[int]) -> Iterator[pa.RecordBatch]:
    """The batch of each message, decoded some at a time."""
    for first in range(0, len(starts) - 1, _SMALL_BATCHES_MAX):
        ends = starts[first + 1 : first + 1 + _SMALL_BATCHES_MAX]
        try:
            yield from read_batches(data, ends, starts[first])
        except UndecodableError as error:
            raise UndecodableError(error.reason, first + error.number) from None


def _grouped(batches: Iterable[pa.RecordBatch], starts: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The rows of batches, put together to one row group or several; fewer where they are long."""
    from eventstore.log.columns import one_batch

    merged: list[pa.RecordBatch] = []
    small: list[pa.RecordBatch] = []
    rows = size = 0
    for batch, (start, end) in zip(batches, pairwise(starts), strict=True):
        small.append(batch)
        rows += batch.num_rows
        size += end - start
        if rows >= ROWS_PER_GROUP or size >= _BYTES_PER_GROUP:
            group = one_batch([*merged, *small])
            # What is over begins the next group: else every other one would be short.
            whole = rows - rows % ROWS_PER_GROUP or rows
            yield group.slice(0, whole)
            merged, small = [group.slice(whole)] if whole < rows else [], []
            rows, size = rows - whole, size * (rows - whole) // rows
        elif len(small) >= _SMALL_BATCHES_MAX:
            merged.append(one_batch(small))
            small = []
    if merged or small:
        yield one_batch([*merged, *small])


def derived_batches(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch of ACTIVE_SCHEMA in batches of RECORD_SCHEMA, each a row group's."""
    from eventstore.log.columns import one_batch, with_derived_columns

    for start in range(0, batch.num_rows, ROWS_PER_GROUP):
        group = batch.slice(start, ROWS_PER_GROUP)
        yield one_batch(
            with_derived_columns(group.slice(first, _ROWS_DERIVED), give_turns)
            for first in range(0, group.num_rows, _ROWS_DERIVED)
        )


def write_parquet(
    groups: Iterable[pa.RecordBatch],
    path: Path,
    store_id: UUID,
    number: int,
    again: Callable[[], Iterable[pa.RecordBatch]] | None = None,
) -> str:
    """Write row groups of RECORD_SCHEMA as a sealed segment, durably; the SHA-256 of the file.

    It is read back and compared: with copies in memory, unless `again` gives the same groups.
    """
    import pyarrow.parquet as parquet

    from eventstore.log.columns import RECORD_SCHEMA, release_unused

    metadata = {
        "eventstore.format_version": str(FORMAT_VERSION),
        "eventstore.store_id": str(store_id),
        "eventstore.segment": str(number),
    }
    written: list[pa.Buffer] = []
    try:
        with parquet.ParquetWriter(
            path,
            RECORD_SCHEMA.with_metadata(metadata),
            compression="zstd",
            use_dictionary=_DICTIONARY_COLUMNS,
            write_page_checksum=True,
        ) as writer:
            for group in made_in_steps(groups):
                with no_fork_in_libraries():
                    writer.write_batch(group.replace_schema_metadata(metadata), group.num_rows)
                    if again is None:
                        written.append(_packed(group))
                del group
                release_unused()
        if not _reads_back(path, map(_unpacked, written) if again is None else again()):
            raise errors.DataLossError(f"{path} does not read back as it was written")
        digest = file_sha256(path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise translated(error, "writing", path) from None
        refuse_lack_of_threads(error)
        raise
    return digest


def _packed(batch: pa.RecordBatch) -> pa.Buffer:
    """The batch as a compressed stream: a segment's batches together would take much memory."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    # Arrow keeps what each of its threads took: without them sealing takes a third less memory.
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _unpacked(packed: pa.Buffer) -> pa.RecordBatch:
    import pyarrow as pa

    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(packed, options=options) as stream:
        return stream.read_next_batch()


def _reads_back(path: Path, written: Iterable[pa.RecordBatch]) -> bool:
    """Whether a Parquet file holds these batches, each a row group."""
    import pyarrow.parquet as parquet

    from eventstore.log.columns import release_unused

    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        groups = 0
        for groups, batch in enumerate(made_in_steps(written), 1):
            if groups > file.num_row_groups:
                return False
            with no_fork_in_libraries():
                if not _is_group(file.read_row_group(groups - 1, use_threads=False), batch):
                    return False
            release_unused()
        return bool(groups == file.num_row_groups)


def _is_group(found: pa.Table, written: pa.RecordBatch) -> bool:
    from eventstore.log.columns import RECORD_SCHEMA, same_values

    return bool(found.schema.remove_metadata() == RECORD_SCHEMA) and all(
        same_values(_one_array(found[name]), written[name]) for name in RECORD_SCHEMA.names
    )


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def sealed_batches(
    path: Path,
    first_row: int,
    end_row: int,
    columns: Sequence[str],
    footer: parquet.FileMetaData | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows [first_row, end_row) of a sealed segment, a batch a row group.

    `footer` is the file's, if it was read before. Raises DataLossError when the file cannot be
    decoded, and what `translated` gives when it cannot be opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from eventstore.log.columns import RECORD_SCHEMA

    with (
        _undamaged(path),
        # A thread that reads ahead costs more than one row group takes.
        parquet.ParquetFile(
            path, metadata=footer, pre_buffer=False, page_checksum_verification=True
        ) as file,
    ):
        found = file.schema_arrow
        for name in columns:
            if name not in found.names or not found.field(name).equals(RECORD_SCHEMA.field(name)):
                raise pa.ArrowInvalid(f"its column {name} is not that of a segment")
        row = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            start, end = max(first_row - row, 0), min(end_row - row, rows)
            row += rows
            if start < end:
                # By one thread: what several take and another frees, Arrow keeps.
                table = file.read_row_group(group, list(columns), use_threads=False)
                part = table.slice(start, end - start)
                # Arrow does not check that texts in Parquet are UTF-8.
                part.validate(full=True)
                yield from part.combine_chunks().to_batches()


def footer_of(path: Path) -> parquet.FileMetaData:
    """What a sealed segment says of itself. Raises what `sealed_batches` does."""
    import pyarrow.parquet as parquet

    with _undamaged(path):
        return parquet.read_metadata(path)


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Turn what Arrow says of a sealed segment into the errors that `sealed_batches` raises."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        refuse_lack_of_threads(error)
        # What Arrow says of damage has no number.
        is_gone = isinstance(error, FileNotFoundError)
        if is_gone or (isinstance(error, OSError) and error.errno and not tells_of_damage(error)):
            raise translated(error, "reading", path) from None
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
    from eventstore.log.columns import release_unused

    name = sealed_name(segment.number)
    path = folder / f"{name}.{os.urandom(8).hex()}.tmp"
    source = folder / segment.file
    groups = chain.from_iterable(map(derived_batches, closed_batches(source, segment)))
    digest = write_parquet(groups, path, store_id, segment.number)
    release_unused()
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
    """Delete what a crash left in the log folder: temporary files, other forms of segments.

    Only under the lock for sealing and that of the writers.
    """
    for path in list(_leftovers(folder, manifest)):
        path.unlink(missing_ok=True)


def _leftovers(folder: Path, manifest: Manifest) -> Iterator[Path]:
    named = {manifest.active.file, *(segment.file for segment in manifest.segments)}
    places = {
        number: place
        for place, segment in enumerate(manifest.segments)
        for number in segment.numbers
        # Were another file named, the segment's only form would be taken for superseded.
        if segment.file == file_name(segment)
    }
    active = folder / manifest.active.file
    for path in folder.iterdir():
        if path.name in named:
            continue
        stem = path.name.split(".", 1)[0]
        is_number = stem.isascii() and stem.isdecimal()
        number, rewritings = (int(stem), 0) if is_number else rewriting_of(path.name) or (0, 0)
        forms: list[Path] = []
        if number == manifest.active.number and not _has_commits(active):
            # A copy died before the manifest named the sealed segment that was to take its place.
            forms = [active]
        elif (place := places.get(number)) is not None:
            # What has more than the segment's next form was merged from it and some before it.
            is_merged = rewritings > len(manifest.segments[place].rewritten_from) + 1
            first = 0 if is_merged else place
            forms = [folder / segment.file for segment in manifest.segments[first : place + 1]]
        # Where a form that the manifest names is missing, the other may be all that is left.
        if path.suffix == ".tmp" or (forms and all(form.exists() for form in forms)):
            yield path


def _has_commits(path: Path) -> bool:
    """Whether more than its end or room follows the header of an active segment."""
    try:
        with opened_to_read(path) as file:
            header = file.read(len(END_OF_STREAM))
            file.seek(len(header) + int.from_bytes(header[4:], "little"))
            following = file.read(len(END_OF_STREAM))
    except OSError:
        # Then nothing is known of it.
        return True
    return following != END_OF_STREAM and any(following)


def remove_temporary_files(directory: Path, folder: Path) -> None:
    """Delete what writers that died were writing. Only under the writers' lock."""
    for path in (*directory.glob(_TEMPORARY_MANIFEST), *folder.glob("*.arrows.*.tmp")):
        path.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file beside the manifest is one that `remove_temporary_files` deletes."""
    return fnmatch.fnmatchcase(name, _TEMPORARY_MANIFEST)
