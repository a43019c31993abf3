"""Whatever was put is shown as it was put, harms no terminal and no spreadsheet, and is valid."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore.shown_text import shown_text
from tests.command_line.hostile import LONG, TEXTS
from tests.command_line.runner import run

csv.field_size_limit(10_000_000)

# Every command that shows what was put, and how many of the texts it shows.
COMMANDS: dict[str, tuple[tuple[object, ...], bool]] = {
    "list artifacts": (("list", "STORE", "artifact", "--limit", 0), True),
    "list executions": (("list", "STORE", "execution", "--limit", 0), True),
    "list contexts": (("list", "STORE", "context", "--limit", 0), True),
    "get": (("get", "STORE", "artifact", 1), False),
    "get type": (("get", "STORE", "artifact_type", 10), False),
    "history": (("history", "STORE", "artifact", 2), False),
    "touching": (("history", "STORE", "context", 3, "--touching"), False),
    "changes": (("changes", "STORE", "--limit", 0), True),
    "tail": (("tail", "STORE", "--after", 0, "--commits", len(TEXTS) + 4), True),
    "diff": (("diff", "STORE", 12), True),
    "diff lineage": (("diff", "STORE", 12, "--lineage", "artifact", 1), False),
    "log": (("log", "STORE", "--limit", 0), True),
    "lineage": (("lineage", "STORE", "artifact", 1), False),
    "context": (("lineage", "STORE", "context", 2), False),
    "sql": (("sql", "STORE", "SELECT name, uri, id FROM artifacts ORDER BY id"), True),
    "commits": (("sql", "STORE", "SELECT actor, reason, request_id FROM commits"), True),
    "info": (("info", "STORE"), False),
    "verify": (("verify", "STORE"), False),
}
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e0fff]"
)


def arguments(name: str, store: Path) -> tuple[object, ...]:
    return tuple(store if given == "STORE" else given for given in COMMANDS[name][0])


def expected(name: str) -> tuple[str, ...]:
    return TEXTS if COMMANDS[name][1] else ()


@pytest.mark.parametrize("name", COMMANDS)
def test_text_in_a_pipe_is_whole_and_harmless(name: str, hostile_store: Path) -> None:
    done = run(*arguments(name, hostile_store))
    assert (done.code, UNSEEN.search(done.out + done.err)) == (0, None), done.err
    for text in expected(name):
        assert shown_text(text).strip() in done.out, text


@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_text_on_a_terminal_is_harmless(name: str, width: int, hostile_store: Path) -> None:
    done = run(*arguments(name, hostile_store), width=width)
    assert (done.code, UNSEEN.search(done.out + done.err)) == (0, None), done.err
    together = " ".join(done.out.split())
    for text in expected(name):
        if text != LONG:
            assert " ".join(shown_text(text).split()) in together or name == "list artifacts"
        else:
            assert "x" * 100 in together
            assert LONG in together or "more characters: say --full)" in together


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_valid_and_says_what_was_put(name: str, hostile_store: Path) -> None:
    done = run(*arguments(name, hostile_store), "--json")
    assert (done.code, UNSEEN.search(done.out + done.err)) == (0, None), done.err
    lines = done.out.split("\n")
    assert lines.pop() == ""
    found = {text for line in lines for text in _texts(json.loads(line, parse_constant=_refused))}
    for text in expected(name):
        assert any(text in said for said in found), text


@pytest.mark.parametrize("name", COMMANDS)
def test_csv_is_valid_and_has_no_formulas(name: str, hostile_store: Path) -> None:
    done = run(*arguments(name, hostile_store), "--csv")
    assert (done.code, UNSEEN.search(done.out + done.err)) == (0, None), done.err
    rows = list(csv.reader(io.StringIO(done.out, newline=""), strict=True))
    assert len({len(row) for row in rows}) == 1
    for cell in {cell for row in rows for cell in row}:
        is_number = re.fullmatch(r"-?(\d+(\.\d+)?(e[+-]\d+)?|Infinity)", cell)
        assert is_number or not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r")), cell
    together = "\n".join(cell for row in rows for cell in row)
    for text in expected(name):
        kept = re.sub(r"[^\n\t]+", lambda part: shown_text(part.group()), text)
        assert kept in together, text


def test_numbers_are_numbers_and_whole(hostile_store: Path) -> None:
    artifact = json.loads(run("get", hostile_store, "artifact", 1, "--json").out)
    properties = artifact["custom_properties"]
    assert artifact["id"] == 1
    assert properties["whole"] == {"int_value": -(2**63)}
    assert properties["nan"] == {"double_value": "NaN"}
    assert properties["infinite"] == {"double_value": "-Infinity"}
    query = (
        "SELECT 9223372036854775807 AS i, 'nan'::DOUBLE AS d, 1.50::DECIMAL(9, 2) AS e, NULL AS n"
    )
    done = run("sql", hostile_store, query, "--json")
    assert done.out == '{"i":9223372036854775807,"d":"NaN","e":1.50,"n":null}\n'
    assert run("sql", hostile_store, query, "--csv").out.splitlines()[1] == (
        "9223372036854775807,NaN,1.50,"
    )


@pytest.mark.parametrize("form", ["dot", "mermaid"])
@pytest.mark.parametrize("artifact_id", range(1, len(TEXTS) + 1, 4))
def test_drawings_keep_texts_in_their_quotes(
    form: str, artifact_id: int, hostile_store: Path
) -> None:
    done = run("lineage", hostile_store, "artifact", artifact_id, "--format", form)
    assert (done.code, UNSEEN.search(done.out)) == (0, None), done.err
    quoted = r'"(?:[^"\\\n]|\\.)*"' if form == "dot" else r'"[^"\n<>`]*(?:<br/>[^"\n<>`]*)*"'
    node = {
        "dot": rf"  [ae]\d+ \[shape=box(, style=rounded)?, label={quoted}\];",
        "mermaid": rf"  (e\d+\[{quoted}\]|a\d+\(\[{quoted}\]\))",
    }[form]
    edge = {
        "dot": rf"  [ae]\d+ -> [ae]\d+ \[label={quoted}\];",
        "mermaid": rf"  [ae]\d+ -->\|{quoted}\| [ae]\d+",
    }[form]
    frame = r"digraph lineage \{|  rankdir=LR;|\}|flowchart LR"
    for line in done.out.splitlines():
        assert re.fullmatch(f"{node}|{edge}|{frame}", line), line


def test_arguments_are_shown_harmless_in_errors(hostile_store: Path) -> None:
    for given in (
        ("get", hostile_store, "artif\x1b[31mact", 1),
        ("get", hostile_store, "artifact", "\x1b[31m"),
        ("list", hostile_store, "artifact", "--type", "\x1b[31m"),
        ("list", hostile_store, "artifact", "--filter", "name = '\x1b[31m"),
        ("info", "\x1b[31m"),
        ("\x1b[31m",),
        ("list", hostile_store, "artifact", "--as-of", "\x1b[31m"),
        ("sql", hostile_store, "SELECT \x1b[31m"),
    ):
        done = run(*given)
        assert done.code in (1, 2), given
        assert UNSEEN.search(done.err) is None, done.err
        assert done.out == ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, held in value.items():
            yield key
            yield from _texts(held)
    elif isinstance(value, list):
        for held in value:
            yield from _texts(held)


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
