"""Proving a record on the page: what is given, what the browser finds, and what it never says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.looks import faults, overflow
from tests.page.store_of_runs import KEY, REASON, MadeStore

KEY_TEXT = str(KEY.verifier_key)


def states(page: Any) -> list[str]:
    found: list[str] = page.locator(".steps li").evaluate_all("all => all.map(it => it.className)")
    return found


def verdict(page: Any) -> Any:
    return page.locator(".verdict")


def test_a_version_is_proved_with_the_readers_key(browsing: Any, runs: MadeStore) -> None:
    browsing.goto(f"/artifacts/{runs.bad_dataset}")
    browsing.get_by_role("link", name="Prove", exact=True).first.click()
    browsing.get_by_label("Key of whoever signs").fill(KEY_TEXT)
    expect(verdict(browsing)).to_have_text("Proved")
    assert states(browsing) == ["holds"] * 4
    proved = browsing.locator(".proved-content").inner_text()
    assert REASON in proved
    assert '"MARKED_FOR_DELETION"' in proved
    assert f"position\n{runs.bad_position}" in proved


def test_the_readers_own_files_are_dropped(browsing: Any, runs: MadeStore, tmp_path: Path) -> None:
    browsing.goto(f"/records/{runs.push_position}/proof")
    (tmp_path / "key").write_text(KEY_TEXT, encoding="utf-8")
    (tmp_path / "checkpoint").write_text(runs.checkpoint, encoding="utf-8")
    files = [tmp_path / "key", tmp_path / "checkpoint"]
    browsing.locator("input[type=file]").set_input_files(files)
    expect(verdict(browsing)).to_have_text("Proved")
    # What was proved is saved, and a page that knows nothing of the store checks it again.
    with browsing.expect_download() as saved:
        browsing.get_by_role("link", name="Save the proof").click()
    proof = tmp_path / saved.value.suggested_filename
    saved.value.save_as(proof)
    browsing.goto("/check")
    browsing.locator("input[type=file]").set_input_files(proof)
    expect(verdict(browsing)).to_have_text("Proved")  # the key is kept
    text = proof.read_text(encoding="utf-8")
    index = text.index("extra ") + 40
    other = "B" if text[index] != "B" else "C"
    browsing.get_by_label("Proof", exact=True).fill(text[:index] + other + text[index + 1 :])
    expect(verdict(browsing)).to_have_text("This does not hold")
    assert "refused" in states(browsing)
    assert "proved" not in (browsing.locator(".proof").get_attribute("class") or "")


def test_erased_content_is_proved_by_its_commitment(browsing: Any, runs: MadeStore) -> None:
    browsing.goto(f"/artifacts/{runs.erased_dataset}")
    browsing.get_by_role("link", name="Prove", exact=True).last.click()
    browsing.get_by_label("Key of whoever signs").fill(KEY_TEXT)
    expect(verdict(browsing)).to_have_text("Proved")
    content = browsing.locator(".proved-content")
    assert "Its content was erased" in content.inner_text()
    content.get_by_role("link", name="prove the record of that").click()
    expect(verdict(browsing)).to_have_text("Proved")
    assert '"REQUESTED"' in content.inner_text()


def test_less_than_all_four_steps_is_never_proved(browsing: Any, runs: MadeStore) -> None:
    browsing.goto("/records/12/proof")
    expect(verdict(browsing)).to_have_text("This can't be checked")  # no key yet
    assert states(browsing) == ["holds", "holds", "holds", "unchecked"]
    given = browsing.get_by_label("Key of whoever signs")
    given.fill(KEY_TEXT.replace("auditor", "editor"))
    expect(verdict(browsing)).to_have_text("This does not hold")
    given.fill(KEY_TEXT)
    expect(verdict(browsing)).to_have_text("Proved")
    checkpoint = browsing.get_by_label("Signed checkpoint")
    checkpoint.fill(runs.checkpoint.replace("\n3976\n", "\n3975\n"))
    expect(verdict(browsing)).to_have_text("This can't be checked")
    assert "the server gives no proof" in browsing.locator(".proof .notice").inner_text()
    signature = runs.checkpoint[-20]
    changed = runs.checkpoint[:-20] + ("A" if signature != "A" else "B") + runs.checkpoint[-19:]
    checkpoint.fill(changed)
    expect(verdict(browsing)).to_have_text("This does not hold")
    assert states(browsing) == ["holds", "holds", "holds", "refused"]
    checkpoint.fill("")
    expect(verdict(browsing)).to_have_text("Give a checkpoint and a key")


def test_a_server_that_answers_something_else_is_found_out(browsing: Any, runs: MadeStore) -> None:
    browsing.route(
        "**/records/3000/proof",
        lambda route: (
            route.fallback(url=route.request.url.replace("3000", "3001"))
            if route.request.method == "POST"
            else route.fallback()
        ),
    )
    browsing.goto("/records/3000/proof")
    browsing.get_by_label("Key of whoever signs").fill(KEY_TEXT)
    expect(verdict(browsing)).to_have_text("This does not hold")
    assert states(browsing)[0] == "refused"
    assert "position 3001" in browsing.locator(".steps .refused").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_axe_finds_nothing(browsing: Any, scheme: str, runs: MadeStore) -> None:
    browsing.emulate_media(color_scheme=scheme)
    for address in (f"/records/{runs.bad_position}/proof", "/check"):
        browsing.goto(address)
        browsing.get_by_label("Key of whoever signs").fill(KEY_TEXT)
        for width in (1280, 360):
            browsing.set_viewport_size({"width": width, "height": 800})
            assert overflow(browsing) == 0
            assert faults(browsing) == []
