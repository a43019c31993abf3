"""No commit states a false head, whatever `acknowledged` says and wherever a put is interrupted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.log import DirectoryLog
from eventstore.log.acknowledged import FILE_NAME, read_acknowledged, write_acknowledged
from tests.builders import append, draft


def _other_hashes(size: int, subtrees: list[bytes]) -> tuple[int, list[bytes]]:
    return size, [hashlib.sha256(subtree).digest() for subtree in subtrees]


def _last_hash_other(size: int, subtrees: list[bytes]) -> tuple[int, list[bytes]]:
    return size, [*subtrees[:-1], bytes(32)]


def _turned_round(size: int, subtrees: list[bytes]) -> tuple[int, list[bytes]]:
    return size, subtrees[::-1]


def _cut_elsewhere(size: int, subtrees: list[bytes]) -> tuple[int, list[bytes]]:
    """The two last ones joined are the same bytes, and so give the same head."""
    *others, left, right = subtrees
    return size, [*others, left[:-1], left[-1:] + right]


def _of_another_size(size: int, subtrees: list[bytes]) -> tuple[int, list[bytes]]:
    return size * 2, subtrees


def _too_few(size: int, subtrees: list[bytes]) -> tuple[int, list[bytes]]:
    return size, subtrees[:-1]


def _none(_size: int, _subtrees: list[bytes]) -> tuple[int, list[bytes]]:
    return 0, []


_Wrong = Callable[[int, list[bytes]], tuple[int, list[bytes]]]


def _say_wrong(directory: Path, wrong: _Wrong) -> None:
    """Change what is said of the tree, with a checksum that fits."""
    path = directory / "log" / FILE_NAME
    known = read_acknowledged(path)
    assert known is not None
    size, subtrees = wrong(known.tree_size, known.subtrees)
    frontier: Any = SimpleNamespace(size=size, subtrees=subtrees)
    descriptor = os.open(path, os.O_RDWR)
    write_acknowledged(descriptor, known.segment, known.end, frontier)
    os.close(descriptor)
    again = read_acknowledged(path)
    assert again is not None
    assert (again.tree_size, again.subtrees) == (size, subtrees)


def _put(log: DirectoryLog) -> None:
    append(log, draft(log.position + 1))


def _put_into_the_next_segment(log: DirectoryLog) -> None:
    log._segment_records_max = 1
    _put(log)


def _seal(log: DirectoryLog) -> None:
    log.seal()


@pytest.mark.share(3)
@pytest.mark.parametrize(
    "wrong",
    [
        _other_hashes,
        _last_hash_other,
        _turned_round,
        _cut_elsewhere,
        _of_another_size,
        _too_few,
        _none,
    ],
)
@pytest.mark.parametrize("step", [_put, _put_into_the_next_segment, _seal])
@pytest.mark.parametrize("is_reopened", [True, False])
def test_wrong_subtrees_that_are_acknowledged_are_not_believed(
    tmp_path: Path, wrong: _Wrong, step: Callable[[DirectoryLog], None], is_reopened: bool
) -> None:
    path = tmp_path / "store"
    log = DirectoryLog.create(path)
    other = DirectoryLog.open(path)
    for _ in range(7):
        _put(log)
    if is_reopened:
        log.close()
        _say_wrong(path, wrong)
        log = DirectoryLog.open(path)
    else:
        # Then it is the other one that has not followed.
        _say_wrong(path, wrong)
        log, other = other, log
        log.refresh()
    step(log)
    for _ in range(2):
        _put(log)
    assert [finding.what for finding in log.verify().findings] == []
    log.seal()
    _put(log)
    assert [finding.what for finding in log.verify().findings] == []
    for opened in (log, other):
        opened.close()


@pytest.mark.share(2)
@pytest.mark.parametrize("step", ["_write", "_note_checksum", "_note", "_acknowledge"])
@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_put_that_is_interrupted_is_whole_or_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    is_before: bool,
    number: int,
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    for _ in range(number):
        _put(log)
    owner: Any = log if step == "_acknowledge" else log._active
    done = getattr(owner, step)

    def interrupted(*arguments: object) -> None:
        monkeypatch.undo()
        if not is_before:
            done(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        _put(log)
    assert log.position in (number, number + 1)
    for _ in range(3):
        _put(log)
    commits = list(log.commits())
    assert [commit.last_position for commit in commits] == [*range(1, log.position + 1)]
    assert [commit.number for commit in commits] == [*range(1, log.position + 1)]
    assert log.verify().ok
    log.close()
