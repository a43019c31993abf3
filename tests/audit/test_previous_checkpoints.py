"""What is signed begins with what was signed before, or nothing is signed."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from eventstore import errors
from eventstore.audit import Checkpoint, SigningKey, signed_checkpoint
from eventstore.log import Commit, DirectoryLog, Log, MemoryLog
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import Frontier
from tests.builders import append, draft

KEY = SigningKey.generate("ana@example.com")
AT = datetime(2031, 2, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


@pytest.fixture
def log() -> Log:
    """Commits that end at positions 2, 3 and 6."""
    made = MemoryLog()
    append(made, draft(1), draft(2))
    append(made, draft(3))
    append(made, draft(4), draft(5), draft(6))
    return made


def root(log: Log, size: int) -> bytes:
    frontier = Frontier()
    records = [record for commit in log.commits() for record in commit.records]
    frontier.extend(leaf_hashes(log.store_id, records[:size]))
    return frontier.head()


def stated(log: Log, **changes: Any) -> Checkpoint:
    """What anybody with the key can sign, which holds but for `changes`."""
    size = changes.get("size", 3)
    commit = next(c for c in log.commits() if c.last_position >= size)
    values: dict[str, Any] = {
        "store_id": log.store_id,
        "size": size,
        "root": base64.b64encode(root(log, size)).decode(),
        "commit": commit.number,
        "recorded_at": datetime.fromtimestamp(0, timezone.utc)
        + timedelta(microseconds=commit.recorded_at),
    } | changes
    moments = [
        moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
        for moment in (values["recorded_at"], AT)
    ]
    body = (
        f"eventstore/{values['store_id']}\n{values['size']}\n{values['root']}\n"
        f"commit {values['commit']}\nrecorded-at {moments[0]}\nsigned-at {moments[1]}\n"
    )
    return Checkpoint.parse(KEY.signed(body), KEY.verifier_key)


@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("position", [2, 3, 6])
def test_what_holds_is_signed(log: Log, size: int, position: int) -> None:
    previous = stated(log, size=size)
    if size > position:
        words = f"states {size} records, of which {position} are to be signed: sign a later moment"
        with pytest.raises(errors.InvalidArgumentError, match=words):
            signed_checkpoint(log, position, KEY, previous=previous)
        return
    checkpoint = signed_checkpoint(log, position, KEY, previous=previous)
    assert (checkpoint.size, checkpoint.root) == (position, root(log, position))


@pytest.mark.parametrize("position", [3, 6])
@pytest.mark.parametrize(
    "changes",
    [
        {"root": base64.b64encode(bytes(32)).decode()},
        {"commit": 1},
        {"commit": 3},
        {"recorded_at": AT},
        # Within a commit: everything else that it states of the record there is true.
        {"size": 1},
    ],
    ids=["root", "commit before", "commit after", "time", "within a commit"],
)
def test_what_does_not_hold_is_not_continued(
    log: Log, changes: dict[str, Any], position: int
) -> None:
    size = changes.get("size", 3)
    words = re.escape(f"nothing is signed: the first {size} record")
    with pytest.raises(errors.DataLossError, match=words + ".*are not what ana@example.com signed"):
        signed_checkpoint(log, position, KEY, previous=stated(log, **changes))


def test_a_moment_more_or_less_is_another_one(log: Log) -> None:
    honest = stated(log)
    for step in (-1, 1):
        other = stated(log, recorded_at=honest.recorded_at + timedelta(microseconds=step))
        with pytest.raises(errors.DataLossError, match="the first 3 records are not what"):
            signed_checkpoint(log, 6, KEY, previous=other)


def test_what_another_store_or_a_longer_one_had(log: Log) -> None:
    other = MemoryLog()
    append(other, draft(1), draft(2), draft(3))
    with pytest.raises(errors.NotFoundError, match="is of store"):
        signed_checkpoint(log, 6, KEY, previous=stated(other))
    shorter = MemoryLog()
    shorter.store_id = log.store_id
    append(shorter, draft(1), draft(2))
    words = "with 3 records, the store has 2: records that were signed are missing"
    with pytest.raises(errors.DataLossError, match=words):
        signed_checkpoint(shorter, 2, KEY, previous=stated(log))


def test_a_head_that_the_records_do_not_give(log: Log) -> None:
    """Whatever is stored with a commit, its records are hashed."""
    assert isinstance(log, MemoryLog)
    newest: Commit = log._commits[-1]
    for changes in ({"tree_head": bytes(32)}, {"recorded_at": newest.recorded_at + 1}):
        log._commits[-1] = msgspec.structs.replace(newest, **changes)
        with pytest.raises(errors.DataLossError, match="their tree head says, which is stored"):
            signed_checkpoint(log, 6, KEY)
    log._commits[-1] = newest
    broken = msgspec.structs.replace(newest.records[1], commitment=b"short", salt=None)
    log._commits[-1] = msgspec.structs.replace(
        newest, records=(newest.records[0], broken, newest.records[2])
    )
    with pytest.raises(errors.DataLossError, match="nothing is signed: "):
        signed_checkpoint(log, 6, KEY)


def test_progress_counts_records_of_all_that_is_signed(tmp_path: Any) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1), draft(2))
    log.seal()
    append(log, draft(3))
    previous = signed_checkpoint(log, 2, KEY)
    seen: list[tuple[int, int]] = []
    signed_checkpoint(log, 3, KEY, progress=lambda *counts: seen.append(counts))
    assert seen == [(2, 3), (3, 3)]
    seen.clear()
    signed_checkpoint(log, 3, KEY, previous=previous, progress=lambda *counts: seen.append(counts))
    assert seen == [(2, 3), (3, 3)]
    log.close()
