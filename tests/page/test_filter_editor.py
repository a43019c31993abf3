"""The filter of a list as it is written: completion, errors at their place, by keyboard alone."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from tests.page.looks import faults


def test_a_filter_is_completed_and_applied_by_keyboard(browsing: Any) -> None:
    browsing.goto("/artifacts?type=Model")
    browsing.locator("#filter").focus()
    editor = browsing.get_by_role("textbox", name="Filter")
    expect(editor).to_be_focused()
    # An empty filter offers what there is.
    expect(browsing.locator(".cm-tooltip-autocomplete li").first).to_be_visible()
    browsing.keyboard.type("par")
    expect(browsing.locator(".cm-tooltip-autocomplete li")).to_have_count(1)
    offered = browsing.locator(".cm-tooltip-autocomplete li").inner_text()
    assert offered == "properties.parameters.int_valueINT · 200 nodes"
    browsing.keyboard.press("ArrowDown")
    browsing.keyboard.press("Enter")
    browsing.keyboard.type(" > 1181900 AND name LIKE 'churn-11-1%-t1'")
    expect(browsing.locator(".filter-error")).to_have_text("")
    browsing.keyboard.press("Escape")
    with browsing.expect_navigation():
        browsing.keyboard.press("Enter")
    expect(browsing.locator("#found")).to_contain_text("3 found")
    assert "properties.parameters.int_value" in browsing.locator("#filter").input_value()
    assert "type=Model" in browsing.url
    assert "columns" not in browsing.url
    browsing.locator("summary", has_text="Columns").click()
    browsing.get_by_label("uri").check()
    with browsing.expect_navigation():
        browsing.get_by_role("button", name="Apply").click()
    assert "columns=uri" in browsing.url


def test_what_is_wrong_is_said_at_its_place_and_not_applied(browsing: Any) -> None:
    browsing.goto("/artifacts?type=Model")
    browsing.locator("#filter").focus()
    expect(browsing.get_by_role("textbox", name="Filter")).to_be_focused()
    browsing.keyboard.type("name = 'ä😀' AND stat")
    said = browsing.locator(".filter-error")
    expect(said).to_contain_text("Unfinished at column 17")
    browsing.keyboard.press("Escape")
    browsing.keyboard.press("Enter")
    expect(said).to_contain_text("Wrong at column 17")
    assert browsing.locator(".cm-lintRange-error").inner_text() == "stat"
    assert browsing.locator("tbody tr").count() == 50
    assert browsing.url.endswith("/artifacts?type=Model")
    assert faults(browsing) == []
    browsing.keyboard.type("e = LIVE")
    expect(said).to_have_text("")
    # The editor is no trap, and a pasted filter of several lines is one line.
    browsing.keyboard.press("Tab")
    expect(browsing.get_by_role("button", name="Apply")).to_be_focused()
    browsing.get_by_role("textbox", name="Filter").focus()
    browsing.keyboard.press("Control+a")
    browsing.keyboard.insert_text("name = 'a'\n  AND id = 1")
    assert browsing.locator("#filter").input_value() == "name = 'a' AND id = 1"


def test_completion_is_as_of_the_moment(browsing: Any) -> None:
    browsing.goto("/artifacts?at=60")
    browsing.locator("#filter").focus()
    expect(browsing.get_by_role("textbox", name="Filter")).to_be_focused()
    browsing.keyboard.type("checks")
    expect(browsing.locator(".filter-error")).not_to_have_text("")
    assert browsing.locator(".cm-tooltip-autocomplete li").count() == 0
