"""The parts that others wrote, as they are kept: whole, with their licences, and few."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "eventstore/page/static"
PARTS = STATIC / "parts"


def test_the_files_are_those_that_were_bundled() -> None:
    sums = dict(
        reversed(line.split("  ")) for line in (PARTS / "SHA256SUMS").read_text().splitlines()
    )
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in PARTS.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_every_bundled_package_is_pinned_and_has_its_licence() -> None:
    lock = json.loads((ROOT / "parts/package-lock.json").read_text())["packages"]
    licences = (PARTS / "LICENCES.txt").read_text()
    for folder, about in lock.items():
        if folder:
            assert about["integrity"].startswith("sha512-"), folder
            name = folder.removeprefix("node_modules/")
            assert about.get("dev") or f"\n{name} {about['version']} (" in f"\n{licences}"
    own = json.loads((ROOT / "parts/package.json").read_text())
    assert own["dependencies"] == lock[""]["dependencies"]


def test_all_that_a_browser_may_load_is_under_a_megabyte() -> None:
    assert sum(path.stat().st_size for path in STATIC.rglob("*.*")) < 1_000_000


@pytest.mark.parametrize("name", ["codemirror", "d3-dag", "preact", "uplot"])
def test_a_part_needs_no_evaluated_text_and_imports_nothing(name: str) -> None:
    text = (PARTS / f"{name}.js").read_text()
    assert not re.search(r"new Function|\beval\(|\bimport\(|(^|[;}])import\b", text)
