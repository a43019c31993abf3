"""Of a write of several commits a loss of power leaves some sectors: what is torn is cut."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, followed_segment
from eventstore.log.acknowledged import FILE_NAME
from eventstore.log.log import Put
from eventstore.log.verification import verify_directory
from tests.builders import append, draft

_SECTOR = 512
_CASES = 40


@pytest.fixture(autouse=True)
def _nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_segment, "_SECOND_LOOK_SECONDS", 0.0)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path, int, bytes]:
    """A store of one commit and three that were written together; its segment; where they start."""
    store = tmp_path / "store"
    log = DirectoryLog.create(store)
    append(log, draft(1), draft(2))
    (segment,) = log.segments()
    start = segment.file_bytes
    puts = [Put([draft(3), draft(4)]), Put([draft(5)]), Put([draft(6)])]
    commits = log.append_together(puts, expected_position=log.position)
    assert [(c.first_position, c.last_position) for c in commits] == [(3, 4), (5, 5), (6, 6)]
    log.close()
    assert isinstance(segment.path, Path)
    # Not acknowledged, as after a loss of power.
    segment.path.with_name(FILE_NAME).unlink()
    segment.path.with_name("commit-ends").unlink(missing_ok=True)
    return store, segment.path, start, segment.path.read_bytes()


def test_what_a_loss_of_power_leaves_is_cut(
    written: tuple[Path, Path, int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store, segment, start, whole = written
    sectors = [*range(start - start % _SECTOR, len(whole), _SECTOR)]
    chance, positions = random.Random(17), set()
    for case in range(_CASES):
        left = bytearray(whole)
        lost = chance.sample(sectors, chance.randint(1, len(sectors)))
        for sector in lost:
            first, end = max(sector, start), min(sector + _SECTOR, len(whole))
            left[first:end] = bytes(end - first)
        segment.write_bytes(left)
        with caplog.at_level(logging.ERROR, "eventstore.log"):
            log = DirectoryLog.open(store)
        positions.add(log.position)
        append(log, draft(log.position + 1))
        assert log.verify().ok, (case, lost)
        log.close()
        segment.with_name(FILE_NAME).unlink()
    assert positions == {2, 4, 5}


def test_commits_of_another_write_make_it_damage(tmp_path: Path) -> None:
    store = tmp_path / "store"
    log = DirectoryLog.create(store)
    append(log, draft(1), draft(2))
    (segment,) = log.segments()
    first = segment.file_bytes
    log.append_together([Put([draft(3)]), Put([draft(4)])], expected_position=log.position)
    append(log, draft(5))
    log.close()
    path = segment.path
    assert isinstance(path, Path)
    path.with_name(FILE_NAME).unlink()
    whole = path.read_bytes()
    sector = first // _SECTOR * _SECTOR + _SECTOR
    path.write_bytes(whole[:sector] + bytes(_SECTOR) + whole[sector + _SECTOR :])
    with pytest.raises(errors.DataLossError, match="position 3"):
        DirectoryLog.open(store)
    assert not verify_directory(store).ok


def test_what_was_acknowledged_before_the_last_write_is_not_cut(tmp_path: Path) -> None:
    store = tmp_path / "store"
    log = DirectoryLog.create(store)
    append(log, draft(1), draft(2))
    (segment,) = log.segments()
    start = segment.file_bytes
    append(log, draft(3))
    append(log, draft(4))
    log.close()
    path = segment.path
    assert isinstance(path, Path)
    path.with_name(FILE_NAME).unlink()
    whole = path.read_bytes()
    sector = start // _SECTOR * _SECTOR + _SECTOR
    path.write_bytes(whole[:sector] + bytes(_SECTOR) + whole[sector + _SECTOR :])
    with pytest.raises(errors.DataLossError, match="position 3"):
        DirectoryLog.open(store)
    assert not verify_directory(store).ok


def test_a_flipped_bit_in_a_write_of_several_is_damage(
    written: tuple[Path, Path, int, bytes],
) -> None:
    store, segment, start, whole = written
    for at in range(start, len(whole) - 1_000, 97):
        flipped = bytearray(whole)
        flipped[at] ^= 0x10
        segment.write_bytes(flipped)
        with pytest.raises(errors.DataLossError, match="is damaged"):
            DirectoryLog.open(store)
