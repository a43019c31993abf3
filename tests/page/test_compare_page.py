"""Several nodes side by side: what differs, which one is the base, and the plot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.looks import faults, overflow
from tests.page.store_of_runs import MadeStore


def row(page: Any, name: str) -> list[str]:
    cells: list[str] = (
        page.get_by_role("row")
        .filter(has=page.get_by_role("rowheader", name=name, exact=True))
        .get_by_role("cell")
        .all_inner_texts()
    )
    return [" ".join(cell.split()) for cell in cells]


def test_two_runs_are_compared_from_their_list(browsing: Any) -> None:
    browsing.goto("/contexts?type=PipelineRun")
    boxes = browsing.get_by_role("checkbox", name="compare")
    boxes.nth(0).check()
    boxes.nth(1).check()
    browsing.get_by_role("button", name="Compare 2").click()
    expect(browsing.get_by_role("heading", level=1)).to_have_text("Compare 2 contexts")
    rows = browsing.locator(".compare tbody tr:not(.section)")
    differing = rows.count()
    assert differing > 2
    assert rows.filter(has=browsing.locator(".differs, .value-none")).count() == differing
    browsing.get_by_role("link", name="fields").click()
    assert rows.count() > differing


def test_differences_are_from_the_base(browsing: Any, runs: MadeStore) -> None:
    pushed, retrained = runs.pushed_model, runs.retrained_model
    browsing.goto(f"/compare?artifacts={pushed},{retrained}")
    assert row(browsing, "learning_rate") == ["0.003", "~ 0.03 +0.027"]
    assert row(browsing, "Features") == ["features-11-05", "~ features-11-05-r2"]
    assert row(browsing, "custom_properties.accuracy") == ["0.9293", "—"]
    assert row(browsing, "epochs") == []
    assert "epochs = 20" in browsing.locator(".equal").inner_text()
    browsing.get_by_role("link", name="as base").click()
    assert row(browsing, "learning_rate") == ["0.03", "~ 0.003 -0.027"]
    data = json.loads(browsing.locator(".plot script").text_content())
    assert [one["name"] for one in data["chosen"]] == ["churn-11-05-r2", "churn-11-05-t3"]
    assert len(data["all"]) == 196
    browsing.locator("select[name=by]").select_option("learning_rate")
    browsing.get_by_role("button", name="Show").click()
    data = json.loads(browsing.locator(".plot script").text_content())
    assert [(one["x"], one["y"]) for one in data["chosen"]] == [(0.03, 0.9175), (0.003, 0.9333)]
    expect(browsing.locator(".plot canvas")).to_be_visible()


def test_what_cannot_be_compared_is_said(browsing: Any) -> None:
    for query in ("artifacts=431", "artifacts=431,x", "", "artifacts=1,2&contexts=3"):
        answer = browsing.request.get(f"/compare?{query}", headers={"sec-fetch-site": "none"})
        assert answer.status == 400


@pytest.mark.parametrize("ids", ["431,507", "431,507,425,401,402,403,404"])
def test_it_fits_and_axe_finds_nothing(browsing: Any, ids: str) -> None:
    browsing.goto(f"/compare?artifacts={ids}")
    expect(browsing.locator(".plot canvas")).to_be_visible()
    for width, scheme in ((1280, "light"), (360, "dark")):
        browsing.set_viewport_size({"width": width, "height": 800})
        browsing.emulate_media(color_scheme=scheme)
        assert overflow(browsing) == 0
        assert faults(browsing) == []
