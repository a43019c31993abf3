"""SQL on the page: run, cancelled, wrong at its place, drawn, taken along, and shared."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

import eventstore
from tests.page.looks import faults, overflow


def ask(page: Any, query: str) -> None:
    page.get_by_role("textbox", name="Query").focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(query)
    page.keyboard.press("Control+Enter")


def told(page: Any) -> Any:
    return page.locator(".told")


def test_a_query_is_run_drawn_and_shared(browsing: Any, chromium: Any) -> None:
    browsing.goto("/sql?at=3498")
    expect(browsing.locator("[data-view=records] .count")).to_have_text("3,498")
    ask(browsing, "SELECT type, count(*) AS nodes FROM artifacts GROUP BY type ORDER BY type")
    expect(told(browsing)).to_contain_text("4 rows")
    rows = browsing.locator(".result tbody tr")
    assert rows.first.inner_text().split() == ["Dataset", "50"]
    browsing.get_by_label("Chart").select_option("bar")
    expect(browsing.locator(".plot canvas")).to_be_visible()
    query = parse_qs(urlsplit(browsing.url).query)
    assert (query["chart"], query["x"], query["y"]) == (["bar"], ["type"], ["nodes"])
    assert query["at"][0].isdigit()
    # Whoever opens the address has the query, and runs it when they like.
    with chromium.new_context() as other:
        page = other.new_page()
        page.goto(browsing.url)
        expect(told(page)).to_have_text("")
        page.get_by_role("button", name="Run").click()
        expect(page.locator(".plot canvas")).to_be_visible()
        assert page.locator(".result").inner_text() == browsing.locator(".result").inner_text()
    with browsing.expect_download() as saved:
        browsing.get_by_role("link", name="CSV").click()
    text = saved.value.path().read_text(encoding="utf-8")
    assert text.splitlines()[1].replace('"', "") == "Dataset,50"


def test_what_is_wrong_is_marked_at_its_place(browsing: Any) -> None:
    browsing.goto("/sql")
    ask(browsing, "SELECT 'ä😀', nme\nFROM artifacts")
    expect(told(browsing)).to_contain_text("nme")
    assert browsing.locator(".cm-lintRange-error").inner_text() == "nme"
    assert faults(browsing) == []


def test_numbers_are_exact_and_texts_do_no_harm(browsing: Any) -> None:
    browsing.goto("/sql")
    text = "<img src=x onerror=alert(1)>\u202e"
    ask(browsing, f"SELECT 9007199254740993 AS big, '{text}' AS \"<b>\", NULL AS none, 1.5 AS half")
    expect(told(browsing)).to_contain_text("1 row")
    cells = browsing.locator(".result tbody td").all_inner_texts()
    assert cells == ["9007199254740993", text.replace("\u202e", "\\u202e"), "null", "1.5"]
    assert browsing.locator(".result img, .result b").count() == 0


def test_only_the_first_thousand_rows_are_shown_and_a_query_is_cancelled(browsing: Any) -> None:
    browsing.goto("/sql")
    ask(browsing, "FROM records")
    expect(told(browsing)).to_contain_text("The first 1,000 rows")
    assert browsing.locator(".result tbody tr").count() == 1_000
    ask(browsing, "SELECT count(*) FROM range(1000000) a, range(1000000) b")
    browsing.get_by_role("button", name="Cancel").click()
    expect(told(browsing)).to_have_text("Cancelled")


def test_views_and_columns_are_completed(browsing: Any) -> None:
    browsing.goto("/sql")
    browsing.get_by_role("textbox", name="Query").focus()
    browsing.keyboard.press("Control+a")
    browsing.keyboard.type("SELECT * FROM execution_v")
    expect(browsing.locator(".cm-tooltip-autocomplete li").first).to_contain_text(
        "execution_versions"
    )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_fits_and_axe_finds_nothing(browsing: Any, width: int, scheme: str) -> None:
    browsing.set_viewport_size({"width": width, "height": 800})
    browsing.emulate_media(color_scheme=scheme)
    browsing.goto("/sql?chart=line&x=recorded_at&y=records")
    ask(browsing, "SELECT * FROM commits LIMIT 50")
    expect(browsing.locator(".plot canvas")).to_be_visible()
    assert overflow(browsing) == 0
    assert faults(browsing) == []


def test_the_views_of_types_are_listed_as_queries_name_them(browsing: Any, runs: Any) -> None:
    browsing.goto("/sql")
    listed = browsing.locator("[data-of-type]").evaluate_all(
        """all => all.map(one => [
            one.dataset.view,
            one.querySelector(".count").textContent,
            [...one.querySelectorAll("li code")].map(name => name.textContent),
        ])"""
    )
    assert len(listed) >= 4
    with eventstore.open(runs.path, read_only=True) as store:
        for name, nodes, columns in listed:
            found = store.sql(f'FROM "{name}"').arrow()
            assert (found.num_rows, found.schema.names) == (int(nodes.replace(",", "")), columns)
    browsing.get_by_role("textbox", name="Query").focus()
    browsing.keyboard.press("Control+a")
    browsing.keyboard.type("SELECT * FROM Mode")
    expect(browsing.locator(".cm-tooltip-autocomplete li").first).to_contain_text("Model")
