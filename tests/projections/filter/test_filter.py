"""The filter language by example, and what hostile text does to it: nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import cache

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventstore
from eventstore import errors
from eventstore.metadata_store.options import ListOptions
from eventstore.projections import ending, tables
from eventstore.projections.filter import compile_filter
from eventstore.projections.filter.functions import like_without_case
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store
from tests.projections.filter.listed_nodes import put_nodes


@pytest.fixture(scope="module")
def store() -> Iterator[eventstore.MetadataStore]:
    with memory_store() as made:
        put_nodes(made)
        yield made


ARTIFACTS = {
    "id != 1": [2, 3, 4, 5],
    "NOT id = 1": [2, 3, 4, 5],
    "id BETWEEN 2 AND 4": [2, 3, 4],
    "id NOT IN (1, 2)": [3, 4, 5],
    "name != 'Foo'": [2, 3, 5],
    "name IS NULL": [4],
    "uri IS NULL": [],
    "name IN ('Foo', NULL)": [1],
    "name NOT IN ('Foo', NULL)": [],
    "type = 'AT2'": [3, 4, 5],
    "type LIKE 'at%'": [1, 2, 3, 4, 5],
    "state = LIVE": [1],
    "state != LIVE": [2, 3, 4, 5],
    "state NOT IN (LIVE, PENDING)": [3, 4, 5],
    "NOT state IN (LIVE)": [2, 3, 5],
    "state > 1": [1, 3, 5],
    "state = ABANDONED": [3],
    "state = LIVE OR state = LIVE": [1],
    'uri = "O\'Brien"': [5],
    "name = 'a\\\\b'": [5],
    "name = r'a\\b'": [5],
    "name = 'name'": [],
    "name LIKE 'foo%'": [1, 2],
    "events_0.type = INPUT": [1],
    "events_0.type != INPUT": [1, 2, 3],
    "events_0.execution_id = 1 AND events_1.execution_id = 2": [1],
    "events_0.execution_id = 1 AND events_0.execution_id = 2": [],
    "events_0.execution_id = 1 OR id = 4": [1, 2],
    "contexts_a.name = 'c1' AND contexts_b.name = 'c2'": [1],
    "contexts_a.type = 'CT' AND contexts_b.name = 'c2' AND properties.i.int_value = 1": [1],
    "contexts_a.id = 1 AND contexts_b.id = id AND events_0.type != INPUT": [1],
    "contexts_a.id < contexts_b.id AND events_0.type = INPUT AND events_1.execution_id = 2": [1],
    " AND ".join(f"events_{n}.type IN (INPUT, OUTPUT)" for n in range(60)): [1, 2],
    "NOT contexts_a.name = 'c1'": [1],
    "contexts_a.name IS NULL": [],
    "properties.i.int_value > 1": [2],
    "properties.i.int_value = 1 OR id = 4": [1],
    "properties.i.double_value = 1": [],
    "properties.i.string_value IS NULL": [1, 2],
    "custom_properties.mixed.int_value = 7 OR custom_properties.mixed.string_value = '7'": [2, 3],
    "custom_properties.`a:b`.int_value = 10": [3],
    "custom_properties.MyProp.int_value = 1": [1],
    "custom_properties.myprop.int_value = 1": [],
    "properties.i.int_value + properties.d.double_value > 2": [1, 2],
    "properties.b.bool_value": [1],
    "id / 2 = 1": [2],
    "(" * 10_000 + "id = 1" + ")" * 10_000: [1],
    "NOT " * 5_000 + "id = 1": [1],
    f"id IN ({', '.join(map(str, range(3, 3_000)))})": [3, 4, 5],
    f"id NOT IN ({', '.join(map(str, range(3, 3_000)))})": [1, 2],
    f"id + 1 IN ({', '.join(f'{n}.0' for n in range(3, 3_000))})": [2, 3, 4, 5],
    "id > -9223372036854775808 AND id < 9223372036854775808": [1, 2, 3, 4, 5],
    "id BETWEEN NULL AND 3": [],
    "ABS(NULL) IS NULL": [1, 2, 3, 4, 5],
    "CAST('true' AS BOOL)": [1, 2, 3, 4, 5],
    "state = +2": [1],
    "state = (2)": [1],
    "state NOT IN (2)": [2, 3, 5],
    "contexts_a. name = 'c1' AND (contexts_a).`ID` = 1 AND CONTEXTS_A.id = 1": [1, 2],
    "CAST(1.5 AS INT64) = 2 AND CAST(properties.d.double_value AS INT64) = 1": [1],
    "TRIM('\u00a0\t') = '\u00a0\t'": [1, 2, 3, 4, 5],
    "1 | 2 & 3 = 3 AND 1 << 1 + 1 = 4 AND 6 & 3 << 1 = 6": [1, 2, 3, 4, 5],
    "-1 << 63 >> 63 = -1 AND 1 << -1 = 0 AND -3 >> -1 = -6 AND 1 << 64 = 0": [1, 2, 3, 4, 5],
    "CAST(NULL AS INT64) << 0 IS NULL AND 1 << CAST(NULL AS INT64) IS NULL": [1, 2, 3, 4, 5],
    "1 >> properties.i.int_value + CAST(NULL AS INT64) IS NULL": [1, 2],
    "(id + CAST(NULL AS INT64)) | 1 IS NULL AND ~(id + CAST(NULL AS INT64)) IS NULL": [
        *range(1, 6)
    ],
    "SUBSTR(name, 0, 2) = 'F' AND SUBSTR(name, -2) = 'oo'": [1],
    "SUBSTR(name, -9223372036854775807 - 1, 9223372036854775807) = 'Foo'": [1],
    "ROUND(2.5) = 3 AND ROUND(1.25, 1) = 1.3 AND ROUND(12.5, -1) = 13": [1, 2, 3, 4, 5],
    "UNICODE(name) = 70 AND UNICODE('') IS NULL": [1],
    "CAST('99999999999999999999' AS INT64) = 9223372036854775807": [1, 2, 3, 4, 5],
    "REPLACE(name, 'o', '0') = 'F00'": [1],
    "id / 0 IS NULL": [1, 2, 3, 4, 5],
    "LOWER(name) = 'foo'": [1],
    "CASE WHEN id = 1 THEN TRUE ELSE FALSE END": [1],
    "type = 'AT' AND (contexts_a.type = 'CT' AND contexts_a.name = 'c1') AND "
    "properties.i.int_value = 1": [1],
}
EXECUTIONS = {
    "last_known_state = RUNNING": [1],
    "last_known_state != RUNNING": [2, 3],
    "last_known_state IS NULL": [3],
    "events_0.artifact_id = 1": [1, 2],
}
CONTEXTS = {
    "artifacts_a.id = 1": [1, 2],
    "artifacts_a.state = LIVE AND artifacts_b.state = PENDING": [1],
    "executions_a.last_known_state IN (NEW, RUNNING)": [1],
    "parent_contexts_a.name = 'c3'": [2],
    "parent_contexts_a.name = 'c3' AND child_contexts_a.name = 'c1'": [2],
    "artifacts_a.state != LIVE": [1],
}
REFUSED = {
    " ": "Syntax error",
    "a == 'a'": "Syntax error",
    "properties.0:b.int_value = 1": "Syntax error",
    "last_known_state IN ()": "Syntax error",
    "a = 'a'": "Unrecognized name",
    "contexts_0": "Unrecognized name",
    "properties.foo": "Unrecognized name",
    "properties..int_value = 1": "name a property, which cannot be empty",
    "custom_properties..int_value = 1": "name a property, which cannot be empty",
    "properties.``.int_value = 1": "empty name",
    "contexts_0.properties.``.int_value = 1": "empty name",
    "contexts_0..name = 'a'": "Syntax error",
    "parent_contexts_0.id = 1": "Unrecognized name",
    "'a'": "not a valid boolean expression",
    "type_id": "not a valid boolean expression",
    "id = 'a'": "No matching signature for operator = for argument types",
    "state = 'LIVE'": "No matching signature for operator = for argument types",
    "contexts_0.foo = 1": "Field name foo does not exist",
    "properties.baz.int = 1": "Field name int does not exist",
    "contexts_0.id.": "Unexpected end of expression",
    "properties.bar.": "Unexpected end of expression",
    "contexts_0.id.bar = 1": "Cannot access field bar",
    "state = 1": "Unsupported enum value specified",
    "state = RUNNING": "Unsupported enum value specified",
    "state IN RUNNING": "Expected a list of enum values enclosed in parentheses",
    "name = NULL": "cannot be literal NULL",
    "NOT NULL": "cannot be literal NULL",
    "SUBSTR(name) = 'a'": "No matching signature",
    "id = 1e": "whitespace",
    "id = 1AND TRUE": "whitespace",
    "id = 0x": "whitespace",
    "name NOTNULL": "Syntax error",
    "id IN (1, )": "Syntax error",
    "id IN (, 1)": "Syntax error",
    "ABS(id, ) = 1": "Syntax error",
    "NVL(name, 'a') = 'a'": "Function not found",
    "id::STRING = '1'": "Syntax error",
    "id = 1 = TRUE": "Syntax error",
    "id = NOT TRUE": "Syntax error",
    "id BETWEEN 1 AND 2 = TRUE": "Syntax error",
    "id IN (1) IS TRUE": "Syntax error",
    "id IS 1": "Syntax error",
    "id NOT NULL": "Syntax error",
    "(id, 1) = (1, 1)": "Syntax error",
    "CASE WHEN TRUE THEN TRUE": "CASE without its END",
    "CASE END": "",
    "CAST(id AS NUMERIC) = 1": "Type not found",
    "state IN (2, 3)": "Unsupported enum value",
    "state IN(LIVE)": "Unrecognized name",
    "state <> LIVE": "Unrecognized name",
    "contexts_a .name = 'c1'": "Unrecognized name",
    "contexts_a IS NULL AND contexts_a.id = 1": "name a field",
    "id = -(9223372036854775808)": "No matching signature",
    "id = 'a' /* no end": "unclosed comment",
    "id BETWEEN 9223372036854775808 AND id": "No matching signature",
    "id = 1; DROP TABLE artifacts": "Syntax error",
    "1 = 1) OR (1 = 1": "Syntax error",
    "read_text('/etc/passwd') = 'x'": "Function not found",
    "id IN (SELECT 1)": "subquery",
    "NOT (" * 101 + "id = 1" + ")" * 101: "nested",
    "id = 1 OR " * 110_000 + "id = 1": "longer than",
    "id = 1 OR " * 5_000 + "id = 1": "more than 5000 values",
    "(" * 401_000: "more than 400000 words",
    " OR ".join(f"contexts_{n}.id = 1" for n in range(64)): "more than 63 neighbours",
    "REPLACE(" * 9 + "name" + ", 'a', 'b')" * 9 + " = ''": "more than 8 REPLACE",
    "ROUND(" * 20 + "id" + ", 1)" * 20 + " = 1": "when it is written out",
    "LENGTH(REPLACE(REPLACE(uri, '/', '" + "x" * 9000 + "'), 'x', '" + "y" * 90 + "')) = 1": (
        "REPLACE makes a text of more than"
    ),
}


@pytest.mark.parametrize(("query", "ids"), ARTIFACTS.items(), ids=ARTIFACTS)
def test_artifacts(store: eventstore.MetadataStore, query: str, ids: list[int]) -> None:
    assert [n.id for n in store.get_artifacts(ListOptions(filter_query=query))] == ids


@pytest.mark.parametrize(("query", "ids"), EXECUTIONS.items(), ids=EXECUTIONS)
def test_executions(store: eventstore.MetadataStore, query: str, ids: list[int]) -> None:
    assert [n.id for n in store.get_executions(ListOptions(filter_query=query))] == ids


@pytest.mark.parametrize(("query", "ids"), CONTEXTS.items(), ids=CONTEXTS)
def test_contexts(store: eventstore.MetadataStore, query: str, ids: list[int]) -> None:
    assert [n.id for n in store.get_contexts(ListOptions(filter_query=query))] == ids


@pytest.mark.parametrize(("query", "words"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused(store: eventstore.MetadataStore, query: str, words: str) -> None:
    with pytest.raises(errors.InvalidArgumentError) as raised:
        store.get_artifacts(ListOptions(filter_query=query))
    assert raised.value.message.startswith("Invalid `filter_query`: ")
    assert words in raised.value.message


LETTERS = "aAkK\u212aiI\u0130\u0131sS\u017f\u00e4\u00c4"
"""Some of which Unicode, but not SQLite, takes for the same in the other case."""


@cache
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("SET disabled_optimizers = 'statistics_propagation'")
    return made


@settings(deadline=None)
@given(
    st.lists(st.none() | st.text(LETTERS + "/_%", max_size=5), max_size=20),
    st.text(LETTERS + "/_%", max_size=5) | st.text("/_%\u00e4", max_size=4),
)
def test_like_takes_ascii_letters_alone_for_the_same(texts: list[str | None], like: str) -> None:
    sql = f"SELECT {like_without_case('text', '$like')} FROM (SELECT unnest($texts) AS text)"
    rows = connection().execute(sql, {"texts": texts, "like": like}).fetchall()
    parts = {"%": ".*", "_": "."}
    pattern = "".join(parts.get(character) or re.escape(character) for character in like)
    matched = re.compile(pattern, re.DOTALL | re.IGNORECASE | re.ASCII).fullmatch
    assert rows == [(None if text is None else matched(text) is not None,) for text in texts]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("id * 9223372036854775807 > 9223372036854775807", [2, 3, 4, 5]),
        ("ABS(-9223372036854775808 * id) = 9223372036854775808", [1]),
        ("id * 9223372036854775807 * 9223372036854775807 * 9223372036854775807 = 1", []),
        ("(id * 9223372036854775807 & 1) = 1", [1, 2, 3, 4, 5]),
    ],
)
def test_an_integer_that_outgrows_64_bits_is_no_error(
    store: eventstore.MetadataStore, query: str, ids: list[int]
) -> None:
    found = store.get_artifacts(ListOptions(filter_query=query))
    assert [artifact.id for artifact in found] == ids


@pytest.fixture(scope="module")
def with_many_events() -> Iterator[eventstore.MetadataStore]:
    """Fifteen of one artifact; with each other, over and over, they are more than can be joined."""
    with memory_store() as made:
        put_nodes(made)
        for n in range(15):
            event = mlmd.Event(artifact_id=1, execution_id=1 + n % 3, type=1 + n // 3)
            with contextlib.suppress(errors.AlreadyExistsError):
                made.put_events([event])
        yield made


def test_a_filter_that_takes_too_long_is_ended(
    with_many_events: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "STATEMENT_SECONDS_MAX", 0.0)
    monkeypatch.setattr(ending, "_LOOKED_EVERY_SECONDS", 0.001)
    events = (f"events_{n}.execution_id * 10 + events_{n}.type" for n in range(12))
    hostile = f"{' + '.join(events)} = -1"
    with pytest.raises(errors.ResourceExhaustedError, match="seconds"):
        with_many_events.get_artifacts(ListOptions(filter_query=hostile))
    monkeypatch.undo()
    assert with_many_events.get_artifacts(ListOptions(filter_query="id * 1 = 1"))


@pytest.mark.parametrize(
    "query",
    [
        " OR ".join(f"events_{n}.milliseconds_since_epoch = -1" for n in range(12)),
        " OR ".join(
            f"(events_{n}.type = INPUT AND events_{n}.execution_id = 7)" for n in range(12)
        ),
        " AND ".join(f"(events_{n}.type = LIVE OR id = -{n})" for n in range(9)).replace(
            "LIVE", "UNKNOWN"
        ),
        f"NOT ({' AND '.join(f'events_{n}.execution_id > 0' for n in range(12))})",
        f"({' OR '.join(f'events_{n}.execution_id < 0' for n in range(12))}) IS NOT FALSE",
        " AND ".join(
            f"({' OR '.join(f'events_{n}.execution_id = {-n - m}' for n in range(12))})"
            for m in range(3)
        ),
    ],
)
def test_neighbours_that_a_filter_speaks_of_one_by_one_are_not_joined(
    with_many_events: eventstore.MetadataStore, query: str
) -> None:
    assert with_many_events.get_artifacts(ListOptions(filter_query=query)) == []


@pytest.mark.parametrize("unit", ["(", "NOT ", "- ", "'a", "`a", "/*", "state ", "properties.`"])
def test_very_long_texts_are_answered_or_refused(unit: str) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        compile_filter(unit * 20_000, "artifact")


@given(
    st.lists(
        st.sampled_from([*"()'\"`\\;-/*#=<>!@?$%&|~,. \n", "id", "name", "OR", "1"]), max_size=40
    ).map("".join)
)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        compiled = compile_filter(text, "artifact")
    except errors.InvalidArgumentError:
        return
    assert "'" not in compiled.condition.replace("'ABCDEFGHIJKLMNOPQRSTUVWXYZ'", "").replace(
        "'abcdefghijklmnopqrstuvwxyz'", ""
    )


@pytest.mark.parametrize(
    ("kind", "query", "words"),
    [
        ("execution", "state = RUNNING", "RUNNING, which is a value of last_known_state."),
        ("execution", "state IS NULL", "state, did you mean last_known_state? An execution has"),
        ("execution", "last_known_state = LIVE", "LIVE, which is a value of state."),
        ("execution", "last_known_state = CANCELLED", "did you mean CANCELED? last_known_state is"),
        ("artifact", "last_known_state IS NULL", "did you mean state? An artifact has type, id"),
        ("artifact", "naem = 'x'", "naem, did you mean name?"),
        ("artifact", "nonsense = 'x'", "nonsense. An artifact has type, id"),
        ("artifact", "contexts_a.nme = 'x'", "contexts_a, did you mean name? It has id, name"),
        ("artifact", "child_contexts_a.name = 'x'", "neighbours of an artifact have names"),
        ("context", "artifacts_a.last_known_state IS NULL", "did you mean state? It has"),
        ("context", "events_0.type = INPUT", "begin with parent_contexts_, child_contexts_"),
    ],
)
def test_an_error_says_what_may_be_meant(kind: str, query: str, words: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=re.escape(words)):
        compile_filter(query, kind)


@pytest.mark.parametrize(
    ("longest", "one_more", "words"),
    [
        (" OR ".join(["TRUE"] * 5_000), " OR TRUE", "more than 5000 values"),
        (" OR ".join(f"events_{n}.type = INPUT" for n in range(63)), "", ""),
        (
            " OR ".join(f"properties.p{n}.int_value = 1" for n in range(63)),
            " OR properties.p.int_value = 1",
            "more than 63 neighbours and properties",
        ),
        (
            " OR ".join(f"properties.p{n}.int_value = 1" for n in range(63)),
            " OR contexts_c.id = 1",
            "more than 63 neighbours and properties",
        ),
        ("id = 1".ljust(1024 * 1024), " ", "longer than 1048576 bytes"),
        ("id = 1 --".ljust((1024 * 1024 - 9) // 2 + 9, "\u00e4"), "\u00e4", "longer than 1048576"),
        ("NOT (" * 99 + "id = 1" + ")" * 99, " = TRUE", "more than 100 operators in each other"),
        ("REPLACE(" * 8 + "name" + ", 'a', 'b')" * 8 + " = ''", "", ""),
    ],
    ids=range(8),
)
def test_a_filter_may_be_as_long_as_a_limit(longest: str, one_more: str, words: str) -> None:
    compile_filter(longest, "artifact")
    if one_more:
        with pytest.raises(errors.InvalidArgumentError, match=words):
            compile_filter(longest + one_more, "artifact")
