"""The report as a browser lays it out: on a desk, on a phone, and in print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.audit import SigningKey
from tests.pages import stores
from tests.pages.browser import BROWSER, FAULTS, WITHOUT_BROWSER, Page, browser_page
from tests.pages.stores import Subject

DOCS = Path(__file__).parents[2] / "docs"
MEDIA = {"desktop": (1200, "screen"), "phone": (360, "screen"), "print": (720, "print")}
MAKERS = {maker.__name__: maker for maker in (stores.small, stores.deep, stores.wide)}
MAKERS["hostile"] = stores.hostile
ORIGINS = {
    "small": ["artifact 1", "artifact 2"],
    "deep": ["artifact 1"],
    "wide": [f"artifact {number}" for number in range(1, 61)],
}
# The drawing that is seen: each box's name, and each text in bold above a box.
HEIGHTS = "[...document.querySelectorAll('.wide svg')].map(s => s.getBoundingClientRect().height)"
DRAWN = """
[...document.querySelectorAll('svg g[class]')]
  .filter(box => box.checkVisibility() && box.getBoundingClientRect().width > 0)
  .map(box => [box.querySelector('title').textContent.split(':')[0],
               box.querySelector('text[font-weight]')?.textContent])
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if BROWSER is None:
        pytest.skip(WITHOUT_BROWSER)
    with browser_page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("name", MAKERS)
def test_every_text_is_in_its_place(name: str, page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report_on(MAKERS[name]()), encoding="utf-8")
    for medium, (width, kind) in MEDIA.items():
        page.show(file, width=width, medium=kind)
        assert page.ask(FAULTS) == [], medium
        drawn = page.ask(DRAWN)
        origins = [said for said, mark in drawn if mark == "origin"]
        assert sorted(origins) == sorted(ORIGINS.get(name, origins)), medium
        assert origins
        if medium == "print":
            # A part of the drawing fits a page of paper.
            assert max(page.ask(HEIGHTS)) < 940
        proofs = "[...document.querySelectorAll('details > pre')].map(p => p.checkVisibility())"
        assert set(page.ask(proofs)) == {medium == "print"}
        if name == "small" and os.environ.get("RENEW_PICTURES"):
            page.picture(DOCS / f"report-{medium}.png", height=1400)


def test_what_has_changed_since_is_in_its_place(page: Page, tmp_path: Path) -> None:
    store, kind, node_id = stores.hostile()
    file = tmp_path / "report.html"
    past = store.as_of(store.log_position() - 1)
    file.write_text(past.report(kind, node_id), encoding="utf-8")
    for medium, (width, kind) in MEDIA.items():
        page.show(file, width=width, medium=kind)
        assert page.ask("document.querySelector('#since').innerText").startswith("What changed")
        assert page.ask(FAULTS) == [], medium


@pytest.mark.parametrize("name", ["deep", "wide"])
def test_what_is_left_out_is_said_where_it_is(name: str, page: Page, tmp_path: Path) -> None:
    store, kind, node_id = MAKERS[name]()
    file = tmp_path / "report.html"
    file.write_text(store.report(kind, node_id, limit=70), encoding="utf-8")
    page.show(file, width=1200)
    assert page.ask(FAULTS) == []
    shown = page.ask("document.querySelector('#lineage').innerText")
    whole = len(store.lineage(kind, node_id, direction="upstream").nodes)
    whole += len(store.lineage(kind, node_id, direction="downstream").nodes) - 1
    assert f"{whole - 70} of {whole} nodes are left out" in shown
    counts = page.ask(
        "[...document.querySelectorAll('.wide g.fold')]"
        ".map(fold => parseInt(fold.querySelector('text').textContent.replace(',', '')))"
    )
    assert sum(counts) == whole - 70


def test_print_leaves_nothing_out(page: Page, tmp_path: Path) -> None:
    file, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    file.write_text(report_on(stores.small()), encoding="utf-8")
    page.show(file, width=1200)
    page.pdf(printed)
    assert printed.read_bytes().startswith(b"%PDF-")
    page.show(file, width=720, medium="print")
    assert page.ask("getComputedStyle(document.querySelector('h2')).breakAfter") == "avoid"
    hidden = "[...document.querySelectorAll('body *')].filter(e => e.scrollHeight > e.clientHeight"
    assert page.ask(f"{hidden} + 2 && getComputedStyle(e).overflow !== 'visible').length") == 0


def report_on(subject: Subject) -> str:
    store, kind, node_id = subject
    checkpoint = store.checkpoint(SigningKey.generate("ana@example.com"))
    verification = store.verify(checkpoints=[checkpoint])
    return store.report(kind, node_id, verification=verification, checkpoint=checkpoint)
