"""The file of a sorted run: each table's entries by key, a directory of them, and their values.

An entry is int64s side by side: key, position, and the value itself where all of a table have eight
bytes, as ids do; else where in the values its value starts, and the value's checksum. The directory
divides the span of the keys into equal buckets and holds the first row of each, so that a look-up
reads two or three places of the file, however large it is. Where keys between the lowest and the
highest are missing, a filter tells most of those: it divides their span into many more slots, and
holds which of them have a key. A footer in JSON says what lies where.

What is read is checked, since the file may change at any moment. A table of a short file is copied
into memory when it is first asked for, and that copy is checked whole. Of a long file, what is read
is checked as it is read. Entries have a checksum for each block of a few rows, which covers the row
before them and the one after them, too: so a block shows that a key is there, or that it is between
two neighbours and is not. The checksum of a value also covers its key, its position, and whether it
is the newest of its key, so that one that was found is shown without the block. The directory needs
no check then, since it only says where to look. The filter is copied into memory, as the footer is.
Checksums are XXH3 of 64 bits with a seed of the file's own, so that parts of another file do not
pass. A long file that was cut is noticed by its size before it is read: the system would kill a
process that reads a mapped page after the end.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Final
from uuid import UUID

import msgspec
from xxhash import xxh3_64_intdigest

from eventstore.log.regular_file import opened_to_read
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_table import DamagedRunError, Layout, RunTable

RUN_FORMAT_VERSION: Final = 11

ENDING: Final = struct.Struct("<Qq8s")
MAGIC: Final = b"ESRUN\0\0\x0b"


class UnusableRunError(Exception):
    """The file is no whole run of this format: to be thrown away and built again."""


class RunMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a run holds: the entries of the records at positions first to last, of a `content_id`.

    `last_recorded_at` is when the last of them was recorded, `preceding_recorded_at` the one before
    the first, in µs and 0 if there is none: they tell the runs of one history from those of
    another. `highest_ids` maps each id sequence to the highest id given out up to the run's end.
    `erasures_known` has for each part of the run, by its last position, the newest record of an
    erasure that its entries take account of; no parts where none is known.
    """

    format_version: int
    content_id: UUID = msgspec.field(name="store_id")
    first_position: int
    last_position: int
    preceding_recorded_at: int
    last_recorded_at: int
    highest_ids: dict[str, int]
    erasures_known: tuple[tuple[int, int], ...] = ()


def known_up_to(last_position: int, erasures_known: int) -> tuple[tuple[int, int], ...]:
    """What a run says that knows equally much everywhere."""
    return ((last_position, erasures_known),) if erasures_known else ()


def parts(run: RunMetadata) -> list[tuple[int, int, int]]:
    """The first and last positions of a run's parts, and up to where each knows erasures."""
    said = run.erasures_known or ((run.last_position, 0),)
    firsts = [run.first_position, *(last + 1 for last, _ in said)]
    return [(first, last, known) for first, (last, known) in zip(firsts, said, strict=False)]


def known_together(runs: Iterable[RunMetadata]) -> tuple[tuple[int, int], ...]:
    """What a run of several neighbours says."""
    said: list[tuple[int, int]] = []
    for _, last, known in chain.from_iterable(map(parts, runs)):
        if said and said[-1][1] == known:
            said.pop()
        said.append((last, known))
    return tuple(said) if any(known for _, known in said) else ()


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """What a file ends with: all that is needed to read the rest."""

    metadata: RunMetadata
    seed: int
    tables: dict[int, Layout]


class RunFile:
    """A run's file: mapped, unless it is short enough to be copied into memory."""

    def __init__(self, path: Path, limits: IndexLimits, opened: IO[bytes] | None = None) -> None:
        """`opened` is the file where it has no name, and no more than would be at `path`.

        Raises UnusableRunError when the file is missing or is no whole run of this format.
        """
        self.path = path
        try:
            # Kept open: asking for the file's size this way takes half as long as in other ways.
            opened = opened_to_read(path) if opened is None else opened
            self._opened, self.descriptor = opened, opened.fileno()
            status = os.fstat(self.descriptor)
            self.size = status.st_size
            footer = _footer(self.descriptor, self.size)
            self.mapped: mmap.mmap | None = None
            if self.size > limits.copied_bytes_max:
                self.mapped = mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError, struct.error, msgspec.MsgspecError) as error:
            raise UnusableRunError(f"{path}: {error}") from None
        self.metadata, self.seed = footer.metadata, footer.seed
        self.tables = _Tables(self, footer.tables)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from one offset to another. Raises DamagedRunError when they are not there."""
        try:
            found = os.pread(self.descriptor, end - start, start)
        except OSError as error:
            raise DamagedRunError(self, f"it cannot be read: {error.strerror}") from None
        if len(found) < end - start:
            raise DamagedRunError(self, "its size has changed")
        return found

    def refuse_cut(self) -> None:
        """Raise DamagedRunError when the file is not as long as it was, unless it is copied."""
        if self.mapped is not None and os.lseek(self.descriptor, 0, os.SEEK_END) != self.size:
            raise DamagedRunError(self, "its size has changed")

    def stamp(self) -> tuple[int, ...]:
        """A value that differs once the file was written to."""
        status = os.fstat(self.descriptor)
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size


class _Tables(dict[int, RunTable | None]):
    """The tables of a run, each opened when it is first asked for; None where there is none."""

    def __init__(self, file: RunFile, layouts: Mapping[int, Layout]) -> None:
        self._file, self.layouts = file, layouts

    def __missing__(self, table: int) -> RunTable | None:
        layout, file = self.layouts.get(table), self._file
        file.refuse_cut()
        opened = None if layout is None else RunTable(layout, file, file.seed ^ table)
        self[table] = opened
        return opened


def _footer(descriptor: int, size: int) -> Footer:
    end = max(size - ENDING.size, 0)
    checksum, length, magic = ENDING.unpack(os.pread(descriptor, ENDING.size, end))
    if magic != MAGIC or not 0 < length <= end:
        raise ValueError("it does not end as a run of this format does")
    encoded = os.pread(descriptor, length, end - length)
    if xxh3_64_intdigest(encoded) != checksum:
        raise ValueError("its footer is damaged")
    footer = msgspec.json.decode(encoded, type=Footer)
    if footer.metadata.format_version != RUN_FORMAT_VERSION:
        raise ValueError(f"format version {footer.metadata.format_version}")
    if any(layout.end > end - length for layout in footer.tables.values()):
        raise ValueError("a table is cut off")
    return footer
