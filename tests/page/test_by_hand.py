"""The page by keyboard alone, and the moments on the strip."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect

from tests.page.store_of_runs import MadeStore

_OUTLINE = """() => {
  const at = document.activeElement;
  const drawn = at.closest("svg") ? at.querySelector("rect:nth-of-type(2)") ?? at : at;
  const style = getComputedStyle(drawn);
  return style.outlineStyle !== "none" || style.stroke !== "none";
}"""


def test_a_list_is_used_by_keyboard_alone(browsing: Any, runs: MadeStore) -> None:
    keys = browsing.keyboard
    browsing.goto("/artifacts?type=Model")
    browsing.wait_for_selector(".strip .handle")
    for key in ("j", "j", "Space", "j", "Space"):
        keys.press(key)
    expect(browsing.locator("[data-compare]")).to_have_text("Compare 2")
    keys.press("k")
    assert browsing.evaluate(_OUTLINE)
    name = browsing.evaluate("document.activeElement.querySelector('a').textContent")
    keys.press("Enter")
    expect(browsing.locator("h1")).to_have_text(name)
    keys.press("/")
    assert browsing.evaluate("document.activeElement.id") == "go"
    keys.insert_text(str(runs.bad_dataset))
    keys.press("Enter")
    expect(browsing.locator("h1")).to_contain_text("Go to")


def test_the_focus_is_seen_wherever_it_goes(browsing: Any, runs: MadeStore) -> None:
    browsing.goto(f"/artifacts/{runs.bad_dataset}")
    browsing.wait_for_selector(".strip .handle")
    stops = 0
    for _ in range(80):
        browsing.keyboard.press("Tab")
        at = browsing.evaluate("document.activeElement.outerHTML.slice(0, 120)")
        if at.startswith("<body"):
            break
        stops += 1
        assert browsing.evaluate(_OUTLINE), at
    assert stops > 25


def test_a_handle_goes_by_what_touches_the_page(browsing: Any, runs: MadeStore) -> None:
    browsing.goto(f"/artifacts/{runs.bad_dataset}")
    browsing.wait_for_selector(".strip .bar")
    handle = browsing.get_by_role("slider", name="Moment")
    handle.focus()
    expect(handle).to_have_attribute("aria-valuenow", "3976")
    browsing.keyboard.press("Shift+ArrowLeft")
    expect(handle).to_have_attribute("aria-valuetext", re.compile("data-quality"))
    browsing.wait_for_url(re.compile(f"at={runs.bad_position}"))
    # The handle has the focus again, so that the next key goes on from there.
    handle = browsing.get_by_role("slider", name="Moment")
    expect(handle).to_be_focused()
    browsing.keyboard.press("ArrowLeft")
    browsing.wait_for_url(re.compile(f"at={runs.bad_position - 1}"))
    expect(browsing.locator(".past-word")).to_have_text("The past")
    browsing.get_by_role("link", name="Back to now").click()
    expect(browsing.locator(".past-word")).to_have_count(0)


def test_a_handle_is_dragged_and_the_address_says_where(browsing: Any, runs: MadeStore) -> None:
    browsing.goto(f"/artifacts/{runs.bad_dataset}")
    browsing.wait_for_selector(".strip .bar")
    box = browsing.locator(".strip svg").bounding_box()
    handle = browsing.locator(".strip .handle rect").nth(1).bounding_box()
    mouse = browsing.mouse
    mouse.move(handle["x"] + 8, handle["y"] + 8)
    mouse.down()
    mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 10, steps=4)
    # Nothing is asked for while it moves.
    assert "at=" not in browsing.url
    mouse.up()
    browsing.wait_for_url(re.compile(r"at=\d+$"))
    expect(browsing.locator(".past-word")).to_have_text("The past")
    text = browsing.locator(".moments").inner_text()
    again = browsing.context.new_page()
    again.goto(browsing.url)
    assert again.locator(".moments").inner_text() == text


def test_a_moment_is_typed_and_kept_on_every_link(browsing: Any, runs: MadeStore) -> None:
    browsing.goto("/log")
    browsing.locator("details.moment > summary").click()
    browsing.get_by_label("Time in UTC, or position").fill("2026-11-05")
    browsing.keyboard.press("Enter")
    browsing.wait_for_url(re.compile(r"at=\d+"))
    at = re.search(r"at=(\d+)", browsing.url)[1]  # type: ignore[index]
    browsing.get_by_role("link", name="Contexts", exact=True).click()
    browsing.wait_for_url(re.compile(f"/contexts.*at={at}"))
    expect(browsing).to_have_title(re.compile(f"at position {int(at):,}"))


def test_the_theme_is_kept(browsing: Any) -> None:
    browsing.goto("/log")
    browsing.get_by_label("Theme").select_option("dark")
    browsing.goto("/artifacts")
    assert browsing.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    color = browsing.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert color == "rgb(20, 23, 28)"


def test_new_commits_are_announced_and_come_when_asked_for(browsing: Any) -> None:
    page = browsing
    page.clock.install()
    page.goto("/artifacts")
    region = page.locator(".new-commits")
    newest = int(region.get_attribute("data-newest-commit"))
    asked = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(json={"commits": [{"commit": newest + len(asked) - 1}], "next": None})

    page.route("**/api/v1/commits?limit=1", answer)
    for said in ("", "1 new commit, show", "2 new commits, show"):
        with page.expect_response("**/api/v1/commits?limit=1"):
            page.clock.run_for(30_000)
        expect(region).to_have_text(said)
    region.get_by_role("link", name="show").click()
    expect(region).to_have_text("")
    assert len(asked) == 3
    # What was is never out of date.
    page.goto("/artifacts?at=3976")
    page.clock.run_for(90_000)
    assert len(asked) == 3
