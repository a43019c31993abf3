"""What a sealed segment holds: what was appended, in row groups that no reader notices."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, Draft, sealing
from eventstore.log import record as kind_names
from eventstore.log.manifest import read_manifest
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft, rotate


def with_column(
    table: pa.Table, name: str, change: Callable[[pa.ChunkedArray], object]
) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, change(table[name]))


@pytest.mark.parametrize(
    "misread",
    [
        lambda table: with_column(table, "entity_id", lambda ids: pc.add(ids, 1)),
        lambda table: with_column(table, "payload", pc.binary_reverse),
        lambda table: table.slice(1),
        lambda table: table.drop_columns(["reason"]),
        lambda table: with_column(table, "position", lambda ids: ids.cast(pa.int32())),
    ],
    ids=["number", "bytes", "row", "column", "type"],
)
def test_what_does_not_read_back_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misread: Callable[[pa.Table], pa.Table]
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1), draft(2))
    before = [commit.records for commit in log.commits()]
    read = parquet.ParquetFile.read_row_group

    def misreading(file: parquet.ParquetFile, *arguments: object, **options: object) -> pa.Table:
        return misread(read(file, *arguments, **options))

    with monkeypatch.context() as patched:
        patched.setattr(parquet.ParquetFile, "read_row_group", misreading)
        with pytest.raises(errors.DataLossError, match="does not read back as it was written"):
            log.seal()
    assert [entry.sealed for entry in read_manifest(tmp_path / "store").segments] == [False]
    assert not [*(tmp_path / "store").rglob("*.parquet*")]
    assert [commit.records for commit in log.commits()] == before
    log.seal()
    assert [commit.records for commit in log.commits()] == before
    assert log.verify().ok
    log.close()


@pytest.mark.parametrize(
    ("rows", "size", "groups"),
    [
        (4, 10**9, [4, 4, 4, 2]),
        (6, 10**9, [6, 6, 2]),
        (100, 10**9, [14]),
        (100, 1, [3, 3, 5, 2, 1]),
    ],
)
def test_reading_across_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, size: int, groups: list[int]
) -> None:
    monkeypatch.setattr(sealing, "ROWS_PER_GROUP", rows)
    monkeypatch.setattr(sealing, "_BYTES_PER_GROUP", size)
    log = DirectoryLog.create(tmp_path / "store")
    ids = iter(range(1, 15))
    for records in (3, 3, 5, 2, 1):
        append(log, *(draft(next(ids)) for _ in range(records)))
    log.seal()
    path = log.segments()[0].path
    assert path is not None
    found = parquet.ParquetFile(path).metadata
    assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == groups
    ends = [*accumulate(groups)]
    for position in range(1, 15):
        end = min(end for end in ends if end >= position)
        assert log.stretch_of(position) == (end - groups[ends.index(end)] + 1, end)
    for after in range(15):
        for upto in range(15):
            batches = [*log.scan(after, upto, ["position", "entity_id", "name"])]
            positions = [n for batch in batches for n in batch["position"].to_pylist()]
            assert positions == [*range(after + 1, upto + 1)]
            assert positions == [n for batch in batches for n in batch["entity_id"].to_pylist()]
    assert [commit.last_position for commit in log.commits()] == [3, 6, 11, 13, 14]
    assert log.verify().ok
    log.close()


@pytest.mark.parametrize("state", ["active", "closed", "sealed"])
@pytest.mark.parametrize("columns", [["entity_id"], ["entity_id", "name"]])
def test_a_commit_of_several_row_groups_is_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, columns: list[str]
) -> None:
    monkeypatch.setattr(sealing, "ROWS_PER_GROUP", 3)
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1), draft(2))
    append(log, *(draft(number) for number in range(3, 12)))
    if state == "closed":
        rotate(log)
    elif state == "sealed":
        log.seal()
    for after in range(12):
        for upto in range(after, 12):
            found = [batch["entity_id"].to_pylist() for batch in log.scan(after, upto, columns)]
            assert [] not in found
            assert [n for some in found for n in some] == [*range(after + 1, upto + 1)]
    for position in range(1, 12):
        first, end = log.stretch_of(position)
        (batch,) = log.scan(first - 1, end, ["entity_id"])
        assert batch["entity_id"][position - first].as_py() == position
    log.close()


def test_the_moment_of_every_commit_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    ends = [0]
    for number in range(1, 11):
        monkeypatch.setattr("time.time_ns", lambda number=number: 1_000_000 * number)
        append(log, *(draft(ends[-1] + n) for n in range(1, 2 + number % 3)))
        ends.append(log.position)
        if number in (3, 4, 8):
            log.seal()
    assert [segment.state for segment in log.segments()] == ["sealed"] * 3 + ["active"]
    for number in range(11):
        for later in (0, 999):
            assert log.position_at(1000 * number + later) == ends[number], (number, later)
        for position in range(ends[number - 1] + 1 if number else 1, ends[number] + 1):
            assert log.recorded_at(position) == 1000 * number
    log.close()


@pytest.mark.parametrize(
    "values",
    [
        *([value] for value in (math.inf, -math.inf, math.nan, -0.0)),
        *([math.inf, math.nan], [-math.inf, math.nan], [math.inf, -math.inf], [0.0, -0.0]),
        *([1.0, math.inf], [-1.0, -math.inf]),
    ],
    ids=repr,
)
def test_what_any_arrow_says_of_doubles_holds(tmp_path: Path, values: list[float]) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    for number, value in enumerate(values, start=1):
        node = mlmd.Artifact(id=number, type_id=10, uri="")
        node.custom_properties["x"].double_value = value
        payload = node.SerializeToString(deterministic=True)
        append(log, Draft(kind_names.ARTIFACT, number, 10, None, payload))
    log.seal()
    assert log.verify().ok
    log.close()
