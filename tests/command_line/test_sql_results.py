"""What results of SQL look like: times without a zone, intervals, bits, plans; and filters."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import eventstore
from eventstore.plain_json import plain
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sql") / "store"
    with eventstore.open(directory, actor="ana") as opened:
        for name in ("T", "U"):
            type_id = opened.put_artifact_type(mlmd.ArtifactType(name=name))
            artifact = mlmd.Artifact(type_id=type_id, name="two\nlines")
            artifact.custom_properties["s"].struct_value.update({"a": [0, 1.5, -0.0], "b": 2})
            opened.put_artifacts([artifact])
    return directory


@pytest.mark.parametrize("options", [(), ("--local",)])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_a_time_without_a_zone_is_shown_without_one(
    options: tuple[str, ...], zone: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    query = "SELECT timestamp '2026-01-01' AS t, [timestamp '2026-01-01'] AS within"
    said = "2026-01-01T00:00:00.000000"
    assert json.loads(run("sql", store, query, "--json", *options).out) == {
        "t": said,
        "within": [said],
    }
    assert run("sql", store, query, *options).out.split()[-2:] == [said, f'["{said}"]']
    assert run("sql", store, query, "--csv", *options).out.splitlines()[1].startswith(f"{said},")
    instant = run("sql", store, "SELECT timestamptz '2026-01-01'", "--csv").out
    assert instant.endswith("2026-01-01T00:00:00.000000Z\n")


def test_booleans_begin_where_their_column_does(store: Path) -> None:
    query = "SELECT false AS deleted_or_not, true AS live, 1 AS how_many"
    lines = run("sql", store, query).out.splitlines()
    assert lines[-1] == "false           true         1"


def test_times_beyond_the_calendar_are_texts_and_nulls_stay_nulls(store: Path) -> None:
    query = "SELECT * FROM (VALUES (timestamptz '12026-01-01'), (NULL)) AS t(moment)"
    rows = [json.loads(line) for line in run("sql", store, query, "--json").out.splitlines()]
    assert rows[0]["moment"].startswith("12026-01-01")
    assert rows[1] == {"moment": None}


@pytest.mark.parametrize(
    "interval",
    [
        "2 days",
        "1 year 2 months 3 days 4.5 seconds",
        "-14 months 1 day",
        "-25 hours",
        "100 hours 1 microsecond",
        "0 days",
        "1 month -1 day -00:00:01.000001",
    ],
)
def test_intervals_are_as_duckdb_writes_them(interval: str, store: Path) -> None:
    with eventstore.open(store, read_only=True) as opened:
        value, text = opened.sql(
            "SELECT CAST($i AS INTERVAL), CAST(CAST($i AS INTERVAL) AS VARCHAR)", {"i": interval}
        ).rows()[0]
    assert plain(value) == text
    found = json.loads(run("sql", store, f"SELECT interval '{interval}' AS i", "--json").out)
    assert found == {"i": text}
    nested = json.loads(run("sql", store, f"SELECT [interval '{interval}'] AS i", "--json").out)
    assert nested == {"i": [text]}


def test_bits_and_other_types_without_a_counterpart_are_texts(store: Path) -> None:
    query = """SELECT '101'::BIT AS b, 5::BIGINT AS "#1", '10:00:00+02'::TIMETZ AS "q""x", 'y' AS b
    UNION ALL SELECT NULL, NULL, NULL, NULL"""
    with eventstore.open(store, read_only=True) as opened:
        result = opened.sql(query)
        assert result.columns == ["b", "#1", 'q"x', "b"]
        assert result.rows() == [("101", 5, "10:00:00+02", "y"), (None,) * 4]
        assert opened.sql("SELECT $b::BIT", {"b": "0110"}).rows() == [("0110",)]
    assert run("sql", store, "SELECT '101'::bit AS b, 1 AS a").out == "b    a\n101  1\n"


@pytest.mark.parametrize("width", [None, 80])
@pytest.mark.parametrize(
    "word",
    ["EXPLAIN", "/* ä /* */ EXPLAIN */ -- \n explain analyze", "EXPLAIN (FORMAT json)"],
)
def test_a_plan_is_shown_in_its_lines(word: str, width: int | None, store: Path) -> None:
    query = f"{word} FROM artifacts WHERE name = 'a\n\x1b[31m\u202eb'"
    done = run("sql", store, query, width=width)
    assert done.code == 0, done.err
    assert done.out.count("\n") > 5
    assert not set(done.out) & set("\x1b\u202e\r")
    rows = run("sql", store, query, "--json").out.splitlines()
    assert all("explain_value" in json.loads(row) for row in rows)
    assert next(iter(csv.reader(io.StringIO(run("sql", store, query, "--csv").out)))) == [
        "explain_key",
        "explain_value",
    ]


def test_a_name_is_no_plan(store: Path) -> None:
    query = "SELECT 'physical_plan' AS explain_key, name AS explain_value FROM artifacts LIMIT 1"
    assert r"two\nlines" in run("sql", store, query).out


def test_structs_have_one_form(store: Path) -> None:
    with eventstore.open(store, read_only=True) as opened:
        (first, *_) = opened.get_artifacts()
        fields = opened.history("artifact", first.id)[0].changes
    text = '{"a":[0,1.5,-0.0],"b":2}'
    assert {c.field: c.after for c in fields}["custom_properties.s"] == json.loads(text)
    for command in (
        ("get", "artifact", first.id),
        ("list", "artifact"),
        ("history", "artifact", first.id),
        ("changes",),
        ("diff", 0),
    ):
        for form in ((), ("--csv",), ("--json",)):
            done = run(command[0], store, *command[1:], *form)
            assert text in done.out.replace('""', '"'), (command, form)


@pytest.mark.parametrize("of_type", [(), ("--type", "T")])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "Unexpected end of expression, a value is missing"),
        ("(", "a ( without its )"),
        ("id IN (1", "a ( without its )"),
        ("name = 'a') OR (id = 1", "a , or ) without its ("),
        ("id = 1 AND", "Unexpected end of expression"),
    ],
)
def test_a_filter_is_refused_for_what_is_written_in_it(
    text: str, said: str, of_type: tuple[str, ...], store: Path
) -> None:
    done = run("list", store, "artifact", "--filter", text, *of_type)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert said in done.err


def test_a_filter_may_end_in_a_comment(store: Path) -> None:
    for filter_query, found in (("id = 1 OR id = 2 -- both", 1), ("id = 2 -- none", 0)):
        done = run("list", store, "artifact", "--type", "T", "--filter", filter_query, "--json")
        assert (done.code, done.out.count("\n")) == (0, found), done.err
