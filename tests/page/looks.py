"""What is asked of each page's looks: that it fits, and that axe finds no fault."""

from __future__ import annotations

from typing import Any


def faults(page: Any, *rules: str) -> list[str]:
    """What axe finds, by all of its rules or some: each rule, how serious it is, and where."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "rule", "values": [*rules]}} if rules else None
    found = Axe().run(page, options=options).response["violations"]
    return [f"{it['id']} ({it['impact']}): {it['nodes'][0]['target']}" for it in found]


def overflow(page: Any) -> int:
    """By how many pixels the page is wider than its window."""
    return max(0, page.evaluate("document.documentElement.scrollWidth - innerWidth"))
