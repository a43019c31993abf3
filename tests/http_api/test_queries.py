"""SQL over HTTP: first rows, all rows in parts, errors at their place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore import errors
from eventstore.http_api import queries
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.problems import PlacedError
from eventstore.http_api.queries import all_batches, first_rows
from eventstore.http_api.serving import Limits, Serving
from tests.http_api.test_commits import source_of

MANY = "SELECT * FROM range(1000000) AS r(n), (SELECT 1 FROM artifacts LIMIT 1)"
ENDLESS = "SELECT count(*) FROM range(100000000) AS a, range(100000) AS b WHERE hash(a, b) = 1"


@pytest.fixture(scope="module")
def client(small: eventstore.MetadataStore) -> Iterator[TestClient]:
    # What is imported for the first instants takes longer than a query may.
    small.sql("SELECT created_at FROM artifacts").rows()
    serving = Serving({"default": small._engine}, limits=Limits(query_seconds=0.5))
    headers = {"sec-fetch-site": "same-origin"}
    with TestClient(
        make_application(serving, NoAuthentication()),
        base_url="http://localhost/api/v1",
        headers=headers,
    ) as made:
        yield made


def test_the_first_rows_are_those_of_the_store(
    client: TestClient, small: eventstore.MetadataStore
) -> None:
    query = "SELECT id, name, created_at, position FROM artifacts ORDER BY id"
    answer = client.get("sql", params={"q": query, "limit": 5}).json()
    rows = small.sql(query).rows()
    assert [row[:2] for row in answer["rows"]] == [list(row[:2]) for row in rows[:5]]
    assert (answer["has_more"], answer["limit"], answer["deadline_seconds"]) == (True, 5, 0.5)
    assert [column["name"] for column in answer["columns"]] == [
        *("id", "name", "created_at", "position")
    ]
    then = client.post("sql?at=60", json={"q": query}).json()
    assert len(then["rows"]) == len(small.as_of(60).sql(query))
    assert not then["has_more"]


def test_all_rows_come_in_parts(client: TestClient) -> None:
    answer = client.get("sql", params={"q": MANY, "format": "arrow"})
    assert pa.ipc.open_stream(answer.content).read_all()["n"].to_pylist() == [*range(1_000_000)]
    assert answer.headers["content-disposition"].startswith('attachment; filename="query-')
    empty = client.get(
        "sql", params={"q": "SELECT id FROM artifacts WHERE id < 0", "format": "csv"}
    )
    assert empty.text == "id\r\n"


def test_rows_that_nobody_takes_are_given_up(small: eventstore.MetadataStore) -> None:
    batches, schema = all_batches(source_of(small), MANY, 10)
    assert schema.names == ["n", "1"]
    assert next(batches).num_rows
    batches.close()  # type: ignore[attr-defined]
    assert len(first_rows(source_of(small), "SELECT 1", 10).rows) == 1


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("SELECT 1 FORM artifacts", "artifacts"),
        ("SELECT id,\n  nmae\nFROM artifacts", "nmae\nFROM artifacts"),
        (f"SELECT id, {'0 + ' * 60}nmae FROM artifacts", "nmae FROM artifacts"),
    ],
)
def test_an_error_is_at_its_place(
    client: TestClient, small: eventstore.MetadataStore, query: str, rest: str
) -> None:
    with pytest.raises(PlacedError) as raised:
        first_rows(source_of(small), query, 10)
    assert query[raised.value.position :] == rest
    for form in ("json", "csv"):
        answer = client.get("sql", params={"q": query, "format": form})
        assert (answer.status_code, answer.json()["position"]) == (400, raised.value.position)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_query_ends_in_time(client: TestClient, form: str) -> None:
    answer = client.get("sql", params={"q": ENDLESS, "format": form})
    assert (answer.status_code, answer.json()["code"]) == (504, "DEADLINE_EXCEEDED")


def test_nothing_but_views_is_reached(small: eventstore.MetadataStore) -> None:
    for query in ("FROM duckdb_tables()", "SELECT 1; SELECT 2", "COPY artifacts TO 'x'"):
        with pytest.raises(errors.InvalidArgumentError):
            first_rows(source_of(small), query, 10)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT range(10000) FROM range(1000), (SELECT 1 FROM artifacts LIMIT 1)",
        "SELECT repeat('x', 100000) FROM range(65536)",
    ],
)
def test_an_answer_is_of_a_limited_size(small: eventstore.MetadataStore, query: str) -> None:
    with pytest.raises(errors.ResourceExhaustedError, match="16 MiB"):
        first_rows(source_of(small), query, 10)
    assert len(first_rows(source_of(small), query, 10, limit=3).rows) == 3


def test_rows_are_not_converted_after_the_deadline(
    small: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 1.0, 11.0])
    monkeypatch.setattr(queries, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with pytest.raises(errors.DeadlineExceededError):
        first_rows(source_of(small), "SELECT * FROM range(3)", 10)


ODD = {
    "340282366920938463463374607431768211455::uhugeint": "340282366920938463463374607431768211455",
    "[340282366920938463463374607431768211455::uhugeint][1:1]": [
        "340282366920938463463374607431768211455"
    ],
    "{'a b': [1::uhugeint], c: date '2020-01-01'}": {"a b": ["1"], "c": "2020-01-01"},
    "date '-infinity'": "-infinity",
    "timestamp 'infinity'": "infinity",
    "date '290000-01-01'": "290000-01-01",
    "timestamp '0001-01-01' - interval 5000 year": "5000-01-01 (BC) 00:00:00",
    "interval '1' year": "1 year",
    "union_value(a := 1)": "1",
    "'101'::bit": "101",
    "[interval '1' day]": ["1 day"],
    "map {'a': 1}": [["a", 1]],
}


def test_values_that_arrow_python_or_parquet_lack_are_texts(client: TestClient) -> None:
    query = f"SELECT {', '.join(f'{one} AS c{n}' for n, one in enumerate(ODD))}"
    answer = client.get("sql", params={"q": query})
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [[*ODD.values()]]
    _, row = csv.reader(io.StringIO(client.get("sql", params={"q": query, "format": "csv"}).text))
    assert row == [
        json.dumps(one, separators=(",", ":")) if isinstance(one, (dict, list)) else str(one)
        for one in ODD.values()
    ]
    arrow = pa.ipc.open_stream(client.get("sql", params={"q": query, "format": "arrow"}).content)
    assert arrow.read_all().num_columns == len(ODD)
    written = client.get("sql", params={"q": query, "format": "parquet"}).content
    table = parquet.read_table(io.BytesIO(written))
    assert [table["c7"][0].as_py(), table["c8"][0].as_py()] == ["1 year", "1"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("' =1'", "' =1"),
        ("chr(10) || '=1'", "'\n=1"),
        ("'\uff1d1'", "'\uff1d1"),
        ("'\uff0d1'", "'\uff0d1"),
        ("'|x'", "'|x"),
        ("'\uff5cx'", "'\uff5cx"),
        ("'-1'", "'-1"),
        ("-1::hugeint", "-1"),
        ("-1.5::decimal(5, 2)", "-1.50"),
        ("'a=1'", "a=1"),
    ],
)
def test_a_cell_is_no_formula(client: TestClient, value: str, cell: str) -> None:
    answer = client.get("sql", params={"q": f"SELECT {value} AS x", "format": "csv"})
    assert [*csv.reader(io.StringIO(answer.text, newline=""))] == [["x"], [cell]]
