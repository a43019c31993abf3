"""Filters as they are written, and the search."""

from __future__ import annotations

import pytest

import eventstore
from eventstore import errors
from eventstore.http_api.filters import check, complete
from eventstore.http_api.search import search
from tests.http_api.test_commits import source_of


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("nme = 'a'", "nme = 'a'"),
        ("name = 'a' nothing", "nothing"),
        ("id = 'a' AND name = 'b'", "'a' AND name = 'b'"),
        ("properties.x.int_vlue = 3", "int_vlue = 3"),
        ("name = = 'a'", "= 'a'"),
        ("type = 'x' AND == 3", "== 3"),
        ("contexts_a.nme = 'x'", "nme = 'x'"),
        ("name = 'x')", ")"),
        ("name = 'x' OR id > 'x' OR uri = 'y'", "'x' OR uri = 'y'"),
    ],
)
def test_an_error_is_at_its_place(text: str, rest: str) -> None:
    found = check("artifact", text)
    assert (found.is_valid, found.is_unfinished) == (False, False)
    assert found.position is not None
    assert text[found.position :] == rest


@pytest.mark.parametrize(
    "text", ["name =", "name = 'a' AND", "(name = 'a'", "name LIKE", "name = 'a", "properties.x."]
)
def test_what_only_lacks_its_end_is_unfinished(text: str) -> None:
    found = check("artifact", text)
    assert (found.is_unfinished, found.position) == (True, len(text))


@pytest.mark.parametrize("text", ["", "  ", "name = 'a'", "events_0.type = INPUT"])
def test_what_can_be_asked_is_valid(text: str) -> None:
    assert check("artifact", text).is_valid


@pytest.mark.parametrize(
    ("text", "start", "first"),
    [
        ("na", 0, "name"),
        ("name = 'a' AND pro", 15, "properties.rows.int_value"),
        ("properties.acc", 0, "properties.accuracy.double_value"),
        ("type = ", 7, "'Model'"),
        ("type = 'Da", 7, "'Data'"),
        ("state = MARK", 8, "MARKED_FOR_DELETION"),
        ("contexts_a.na", 0, "contexts_a.name"),
        ("contexts_a.type = ", 18, "'Run'"),
        ("events_0.type = OUT", 16, "OUTPUT"),
    ],
)
def test_completions(small: eventstore.MetadataStore, text: str, start: int, first: str) -> None:
    found = complete(source_of(small), "artifact", text, len(text))
    assert found.start == start
    assert first in [one.text for one in found.completions][:2]
    whole = f"{text[:start]}{first}"
    if first.startswith("properties") or first.endswith("name"):
        whole += " IS NOT NULL"
    assert check("artifact", whole).is_valid, whole


def test_completions_say_how_many_nodes_have_it(small: eventstore.MetadataStore) -> None:
    (one,) = complete(source_of(small), "artifact", "custom_properties.q", 19).completions
    assert (one.text, one.type, one.nodes) == (
        *("custom_properties.quality.string_value", "STRING", 4),
    )
    assert not complete(source_of(small), "artifact", "name = 'a", 9).completions


def test_every_completion_can_be_asked(small: eventstore.MetadataStore) -> None:
    for kind in ("artifact", "execution", "context"):
        for one in complete(source_of(small), kind, "", 0).completions:
            if one.kind in ("column", "property"):
                assert check(kind, f"{one.text} IS NOT NULL").is_valid


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("5", ("artifact", 5, "id")),
        ("commit 5", ("commit", 5, "id")),
        ("executions/3", ("execution", 3, "id")),
        ("position 77", ("position", 77, "id")),
        ("model-03", ("artifact", 8, "name")),
        ("MODEL-0", ("artifact", 20, "start of the name")),
        ("s3://data/3", ("artifact", 7, "uri")),
        ("run-1", ("context", 12, "start of the name")),
        ("n-11", ("execution", 12, "part of the name")),
        ("Data", ("type", 10, "name")),
    ],
)
def test_what_is_looked_for_comes_first(
    small: eventstore.MetadataStore, text: str, first: tuple[str, int, str]
) -> None:
    found = search(source_of(small), text)
    assert (found[0].kind, found[0].number, found[0].by) == first
    assert len({(hit.kind, hit.number) for hit in found}) == len(found)


def test_nothing_is_found_of_nothing_or_of_later(small: eventstore.MetadataStore) -> None:
    assert search(source_of(small), "  ") == []
    assert search(source_of(small.as_of(40)), "model-11") == []
    with pytest.raises(errors.InvalidArgumentError):
        check("event", "id = 1")
