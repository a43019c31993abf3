"""The five questions that the page is for, each in at most eight actions and no address typed.

A click, a key and a text that is typed or pasted count as an action each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.store_of_runs import KEY, REASON, MadeStore

MOST = 8


class Reader:
    """Somebody at the overview, who clicks and types."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.actions = 0

    def click(self, role: str, name: str, *, place: int = 0, within: str = "body") -> None:
        """Click what a reader would call by its role and its name."""
        self.actions += 1
        found = self.page.locator(within).get_by_role(role, name=name, exact=True)
        found.nth(place).click()

    def press(self, key: str) -> None:
        self.actions += 1
        self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.actions += 1
        self.page.keyboard.insert_text(text)

    def fill(self, label: str, text: str) -> None:
        """Paste a text into a field."""
        self.actions += 1
        self.page.get_by_label(label).fill(text)

    def open_newest_push(self) -> None:
        self.click("link", "Executions", within=".nav")
        self.page.locator(".types a", has_text="Push").click()
        self.actions += 1
        self.click("link", "push-11-05", within="tbody")


@pytest.fixture
def reader(browsing: Any) -> Iterator[Reader]:
    browsing.goto("/")
    reader = Reader(browsing)
    yield reader
    assert reader.actions <= MOST


def test_which_data_was_the_deployed_model_trained_on(reader: Reader) -> None:
    reader.open_newest_push()
    reader.click("link", "churn-11-05-t3", within=".main")
    reader.click("link", "Lineage")
    origins = reader.page.locator(".lineage-origins")
    expect(origins).to_contain_text("sales-11-05")
    expect(origins).to_contain_text("users")
    expect(origins).not_to_contain_text("sales-11-04")


def test_what_changed_between_two_runs(reader: Reader) -> None:
    reader.click("link", "Contexts", within=".nav")
    reader.click("checkbox", "compare churn-11-05-r2")
    reader.click("checkbox", "compare churn-11-13-t1")
    reader.click("button", "Compare 2")
    main = reader.page.locator(".main")
    for field, before, after in (
        ("Train.learning_rate", "0.03", "0.001"),
        ("Dataset.rows", "15543", "18859"),
        ("Metrics.accuracy", "0.9175", "0.9286"),
    ):
        row = main.locator("tr", has_text=field).first
        expect(row).to_contain_text(before)
        expect(row).to_contain_text(after)


def test_what_was_known_on_the_day_of_the_push(reader: Reader, runs: MadeStore) -> None:
    reader.open_newest_push()
    reader.click("link", "As of this")
    reader.click("link", "churn-11-05-t3", within=".main")
    reader.click("link", "Lineage")
    reader.click("link", "sales-11-05", within=".lineage-origins")
    page = reader.page
    expect(page.locator(".past-word")).to_have_text("The past")
    expect(page.locator(".moments")).to_contain_text(f"position {runs.push_position:,}")
    expect(page.locator(".title")).to_contain_text("LIVE")
    expect(page.locator(".main")).not_to_contain_text("bad: 2,114")
    reader.click("link", "see now")
    expect(page.locator(".title")).to_contain_text("MARKED_FOR_DELETION")


def test_who_marked_the_dataset_bad_and_why(reader: Reader) -> None:
    reader.press("/")
    reader.type("sales-11-05")
    reader.press("Enter")
    newest = reader.page.locator(".version").first
    expect(newest).to_contain_text("data-quality")
    expect(newest).to_contain_text(REASON)
    expect(newest).to_contain_text("DQ-1381")
    expect(newest).to_contain_text("MARKED_FOR_DELETION")


def test_is_this_record_proved(reader: Reader) -> None:
    reader.press("/")
    reader.type("sales-11-05")
    reader.press("Enter")
    reader.click("link", "Prove")
    reader.fill("Key of whoever signs", str(KEY.verifier_key))
    expect(reader.page.locator(".verdict")).to_have_text("Proved")
    expect(reader.page.locator(".steps li.holds")).to_have_count(4)
    expect(reader.page.locator(".proved-content")).to_contain_text(REASON)
