"""What is stored does no harm where it is written, and addresses carry the moments on."""

from __future__ import annotations

import math

import pytest
from jinja2 import DictLoader

from eventstore.page import rendering
from eventstore.page.changed_values import paths_of, pieces_of
from eventstore.page.formatting import size, value_of
from eventstore.page.links import Links, web_address


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ('" onload="x', "&#34; onload=&#34;x"),
        ("a\u202eb", "a\\u202eb"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31m", "\\x1b[31m"),
    ],
)
def test_texts_are_escaped_wherever_they_are_written(text: str, written: str) -> None:
    environment = rendering._environment().overlay(
        loader=DictLoader({"one": "{{ text }}", "attribute": '<a title="{{ text }}">'})
    )
    assert environment.get_template("one").render(text=text) == written
    assert environment.get_template("attribute").render(text=text) == f'<a title="{written}">'


def test_a_text_may_keep_its_line_breaks_but_nothing_else() -> None:
    environment = rendering._environment().overlay(loader=DictLoader({"one": "{{ text|lines }}"}))
    assert environment.get_template("one").render(text="a\n\u202e<b>") == "a\n\\u202e&lt;b&gt;"


def test_only_addresses_of_the_web_become_links() -> None:
    assert web_address("https://example.com/a?b") == "example.com"
    assert web_address("https://ex\u0430mple.com/") == "xn--exmple-4nf.com"
    for text in (
        *("javascript:alert(1)", "data:text/html,x", "s3://bucket", "//example.com", "http://["),
        *("https://example.com/\u202egpj.exe", "https://exa\nmple.com", " https://example.com"),
        *("https://good.com@evil.example/", "https://a..b/", "http:///", "https://" + "a" * 99),
    ):
        assert web_address(text) is None


def test_addresses_carry_the_moments_on_unless_they_say_others() -> None:
    links = Links("/stores/a", at="3466", until="3889")
    assert links.entity("artifact", 7) == "/stores/a/artifacts/7?at=3466&until=3889"
    assert links.to("/log", at=None, until=12) == "/stores/a/log?until=12"
    assert links.to("/log", at=None) == "/stores/a/log"
    assert links.list("context", type="a/b&c") == (
        "/stores/a/contexts?type=a/b%26c&at=3466&until=3889"
    )


def test_values_are_written_as_they_are_stored() -> None:
    assert value_of(1234567).text == "1234567"
    assert value_of(True).text == "true"
    assert [value_of(value).text for value in (math.nan, -math.inf)] == ["NaN", "-Infinity"]
    assert value_of({"a": 1}).text == '{"a":1}'
    assert value_of("x" * 30, 10).more == 20
    assert (value_of(None).form, value_of("").form) == ("none", "text")
    assert [size(number) for number in (999, 1_500, 300_314)] == ["999 B", "1.5 kB", "300 kB"]


def test_long_texts_change_by_word_and_structs_by_path() -> None:
    before = "the model is trained on the sales of each day and of the users " * 3
    pieces = pieces_of(before, before.replace("sales", "orders", 1) + "twice")
    assert pieces is not None
    marked = [(one.mark, one.text) for one in pieces if one.mark != "same"]
    assert marked == [("gone", "sales"), ("added", "orders"), ("added", "twice")]
    assert "…" in "".join(one.text for one in pieces)
    assert pieces_of(before, "x" * 80) is None
    assert pieces_of("LIVE", "DELETED") is None
    assert pieces_of(before * 100, before * 101) is None
    then = {"optimizer": {"name": "adam", "betas": [0.9, 0.99]}, "epochs": 3, "seed": 1}
    now = {"optimizer": {"name": "adam", "betas": [0.9, 0.999]}, "epochs": 4, "deep": {}}
    assert paths_of("properties.config", then, now) == [
        ("properties.config.optimizer.betas[1]", 0.99, 0.999),
        ("properties.config.epochs", 3, 4),
        ("properties.config.seed", 1, None),
        ("properties.config.deep", None, {}),
    ]
    assert paths_of("state", "LIVE", "DELETED") == [("state", "LIVE", "DELETED")]
    for before_struct, after_struct in (({"a": 1}, {}), ({"a": None}, {"b": 1})):
        assert paths_of("p", before_struct, after_struct) == [("p", before_struct, after_struct)]
