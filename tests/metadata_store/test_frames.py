"""Frames of pandas and Polars in which whole numbers stay whole."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import eventstore
from eventstore import errors
from eventstore.metadata_store.metadata_store import MetadataStore

pd = pytest.importorskip("pandas")

ODD = 2**53 + 1
"""A whole number that no float is."""


@pytest.fixture(scope="module")
def store() -> Iterator[MetadataStore]:
    with eventstore.MetadataStore(_in_memory()) as opened:
        yield opened


def _in_memory() -> eventstore.proto.ConnectionConfig:
    config = eventstore.proto.ConnectionConfig()
    config.fake_database.SetInParent()
    return config


@pytest.mark.parametrize(
    ("sql_type", "value", "dtype"),
    [
        ("TINYINT", -128, "Int8"),
        ("SMALLINT", -1, "Int16"),
        ("INTEGER", 2**31 - 1, "Int32"),
        ("BIGINT", ODD, "Int64"),
        ("BIGINT", -(2**63), "Int64"),
        ("UTINYINT", 255, "UInt8"),
        ("USMALLINT", 1, "UInt16"),
        ("UINTEGER", 1, "UInt32"),
        ("UBIGINT", 2**64 - 1, "UInt64"),
        ("BOOLEAN", True, "boolean"),
    ],
)
def test_nulls_round_no_number(sql_type: str, value: int, dtype: str, store: MetadataStore) -> None:
    query = f"SELECT * FROM (VALUES (CAST({value} AS {sql_type})), (NULL)) AS t(x)"
    frame = store.sql(query).pandas()
    assert str(frame["x"].dtype) == dtype
    assert frame["x"][0] == value
    assert frame["x"][1] is pd.NA
    only = store.sql(f"SELECT CAST({value} AS {sql_type}) AS x").pandas()
    assert str(only["x"].dtype) == dtype.replace("boolean", "bool").lower()
    assert store.sql(f"SELECT CAST(NULL AS {sql_type}) AS x").pandas()["x"].isna().all()


@pytest.mark.parametrize(
    "value",
    [
        [1, None, ODD],
        [[ODD], [None], None],
        {"a": ODD, "b": None},
        {"a": [None, ODD]},
        [{"a": None}, {"a": ODD}],
        [True, None],
    ],
)
def test_nulls_within_lists_and_structs_round_no_number(
    value: object, store: MetadataStore
) -> None:
    (found,) = store.sql("SELECT $x AS x", {"x": value}).pandas()["x"]
    assert found == value
    assert repr(found) == repr(value)


def test_structs_in_several_rows(store: MetadataStore) -> None:
    query = f"SELECT * FROM (VALUES ({{'b': {ODD}}}), ({{'b': NULL}}), (NULL)) AS t(x)"
    assert store.sql(query).pandas()["x"].to_list() == [{"b": ODD}, {"b": None}, None]
    query = f"SELECT MAP {{'x': {ODD}, 'y': NULL}} AS x"
    assert store.sql(query).pandas()["x"].to_list() == [[("x", ODD), ("y", None)]]


def test_columns_of_one_name_stay_apart(store: MetadataStore) -> None:
    frame = store.sql(f"SELECT 'a' AS x, NULL::BIGINT AS x, {ODD} AS x").pandas()
    assert list(frame.columns) == ["x", "x", "x"]
    assert [str(dtype) for dtype in frame.dtypes][1:] == ["Int64", "int64"]
    assert (frame.iloc[0, 0], frame.iloc[0, 2]) == ("a", ODD)


def test_frames_of_random_rows_are_the_rows(store: MetadataStore) -> None:
    rng = random.Random(7)
    numbers = [rng.choice([None, rng.randrange(-(2**63), 2**63)]) for _ in range(3_000)]
    result = store.sql("SELECT unnest($x::BIGINT[]) AS x", {"x": numbers})
    frame = result.pandas()
    assert [None if pd.isna(x) else int(x) for x in frame["x"]] == numbers
    pytest.importorskip("polars")
    assert result.polars()["x"].to_list() == numbers


def test_a_type_that_polars_has_not_is_an_error_of_ours(store: MetadataStore) -> None:
    pytest.importorskip("polars")
    with pytest.raises(errors.OutOfRangeError, match="no counterpart in Polars"):
        store.sql("SELECT INTERVAL 2 DAY").polars()
