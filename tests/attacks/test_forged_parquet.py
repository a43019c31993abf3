"""Parquet that a store has not written, with a manifest that fits: found, and named in errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.verification import verify_directory
from eventstore.projections.run_building import built_run
from tests.attacks.one_segment import path_of, rewrite

SEALED = 1


def renamed(table: pa.Table) -> pa.Table:
    names = ["moment" if name == "recorded_at" else name for name in table.column_names]
    return table.rename_columns(names)


def of_another_type(table: pa.Table) -> pa.Table:
    place = table.column_names.index("position")
    return table.set_column(place, "position", table["position"].cast(pa.float64()))


def without_a_position(table: pa.Table) -> pa.Table:
    place = table.column_names.index("position")
    return table.set_column(place, "position", pa.array([1, None], pa.int64()))


def not_utf_8(table: pa.Table) -> pa.Table:
    place = table.column_names.index("actor")
    texts = pa.array([b"\xff", b"\xfe"], pa.binary())
    return table.set_column(place, "actor", texts.view(pa.utf8()))


def out_of_order(table: pa.Table) -> pa.Table:
    place, field = table.column_names.index("position"), table.schema.field("position")
    return table.set_column(place, field, pa.array([1, 2**62], pa.int64()))


def beyond_all_times(table: pa.Table) -> pa.Table:
    place, field = table.column_names.index("recorded_at"), table.schema.field("recorded_at")
    return table.set_column(place, field, pa.array([1, 2**62], pa.int64()).view(field.type))


def with_two_numbers(table: pa.Table) -> pa.Table:
    place, field = table.column_names.index("commit"), table.schema.field("commit")
    return table.set_column(place, field, pa.array([1, 2], pa.int64()))


def without_a_record(table: pa.Table) -> pa.Table:
    return table.slice(1)


def of_an_unknown_kind(table: pa.Table) -> pa.Table:
    place = table.column_names.index("kind")
    field = table.schema.field("kind")
    return table.set_column(place, field, pa.array(["artifact", "thing"]))


@pytest.mark.parametrize(
    "forge",
    [
        renamed,
        of_another_type,
        without_a_position,
        not_utf_8,
        out_of_order,
        beyond_all_times,
        with_two_numbers,
        without_a_record,
        of_an_unknown_kind,
    ],
)
def test_columns_of_a_sealed_segment(store: Path, forge: Callable[[pa.Table], pa.Table]) -> None:
    path = path_of(store, SEALED)
    parquet.write_table(forge(parquet.read_table(path)), path)
    rewrite(store, SEALED, path.read_bytes())
    assert not verify_directory(store).ok
    with (
        closing(DirectoryLog.open(store, read_only=True)) as log,
        pytest.raises(errors.DataLossError, match="is damaged"),
    ):
        assert [*log.commits()]


def test_a_run_of_an_unknown_kind(store: Path) -> None:
    """What is sealed becomes runs of the point index without being read commit by commit."""
    path = path_of(store, SEALED)
    parquet.write_table(of_an_unknown_kind(parquet.read_table(path)), path)
    rewrite(store, SEALED, path.read_bytes())
    with (
        closing(DirectoryLog.open(store, read_only=True)) as log,
        pytest.raises(errors.DataLossError, match="no records of kind 'thing'"),
    ):
        built_run(log, log.store_id, store.parent, 1, 2, {})
