"""The point index over several runs: what a look-up gathers, and a damaged run among them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from msgspec.structs import replace

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.projections import kept_runs, run_building
from eventstore.projections.column_reads import TableColumns
from eventstore.projections.index_tables import ARTIFACT_URIS, decode_id, hash64
from eventstore.projections.limits import IndexLimits
from eventstore.projections.point_index import PointIndex
from eventstore.projections.run_merging import merge_runs
from eventstore.projections.run_table import DamagedRunError
from eventstore.projections.sorted_run import SortedRun
from tests.builders import ARTIFACTS, append, draft, wait_until_written

RECORDS = 24
SAME = hash64("s3://1")
"""Artifact 1 is put anew in every run, so that its uri leads to an entry in each."""


@pytest.fixture
def index(tmp_path: Path) -> PointIndex:
    return filled_index(tmp_path)


def filled_index(folder: Path, **limits: int) -> PointIndex:
    """Three runs of eight records that are not merged, and a tail of one record."""
    log = DirectoryLog.create(folder / "store")
    few = IndexLimits(tail_records_max=7, run_records_max=8, read_values_max=2)
    made = PointIndex(log, log.directory / "projections" / "index", replace(few, **limits))
    previous = None
    for number in range(1, RECORDS + 2):
        again = number % 8 == 1
        made.add(append(log, draft(1 if again else number, previous=previous if again else None)))
        previous = number if again else previous
        wait_until_written(made)
    assert [run.records for run in made._runs()] == [8, 8, 8]
    return made


AGAIN = [1, 9, 17, 25]
"""Where artifact 1 is put."""

Read = Callable[[PointIndex, int], Any]
READS: dict[str, tuple[Read, Callable[[int], Any]]] = {
    "newest": (
        lambda index, as_of: index.newest(ARTIFACTS, 1, as_of)[0],  # type: ignore[index]
        lambda as_of: max(n for n in AGAIN if n <= as_of),
    ),
    "newest_of_each": (
        lambda index, as_of: {
            key: found[0]
            for key, found in index.newest_of_each(ARTIFACTS, [1, 2, 12, 99], as_of).items()
        },
        lambda as_of: {
            key: position
            for key, position in (
                (1, max(n for n in AGAIN if n <= as_of)),
                (2, 2 if as_of >= 2 else 0),
                (12, 12 if as_of >= 12 else 0),
            )
            if position
        },
    ),
    "entries": (
        lambda index, as_of: [found[0] for found in index.entries(ARTIFACTS, 1, as_of)],
        lambda as_of: [n for n in AGAIN if n <= as_of],
    ),
    "ids": (
        lambda index, as_of: index.ids(ARTIFACT_URIS, SAME, as_of),
        lambda as_of: [1 for n in AGAIN if n <= as_of],
    ),
    "values_of_each": (
        lambda index, as_of: {
            key: [*map(decode_id, found)]
            for key, found in index.values_of_each(
                ARTIFACT_URIS, [SAME, hash64("s3://2"), hash64("s3://12"), 5], as_of
            ).items()
        },
        lambda as_of: {
            key: found
            for key, found in (
                (SAME, [1 for n in AGAIN if n <= as_of]),
                (hash64("s3://2"), [2] if as_of >= 2 else []),
                (hash64("s3://12"), [12] if as_of >= 12 else []),
            )
            if found
        },
    ),
    "known_keys": (
        lambda index, _: index.known_keys(ARTIFACTS, [1, 2, 12, 24, 99]),
        lambda _: {1, 2, 12, 24},
    ),
    "keys": (
        lambda index, as_of: [*index.keys(ARTIFACTS, as_of)],
        lambda as_of: sorted({1 if n in AGAIN else n for n in range(1, as_of + 1)}),
    ),
}


def values_at(index: PointIndex, positions: list[int]) -> list[bytes | None]:
    parts = index.values_at(ARTIFACTS, pa.array(positions, pa.int64()))
    return [value for part in parts for value in part.to_pylist()]


@pytest.mark.parametrize("name", READS)
def test_a_look_up_gathers_from_all_levels(index: PointIndex, name: str) -> None:
    read, expected = READS[name]
    for as_of in (1, 2, 8, 9, 11, 12, 16, 17, 24, 25):
        assert read(index, as_of) == expected(as_of)


@pytest.mark.parametrize("name", [*READS, "values_at"])
def test_a_run_found_damaged_is_built_again_whatever_is_read(
    index: PointIndex, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = index._runs()[1]
    asked = "entry_columns" if name == "values_at" else name
    whole = getattr(SortedRun, asked)

    def reading(run: SortedRun, *arguments: Any) -> Any:
        if run is damaged:
            raise DamagedRunError(run.file, "a bit has changed")
        return whole(run, *arguments)

    monkeypatch.setattr(SortedRun, asked, reading)
    if name == "values_at":
        expected = [found[1] for found in index.entries(ARTIFACTS, 1, 25)]
        assert values_at(index, AGAIN) == expected
    elif name == "newest":
        # The one record of artifact 12 is in that run.
        assert index.newest(ARTIFACTS, 12, 24) is not None
    else:
        read, as_expected = READS[name]
        assert read(index, 25) == as_expected(25)
    assert caplog.text.count("building it again from the log") == 1
    assert damaged not in index._runs()
    assert [run.records for run in index._runs()] == [8, 8, 8]


def test_a_long_run_is_built_again_as_several(tmp_path: Path) -> None:
    index = filled_index(tmp_path, built_records_max=3)
    damaged = index._runs()[1]
    index._repair(DamagedRunError(damaged.file, "a bit has changed"))
    assert [(run.first_position, run.last_position) for run in index._runs()] == [
        (1, 8),
        (9, 11),
        (12, 14),
        (15, 16),
        (17, 24),
    ]
    assert not damaged.path.exists()
    assert all(run.path.exists() for run in index._runs())
    for read, expected in READS.values():
        assert read(index, 25) == expected(25)
    # Another thread that has found the same damage has nothing more to do.
    index._repair(DamagedRunError(damaged.file, "a bit has changed"))
    assert len(index._runs()) == 5


@pytest.mark.parametrize(("records_max", "runs"), [(7, 2), (8, 1), (9, 1)])
def test_a_run_is_built_again_as_one_where_it_is_short_enough(
    tmp_path: Path, records_max: int, runs: int
) -> None:
    index = filled_index(tmp_path, built_records_max=records_max)
    damaged = index._runs()[0]
    index._repair(DamagedRunError(damaged.file, "a bit has changed"))
    assert len(index._runs()) == 2 + runs
    assert index._runs()[0].path.exists()
    assert index._runs()[0].first_position == 1


def test_a_commit_longer_than_a_run_is_not_torn(tmp_path: Path) -> None:
    limits = IndexLimits(closing_records_min=1, built_records_max=3)
    log = DirectoryLog.create(tmp_path / "store")
    made = PointIndex(log, tmp_path / "store" / "projections" / "index", limits)
    for numbers in ((1, 2), (3, 4, 5, 6, 7), (8,), (9, 10)):
        made.add(append(log, *map(draft, numbers)))
    made.close()
    made = PointIndex(log, tmp_path / "store" / "projections" / "index", limits)
    (damaged,) = made._runs()
    made._repair(DamagedRunError(damaged.file, "a bit has changed"))
    runs = made._runs()
    assert runs[0].first_position == 1
    assert runs[-1].last_position == 10
    assert all(run.last_position + 1 == after.first_position for run, after in pairwise(runs))
    assert [*made.keys(ARTIFACTS, 10)] == list(range(1, 11))
    assert made.highest_id("artifact") == 10


def test_a_full_disk_while_a_run_is_built_again_is_said(
    index: PointIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_building, "write_run", full)
    with pytest.raises(errors.ResourceExhaustedError, match="building the point index in"):
        index._repair(DamagedRunError(index._runs()[1].file, "a bit has changed"))


def test_damage_found_by_a_merge_is_repaired_and_merged(
    index: PointIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index._limits = replace(index._limits, run_records_max=100)
    damaged, whole = index._runs()[1], merge_runs
    found: list[int] = []

    def merging(runs: Any, *arguments: Any) -> SortedRun:
        if damaged in runs:
            found.append(1)
            raise DamagedRunError(damaged.file, "a bit has changed")
        return whole(runs, *arguments)

    monkeypatch.setattr(kept_runs, "merge_runs", merging)
    index._merge(index._run_folder())
    assert found == [1]
    (merged,) = index._runs()
    assert (merged.first_position, merged.last_position) == (1, 24)
    assert [path.name for path in merged.path.parent.glob("*.run")] == [merged.path.name]
    for read, expected in READS.values():
        assert read(index, 25) == expected(25)


def test_what_is_no_longer_there_is_not_replaced(index: PointIndex) -> None:
    first, second, third = index._runs()
    before = index._levels
    assert not index._replace([mock.Mock(spec=SortedRun)], [first])
    assert not index._replace([first, third], [second])
    assert index._levels == before
    assert index._replace([first, second], [third])
    assert index._levels == (third, *before[2:])


def test_levels_change_under_a_lock(index: PointIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replaces levels reads them first, and nobody else replaces any meanwhile."""
    seen: list[bool] = []

    class Noting(tuple):  # type: ignore[type-arg]
        def index(self, *arguments: Any) -> int:
            seen.append(owner._swap.locked())
            return super().index(*arguments)

    owner = index
    index._levels = Noting(index._levels)
    assert index._replace([index._runs()[0]], [index._runs()[0]])
    assert seen == [True]
    repaired: list[bool] = []

    def rebuilt(*_: Any) -> list[SortedRun]:
        repaired.append(owner._repairing.locked())
        return owner._runs()[:1]

    monkeypatch.setattr(run_building, "rebuilt_runs", rebuilt)
    index._repair(DamagedRunError(index._runs()[0].file, "a bit has changed"))
    assert repaired == [True]


# Column by column


def test_columns_notice_what_is_written_and_cut(index: PointIndex) -> None:
    columns = TableColumns(index._levels, ARTIFACTS)
    asked = pa.array([2, 12, 25, 99], pa.int64())
    wanted = columns.values_at(asked).to_pylist()
    assert [value is None for value in wanted] == [False, False, False, True]
    with mock.patch.object(SortedRun, "check_values") as check:
        columns.values_at(asked)
        assert not check.called
        with mock.patch.object(type(index._runs()[0].file), "stamp", return_value=(1, 2, 3)):
            columns.values_at(asked)
            assert check.call_args_list == [mock.call(ARTIFACTS)] * 3
            columns.values_at(asked)
            assert check.call_count == 3
    with mock.patch.object(SortedRun, "check_values") as check:
        TableColumns(index._levels, ARTIFACTS)
        assert check.call_args_list == [mock.call(ARTIFACTS)] * 3
    with mock.patch.object(type(index._runs()[0].file), "refuse_cut") as refuse:
        columns.values_at(asked)
        assert refuse.call_count == 3


def test_a_file_that_is_written_has_another_stamp(index: PointIndex) -> None:
    file = index._runs()[0].file
    before = file.stamp()
    assert file.stamp() == before
    with file.path.open("ab") as appended:
        appended.write(b"x")
    assert file.stamp() != before
    assert file.stamp()[-1] == before[-1] + 1
