"""What is in a run's file: it changes only together with the number of its format."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from xxhash import xxh3_64_intdigest

from eventstore.log.kinds import ARTIFACT
from eventstore.projections import index_tables, run_file, run_merging, table_changes
from eventstore.projections.limits import LIMITS, IndexLimits
from eventstore.projections.run_batches import run_batch
from eventstore.projections.run_file import RunMetadata, UnusableRunError
from eventstore.projections.run_merging import merge_runs
from eventstore.projections.run_table import BLOCK_ROWS, ENTRY_BYTES, DamagedRunError
from eventstore.projections.run_writing import write_run, write_run_file
from eventstore.projections.sorted_run import SortedRun

RUN = "a37a21c77863c99cd92809f17eea90b7357cebfc18ef1ae7521290dc899a92a7"
"""The digest of a run that is written below."""
KEYS = (-8384134024907838797, 8778621892480230968, 754996483031990931, 311136587387592575)
SCHEMA = "9169a37eba7a1d412eb52128add6d0768708120b7ab9c26d135480d3ba007d6a"

MAPPED = IndexLimits(copied_bytes_max=0)
"""All files are read as long ones are."""


def metadata(first: int, last: int, version: int = run_file.RUN_FORMAT_VERSION) -> RunMetadata:
    return RunMetadata(
        format_version=version,
        content_id=UUID(int=7),
        first_position=first,
        last_position=last,
        preceding_recorded_at=first - 1,
        last_recorded_at=last,
        highest_ids={"b": 2, "a": 1},
    )


def written(path: Path, limits: IndexLimits = LIMITS.index) -> Path:
    """Ids one after the other, hashes with gaps, several entries of a key, and numbers inline."""
    keys = [*range(3, 40)]
    hashes = [-(2**63), -5, -5, 0, 9, 9, 9, 2**62, 2**63 - 1]
    write_run_file(
        path,
        metadata(1, 40),
        {
            1: run_batch(keys, keys, [b"%d" % key * key for key in keys]),
            7: run_batch(hashes, [*range(1, 10)], [b"x" * n for n in range(9)]),
            19: run_batch(hashes, [*range(1, 10)], [b"%08d" % n for n in range(9)]),
            20: run_batch([], [], []),
        },
        limits,
        seed=12_345,
    )
    return path


def test_the_bytes_of_a_run(tmp_path: Path) -> None:
    content = written(tmp_path / "a.run").read_bytes()
    assert content == written(tmp_path / "b.run").read_bytes()
    assert (run_file.RUN_FORMAT_VERSION, hashlib.sha256(content).hexdigest()) == (11, RUN)


@pytest.mark.parametrize("rows_at_once", [1, 2, 5, 37])
def test_the_bytes_of_a_run_that_is_written_in_parts(tmp_path: Path, rows_at_once: int) -> None:
    limits = IndexLimits(written_rows_max=rows_at_once)
    content = written(tmp_path / "a.run", limits).read_bytes()
    assert hashlib.sha256(content).hexdigest() == RUN


def test_the_numbers_of_tables_and_the_keys_in_them() -> None:
    assert [*index_tables.TABLES] == [*range(1, 33)]
    assert index_tables.TABLES_OF[ARTIFACT] == index_tables.EntityTables(1, 7, 10)
    assert index_tables.ARTIFACT_URIS == 19
    assert index_tables.REQUEST_IDS == 29
    assert [*index_tables.RETENTION_TABLES.values()] == [30, 31, 32]
    found = (
        index_tables.hash64("s3://1"),
        index_tables.name_key(10, "x"),
        index_tables.type_name_key("v", "x"),
        index_tables.event_key(1, 2, 3),
    )
    assert found == KEYS


def test_the_definitions_of_the_tables() -> None:
    schema = hashlib.sha256(table_changes.SCHEMA.encode()).hexdigest()
    assert (table_changes.TABLES_FORMAT_VERSION, schema) == (6, SCHEMA)


def remade(path: Path, footer: bytes, *, checksum: int | None = None) -> None:
    """The file with another footer, and the checksum that it should have, or another one."""
    content = path.read_bytes()
    _, length, magic = run_file.ENDING.unpack(content[-run_file.ENDING.size :])
    checksum = xxh3_64_intdigest(footer) if checksum is None else checksum
    body = content[: -run_file.ENDING.size - length]
    path.write_bytes(body + footer + run_file.ENDING.pack(checksum, len(footer), magic))


def footer_of(path: Path) -> bytes:
    content = path.read_bytes()
    _, length, _ = run_file.ENDING.unpack(content[-run_file.ENDING.size :])
    return content[-run_file.ENDING.size - length : -run_file.ENDING.size]


def test_footers_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path / "a.run")
    SortedRun(path)
    footer = footer_of(path)
    decoded = msgspec.json.decode(footer)
    end = max(layout["end"] for layout in decoded["tables"].values())
    assert end == len(path.read_bytes()) - run_file.ENDING.size - len(footer)

    def refused(words: str) -> None:
        with pytest.raises(UnusableRunError, match=words):
            SortedRun(path)

    remade(path, footer.replace(b'"first_position":1', b'"first_position":2'), checksum=1)
    refused("its footer is damaged")
    remade(path, footer.replace(b'"format_version":11', b'"format_version":10'))
    refused("format version 10")
    remade(path, footer.replace(b'"end":%d' % end, b'"end":%d' % (end + 1)))
    refused("a table is cut off")
    remade(path, b"[]")
    refused(str(path))
    remade(path, b"")
    refused("does not end as a run")
    path = written(tmp_path / "b.run")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"ESRUN\0\0\x09")
    refused("does not end as a run")
    length = struct.pack("<q", len(content))
    path.write_bytes(content[:-16] + length + content[-8:])
    refused("does not end as a run")
    path = written(tmp_path / "c.run")
    remade(path, footer)
    assert SortedRun(path).newest(1, 3, 99) == (3, b"333")


def test_a_merge_copies_nothing_that_is_damaged(tmp_path: Path) -> None:
    values = [b"value %d" % n for n in range(9)]
    runs = [
        write_run(
            tmp_path / f"{n}.run",
            metadata(n, n),
            {1: run_batch([*range(9)], [n] * 9, values)},
            MAPPED,
        )
        for n in (1, 2)
    ]
    assert merge_runs(runs, tmp_path / "whole.run", MAPPED).newest(1, 4, 9) == (2, b"value 4")
    content = runs[0].path.read_bytes()
    at = content.index(b"value 4")
    with runs[0].path.open("r+b") as file:
        file.seek(at)
        file.write(b"V")
    with pytest.raises(DamagedRunError, match="the values of a table are damaged"):
        merge_runs(runs, tmp_path / "damaged.run", MAPPED)


@pytest.mark.parametrize("is_long", [False, True])
def test_a_merge_refuses_changed_entries(tmp_path: Path, is_long: bool) -> None:
    """Also where the change would have it read values from anywhere."""
    values = [b"value %d" % n if is_long else b"%08d" % n for n in range(3)]
    tables = {1: run_batch([*range(3)], [1] * 3, values)}
    path = write_run(tmp_path / "1.run", metadata(1, 1), tables, MAPPED).path
    others = [write_run(tmp_path / "2.run", metadata(2, 2), tables, MAPPED)]
    content = path.read_bytes()
    layout = SortedRun(path).file.tables.layouts[1]
    for at in range(layout.entries, layout.checksums, 5):
        for changed in (content[at] ^ 1, content[at] ^ 128):
            path.write_bytes(content[:at] + bytes([changed]) + content[at + 1 :])
            with pytest.raises(DamagedRunError, match="of a table are damaged"):
                merge_runs([SortedRun(path, MAPPED), *others], tmp_path / "merged.run", MAPPED)
    assert not (tmp_path / "merged.run").exists()


def test_a_merge_reads_nothing_beyond_the_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though entries change between two readings of them."""
    tables = {1: run_batch([*range(3)], [1] * 3, [b"value %d" % n for n in range(3)])}
    runs = [write_run(tmp_path / f"{n}.run", metadata(n, n), tables, MAPPED) for n in (1, 2)]
    layout, content = runs[0].file.tables.layouts[1], runs[0].path.read_bytes()
    keys, changed = run_merging.CopiedTable.keys, content

    def changing(copied: Any, at_once: int) -> Any:
        found = keys(copied, at_once)
        runs[0].path.write_bytes(changed)
        return found

    monkeypatch.setattr(run_merging.CopiedTable, "keys", changing)
    for row in range(1, 5):
        for start in (-1, 5, 1 << 40, -(1 << 63), (1 << 63) - 1):
            at = layout.entries + row * ENTRY_BYTES + 16
            changed = content[:at] + struct.pack("<q", start) + content[at + 8 :]
            with pytest.raises(DamagedRunError, match="of a table are damaged"):
                merge_runs(runs, tmp_path / "merged.run", MAPPED)
            runs[0].path.write_bytes(content)


READS: dict[str, Callable[[SortedRun, int], Any]] = {
    "newest": lambda run, table: run.newest(table, 9, 99),
    "newest_of_each": lambda run, table: run.newest_of_each(table, [9], 99),
    "entries": lambda run, table: run.entries(table, 9, 99),
    "values_of_each": lambda run, table: run.values_of_each(table, [9], 99),
    "known_keys": lambda run, table: run.known_keys(table, [9]),
    "keys": lambda run, table: [*run.keys(table, 99)],
    "batch": lambda run, table: run.batch(table),
    "check_values": lambda run, table: run.check_values(table),
}


@pytest.mark.parametrize("is_opened", [False, True])
@pytest.mark.parametrize("read", READS)
def test_a_mapped_file_that_was_cut_is_not_read(tmp_path: Path, read: str, is_opened: bool) -> None:
    """Reading where a mapped file has no more bytes would end the process."""
    path = written(tmp_path / "a.run")
    for table in (1, 7, 19):
        if table == 1 and read == "known_keys" and is_opened:
            # The footer told that all keys are there.
            continue
        run = SortedRun(path, MAPPED)
        content = path.read_bytes()
        if is_opened:
            READS[read](run, table)
        os.truncate(path, 16)
        with pytest.raises(DamagedRunError, match="its size has changed"):
            READS[read](run, table)
        path.write_bytes(content)


def test_each_of_several_blocks_of_one_key_is_checked(tmp_path: Path) -> None:
    rows = 5 * BLOCK_ROWS
    path = tmp_path / "one.run"
    batch = run_batch([1] * rows, [*range(rows)], [b"v%d" % n for n in range(rows)])
    run = write_run(path, metadata(1, rows), {1: batch}, MAPPED)
    whole = [*run.entries(1, 1, rows)]
    assert [position for position, _ in whole] == [*range(rows)]
    layout = run.file.tables.layouts[1]
    content = path.read_bytes()
    for row in range(0, rows, 7):
        # The position of a row that no other one tells.
        at = layout.entries + (row + 1) * ENTRY_BYTES + 8
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([content[at] ^ 1]))
        with pytest.raises(DamagedRunError, match="damaged"):
            run.entries(1, 1, rows)
        with pytest.raises(DamagedRunError, match="damaged"):
            run.values_of_each(1, [1], rows)
        path.write_bytes(content)
        run = SortedRun(path, MAPPED)
        assert [*run.entries(1, 1, rows)] == whole
