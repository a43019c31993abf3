"""A run of the point index answers as a plain list of its entries does."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.projections.index_tables import decode_id
from eventstore.projections.limits import LIMITS, IndexLimits
from eventstore.projections.run_batches import sorted_batch
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata
from eventstore.projections.run_merging import merge_runs
from eventstore.projections.run_writing import write_run, write_run_file
from eventstore.projections.sorted_run import SortedRun

TABLE = 7
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1

Entry = tuple[int, int, bytes]

# Ids one after the other, ids with gaps and several versions, hashes, and what is at the edges.
keys = st.one_of(
    st.integers(1, 40).map(lambda count: list(range(5, 5 + count))),
    st.lists(st.integers(1, 30), max_size=60),
    st.lists(st.integers(LOWEST, HIGHEST), max_size=60),
    st.lists(st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST - 1, HIGHEST]), max_size=40),
)
values = st.one_of(st.binary(min_size=8, max_size=8), st.binary(max_size=9))


@st.composite
def stretches(draw: st.DrawFn) -> list[list[Entry]]:
    """The entries of one to three neighbouring runs, by position."""
    position = 0
    made = []
    of_value = draw(st.sampled_from([values, st.binary(min_size=8, max_size=8)]))
    for _ in range(draw(st.integers(1, 3))):
        entries = []
        for key in draw(keys):
            position += draw(st.integers(0, 2))
            entries.append((key, position, draw(of_value)))
        made.append(entries)
        position += 1
    return made


def batch(entries: list[Entry]) -> pa.RecordBatch:
    columns = [*map(list, zip(*entries, strict=True))] or [[], [], []]
    types = (pa.int64(), pa.int64(), pa.large_binary())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return sorted_batch(*arrays)


def written(
    folder: Path, entries: list[Entry], number: int, limits: IndexLimits = LIMITS.index
) -> SortedRun:
    metadata = RunMetadata(
        format_version=RUN_FORMAT_VERSION,
        content_id=UUID(int=1),
        first_position=number + 1,
        last_position=number + 1,
        preceding_recorded_at=0,
        last_recorded_at=0,
        highest_ids={},
    )
    return write_run(folder / f"{number}.run", metadata, {TABLE: batch(entries)}, limits)


def asked(entries: list[Entry]) -> Iterator[int]:
    """The keys of entries, those beside them, and the extremes."""
    yield from (LOWEST, HIGHEST, 0)
    for key, _, _ in entries:
        yield from (key, max(LOWEST, key - 1), min(HIGHEST, key + 1))


def assert_answers(run: SortedRun, entries: list[Entry]) -> None:
    some = sorted({*asked(entries)})
    last = max((position for _, position, _ in entries), default=0)
    are_ids = all(len(value) == 8 for _, _, value in entries)
    for as_of in {0, last // 2, last}:
        expected: dict[int, list[tuple[int, bytes]]] = {}
        for key, position, value in entries:
            if position <= as_of:
                expected.setdefault(key, []).append((position, value))
        newest = {key: found[-1] for key, found in expected.items()}
        assert run.newest_of_each(TABLE, some, as_of) == newest
        assert run.values_of_each(TABLE, some, as_of) == {
            key: [value for _, value in found] for key, found in expected.items()
        }
        for key in some:
            assert run.newest(TABLE, key, as_of) == newest.get(key)
            assert [*run.entries(TABLE, key, as_of)] == expected.get(key, [])
            if are_ids:
                ids = [decode_id(value) for _, value in expected.get(key, [])]
                assert [*run.ids(TABLE, key, as_of)] == ids
        assert [*run.keys(TABLE, as_of)] == sorted(expected)
    assert run.known_keys(TABLE, some) == {key for key, _, _ in entries}
    assert run.batch(TABLE).to_pylist() == [
        {"key": key, "position": position, "value": value}
        for key, position, value in sorted(entries, key=lambda entry: entry[0])
    ]


@settings(max_examples=150, deadline=None)
@given(
    stretches(), st.sampled_from([0, LIMITS.index.copied_bytes_max]), st.sampled_from([2, 65_536])
)
def test_a_run_and_what_is_merged_of_some_answer_as_their_entries(
    made: list[list[Entry]], copied_bytes_max: int, rows_at_once: int
) -> None:
    limits = IndexLimits(copied_bytes_max=copied_bytes_max, written_rows_max=rows_at_once)
    with TemporaryDirectory() as folder:
        runs = [written(Path(folder), entries, n, limits) for n, entries in enumerate(made)]
        for run, entries in zip(runs, made, strict=True):
            assert_answers(run, entries)
        merged = merge_runs(runs, Path(folder) / "merged.run", limits)
        all_entries = [entry for entries in made for entry in entries]
        assert_answers(merged, all_entries)
        whole = Path(folder) / "whole.run"
        seed = merged.file.seed
        write_run_file(whole, merged.metadata, {TABLE: batch(all_entries)}, seed=seed)
        assert merged.path.read_bytes() == whole.read_bytes()


def test_threads_may_write_the_same_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two stores of one process do that are open on one directory."""
    entries = [(key, key, b"%08d" % key) for key in range(1, 50)]
    meeting, sync = threading.Barrier(2), os.fsync

    def meet(descriptor: int) -> None:
        meeting.wait(timeout=60)
        sync(descriptor)

    monkeypatch.setattr("os.fsync", meet)
    with ThreadPoolExecutor(2) as executor:
        runs = [executor.submit(written, tmp_path, entries, 1) for _ in range(2)]
    for run in runs:
        assert_answers(run.result(), entries)
    assert [path.name for path in tmp_path.iterdir()] == ["1.run"]
