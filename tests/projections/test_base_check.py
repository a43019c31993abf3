"""What a put has read, compared with the log."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from eventstore.log import DirectoryLog, MemoryLog, sealing
from eventstore.projections import base_check
from eventstore.projections.base_check import Base, BaseCheck
from tests.builders import append, draft


@pytest.mark.parametrize("sealed", [False, True])
def test_bases_are_compared_with_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    monkeypatch.setattr(sealing, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(base_check, "_STRETCH_BYTES_MAX", 1_000)
    monkeypatch.setattr(base_check, "_KNOWN_MAX", 3)
    size = {"segment_records_max": 10} if sealed else {}
    log = DirectoryLog.create(tmp_path / "store", **size)
    drafts = [draft(number) for number in range(1, 32)]
    for each in drafts:
        append(log, each)
    if sealed:
        log.seal()
    check = BaseCheck(log)
    bases = [Base(n, each.kind, each.entity_id, each.payload) for n, each in enumerate(drafts, 1)]
    for _ in range(2):
        for base in [*bases, *reversed(bases)]:
            assert check.is_in_log(base)
            for other in (
                base._replace(position=base.position % 31 + 1),
                base._replace(kind="context"),
                base._replace(entity_id=99),
                base._replace(payload=base.payload + b"x"),
                base._replace(position=32),
            ):
                assert not check.is_in_log(other)
    assert len(check._known) == 3
    kept = [batch.nbytes for batch in check._stretches.values()]
    assert check._stretch_bytes == sum(kept) <= 1_000
    assert len(kept) > 1 if sealed else not kept


def test_a_stretch_of_long_records_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_check, "_STRETCH_BYTES_MAX", 10)
    log = DirectoryLog.create(tmp_path / "store")
    first = draft(1)
    append(log, first, draft(2))
    log.seal()
    check = BaseCheck(log)
    assert check.is_in_log(Base(1, first.kind, 1, first.payload))
    assert not check._stretches


def test_bases_are_compared_by_one_thread_at_a_time() -> None:
    check = BaseCheck(MemoryLog())
    seen: list[bool] = []
    with mock.patch.object(
        BaseCheck, "_record_at", lambda self, _: seen.append(self._mutex.locked())
    ):
        assert not check.is_in_log(Base(1, "artifact", 1, b""))
    assert seen == [True]
