"""The page by touch: fingers move and zoom the drawing of lineage, and drag a moment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.store_of_runs import MadeStore

_VIEW = "document.querySelector('.canvas > g').transform.baseVal.consolidate().matrix"


@pytest.fixture
def phone(chromium: Any, served: str) -> Iterator[Any]:
    with chromium.new_context(
        base_url=served,
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
    ) as context:
        context.set_default_timeout(60_000)
        yield context.new_page()


def touch(page: Any, *fingers: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """Put fingers down, move each from one place to another, and lift them."""
    browser = page.context.new_cdp_session(page)

    def send(kind: str, share: float) -> None:
        points = [
            {"x": x + share * (to_x - x), "y": y + share * (to_y - y), "id": number}
            for number, ((x, y), (to_x, to_y)) in enumerate(fingers)
        ]
        browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", 0)
    for step in range(1, 11):
        send("touchMove", step / 10)
    browser.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def view(page: Any) -> tuple[float, float, float]:
    """The scale of the drawing, and where it begins."""
    found = page.evaluate(f"(() => {{ const m = {_VIEW}; return [m.a, m.e, m.f]; }})()")
    return found[0], found[1], found[2]


def test_fingers_move_and_zoom_a_drawing(phone: Any, runs: MadeStore) -> None:
    phone.goto(f"/artifacts/{runs.pushed_model}/lineage")
    phone.wait_for_selector(".node")
    canvas = phone.locator(".canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    address = phone.url

    scale, left, top = view(phone)
    touch(phone, ((x, y), (x - 60, y + 5)))
    assert view(phone) == pytest.approx((scale, left - 60, top + 5), abs=1)

    scale, left, top = view(phone)
    touch(phone, ((x - 30, y), (x - 90, y)), ((x + 30, y), (x + 90, y)))
    grown, left_now, _ = view(phone)
    assert grown == pytest.approx(3 * scale, rel=0.1)
    # What was between the fingers still is.
    middle = x - box["x"]
    assert (middle - left_now) / grown == pytest.approx((middle - left) / scale, abs=4)

    touch(phone, ((x - 90, y), (x - 30, y)), ((x + 90, y), (x + 30, y)))
    assert view(phone)[0] == pytest.approx(scale, rel=0.1)
    # None of that has chosen a node, and a tap does.
    assert phone.url == address
    assert phone.evaluate("visualViewport.scale") == 1
    phone.locator(".node").first.tap()
    phone.wait_for_selector(".node.isSelected")


def test_a_finger_drags_a_moment(phone: Any, runs: MadeStore) -> None:
    phone.goto(f"/artifacts/{runs.bad_dataset}")
    phone.wait_for_selector(".strip .bar")
    box = phone.locator(".strip svg").bounding_box()
    handle = phone.locator(".strip .handle rect").nth(1).bounding_box()
    x, y = handle["x"] + 8, handle["y"] + 8
    touch(phone, ((x, y), (box["x"] + 0.5 * box["width"], y)))
    phone.wait_for_url(re.compile(r"at=\d+$"))
