"""Every page fits its window, wide and narrow, light and dark, and axe finds no fault in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.page.looks import faults, overflow
from tests.page.store_of_runs import MadeStore

DOCS = Path(__file__).parents[2] / "docs"

PAGES = {
    "overview": "/",
    "models": "/artifacts?type=Model",
    "wrong filter": "/artifacts?filter=state = ",
    "type": "/types/artifact?name=Dataset",
    "dataset": "/artifacts/{bad_dataset}",
    "two moments": "/artifacts/{bad_dataset}?at=3406&until=3976",
    "erased": "/artifacts/{erased_dataset}",
    "context": "/contexts/3",
    "log": "/log",
    "commit": "/commits/1185",
    "holds": "/rules/holds?number=1",
    "erasures": "/rules/erasures?number=1",
    "verification": "/verification",
    "search": "/go?q=sales",
    "sql": "/sql?q=SELECT 1",
    "lineage": "/artifacts/{pushed_model}/lineage",
    "comparison": "/compare?artifacts={pushed_model},{retrained_model}",
}


def test_pages_fit_and_have_no_faults(browsing: Any, runs: MadeStore) -> None:
    wrong: dict[str, object] = {}
    for name, address in PAGES.items():
        browsing.set_viewport_size({"width": 1280, "height": 800})
        browsing.emulate_media(color_scheme="light")
        browsing.goto(address.format(**vars(runs)))
        browsing.wait_for_selector(".strip .handle")
        found: list[object] = [*faults(browsing), overflow(browsing)]
        browsing.set_viewport_size({"width": 360, "height": 800})
        browsing.emulate_media(color_scheme="dark")
        found += [*faults(browsing, "color-contrast", "target-size"), overflow(browsing)]
        if found != [0, 0]:
            wrong[name] = found
    assert wrong == {}


SHOWN = "[...document.querySelectorAll(%r)].some(it => it.checkVisibility())"
MOVING = """[...document.querySelectorAll("*")].filter(it => {
    const look = getComputedStyle(it);
    return [look.transitionDuration, look.animationDuration].some(said => /[1-9]/.test(said));
}).length"""
BORDERS = """["added", "changed", "gone"].map(mark => {
    const chip = document.body.appendChild(document.createElement("span"));
    chip.className = `chip chip-${mark}`;
    return getComputedStyle(chip).borderTopStyle + getComputedStyle(chip).borderTopWidth;
})"""


def test_pages_are_read_zoomed_printed_and_by_who_sets_colours_or_stops_motion(
    browsing: Any, runs: MadeStore
) -> None:
    for name in ("two moments", "lineage", "log"):
        browsing.emulate_media(media="screen", forced_colors="none", reduced_motion="reduce")
        # As wide as a window of 1280 pixels at 200 %.
        browsing.set_viewport_size({"width": 640, "height": 400})
        browsing.goto(PAGES[name].format(**vars(runs)))
        browsing.wait_for_selector(".strip .handle")
        assert overflow(browsing) == 0, name
        assert browsing.evaluate(MOVING) == 0, name
        browsing.emulate_media(forced_colors="active")
        assert len({*browsing.evaluate(BORDERS)}) == 3
        browsing.emulate_media(media="print")
        assert not browsing.evaluate(SHOWN % ".nav, .go, .strip, .actions, .filters"), name
        assert browsing.evaluate(SHOWN % "h1, .foot"), name
        assert overflow(browsing) == 0, name


PICTURES = {
    "page-overview": ("/", 1280, "light"),
    "page-lineage": ("/artifacts/{retrained_model}/lineage?direction=both", 1280, "light"),
    "page-dataset": ("/artifacts/{bad_dataset}?at=3406&until=3976", 1280, "light"),
    "page-dark": ("/artifacts/{pushed_model}", 1280, "dark"),
    "page-phone": ("/artifacts/{bad_dataset}", 360, "dark"),
}


@pytest.mark.skipif("RENEW_PICTURES" not in os.environ, reason="RENEW_PICTURES=1 makes them anew")
def test_pictures_of_the_page_are_made(browsing: Any, runs: MadeStore) -> None:
    for name, (address, width, scheme) in PICTURES.items():
        browsing.set_viewport_size({"width": width, "height": 800})
        browsing.emulate_media(color_scheme=scheme)
        browsing.goto(address.format(**vars(runs)))
        browsing.wait_for_selector(".strip .handle")
        browsing.wait_for_load_state("networkidle")
        browsing.screenshot(path=DOCS / f"{name}.png")
