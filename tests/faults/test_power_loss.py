"""A part of what `make torture` tries: what is promised is on the disk after a loss of power."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults import layer
from tests.faults.disk_model import SECTOR, Disk, Event, Keep
from tests.faults.layer import Kind
from tests.faults.power_loss import states

_NEEDS_LAYER = pytest.mark.skipif(layer.why_not() is not None, reason=str(layer.why_not()))

_SHARES = {"create": 2, "seal": 3, "together": 1, "pack": 4}
"""Of how many syncs of a chapter power is lost after one, by chance."""


@_NEEDS_LAYER
@pytest.mark.parametrize("chapter", _SHARES)
def test_every_promise_is_on_the_disk(chapter: str) -> None:
    tried = 0
    for state in states([chapter], share=_SHARES[chapter]):
        tried += 1
        assert not state.complaints, f"{state.title()}: {state.complaints}"
    assert tried > 5


def _left(disk: Disk, root: Path, keep: Keep) -> dict[str, bytes]:
    root.mkdir()
    disk.lay_out(root, keep, random.Random(root.name))
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_the_model_keeps_what_was_synced(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "old").write_bytes(b"old")
    disk = Disk(tmp_path / "root")
    inode = (tmp_path / "root").stat().st_ino

    def happen(kind: Kind, number: int = 0, data: bytes = b"", *names: str) -> None:
        paths = [(name,) for name in (*names, "", "")]
        disk.happen(Event(kind, number, 0, paths[0], paths[1], data))

    written = b"x" * SECTOR + b"y" * SECTOR
    happen(Kind.CREATE, 1, b"", "new")
    happen(Kind.WRITE, 1, written)
    assert _left(disk, tmp_path / "1", Keep.NOTHING) == {"old": b"old"}
    assert _left(disk, tmp_path / "2", Keep.NAMES) == {"old": b"old", "new": b""}
    assert _left(disk, tmp_path / "3", Keep.ALL) == {"old": b"old", "new": written}
    happen(Kind.SYNC, 1)
    assert _left(disk, tmp_path / "4", Keep.NOTHING) == {"old": b"old"}
    assert _left(disk, tmp_path / "5", Keep.NAMES) == {"old": b"old", "new": written}
    happen(Kind.RENAME, 0, b"", "new", "old")
    assert _left(disk, tmp_path / "6", Keep.NOTHING) == {"old": b"old"}
    happen(Kind.SYNC, inode)
    assert _left(disk, tmp_path / "7", Keep.NOTHING) == {"old": written}
    torn = {_left(disk, tmp_path / "8", Keep(0.5, 0))["old"]}
    happen(Kind.WRITE, 1, b"z" * 2 * SECTOR)
    for number in range(20):
        torn.add(_left(disk, tmp_path / f"t{number}", Keep(0.5, 0))["old"])
    kept = {b"x" * SECTOR, b"z" * SECTOR}, {b"y" * SECTOR, b"z" * SECTOR}
    assert torn == {first + second for first in kept[0] for second in kept[1]}
