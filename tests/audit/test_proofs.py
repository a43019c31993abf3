"""What a store proves and signs, what it refuses to, and what signatures find in one in memory."""

from __future__ import annotations

import base64
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    prove_consistency,
    prove_inclusion,
    signed_checkpoint,
)
from eventstore.audit.subtree_heads import SubtreeHeads, _kept, heads_of
from eventstore.log import DirectoryLog, Draft, Log, MemoryLog
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import tree_head
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.plain_json import moment_text
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.audit.filled_store import KEY, fill
from tests.builders import append, draft, memory_store, put_types


def test_what_a_store_refuses_to_prove(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store, eventstore.open(tmp_path / "other") as other:
        fill(store)
        older = store.as_of(store.log_position() - 3).checkpoint(KEY)
        newer = store.checkpoint(KEY)
        for position in (0, -1, newer.size + 1):
            with pytest.raises(errors.OutOfRangeError, match="is not among"):
                store.prove(position, newer)
        with pytest.raises(errors.InvalidArgumentError, match="swap them"):
            store.prove_consistency(newer, older)
        with pytest.raises(errors.NotFoundError, match="of store"):
            other.prove(1, newer)
        for pair in ((older, newer), (newer, newer)):
            with pytest.raises(errors.NotFoundError, match="of store"):
                other.prove_consistency(*pair)
        with pytest.raises(errors.NotFoundError, match="of store"):
            other.verify(checkpoints=[newer])


def test_of_two_checkpoints_the_one_that_does_not_fit_is_named() -> None:
    log, fork = MemoryLog(), MemoryLog()
    fork.store_id = log.store_id
    for number in range(1, 301):
        append(log, draft(number))
        append(fork, draft(number, name="other" if number > 200 else None))
    signed = {
        (one, size): signed_checkpoint(one_log, size, KEY)
        for one, one_log in (("log", log), ("fork", fork))
        for size in (150, 250, 300)
    }
    heads = SubtreeHeads(fork, None, read_only=True)
    prove_consistency(fork, heads, signed["fork", 150], signed["fork", 300])
    for older, newer, words in (
        (("log", 300), ("fork", 300), "begin with the 300 that the older checkpoint states"),
        (("log", 250), ("fork", 300), "begin with the 250 that the older checkpoint states"),
        (("fork", 250), ("log", 300), "the first 300 records are not those"),
        (("log", 250), ("log", 300), "the first 300 records are not those"),
    ):
        with pytest.raises(errors.DataLossError, match=words) as refused:
            prove_consistency(fork, heads, signed[older], signed[newer])
        wrong = signed[older if "older" in words else newer]
        assert moment_text(wrong.signed_at) in str(refused.value)


def test_the_heads_of_a_store_are_kept_but_not_by_a_child(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store, memory_store() as other:
        log, projections = store._engine.log, store._engine.projections
        heads = heads_of(log, projections)
        assert heads_of(log, projections) is heads
        assert heads_of(other._engine.log, other._engine.projections) is not heads
        _kept.start_over()
        assert heads_of(log, projections) is not heads


def test_what_is_missing_since_it_was_signed_is_not_proved() -> None:
    log = MemoryLog()
    payloads = [mlmd.ArtifactType(id=number, name=f"t{number}") for number in (1, 2)]
    drafts = [Draft("artifact_type", p.id, None, None, p.SerializeToString()) for p in payloads]
    log.append(drafts[:1], expected_position=0)
    # A single record is enough to sign.
    first = signed_checkpoint(log, 1, KEY)
    assert (first.size, first.commit) == (1, 1)
    log.append(drafts[1:], expected_position=1)
    newer = signed_checkpoint(log, 2, KEY, previous=first)
    shorter = MemoryLog()
    shorter.store_id = log.store_id
    with pytest.raises(errors.OutOfRangeError, match="nothing to sign"):
        signed_checkpoint(shorter, 0, KEY)
    shorter.append(drafts[:1], expected_position=0)
    heads = SubtreeHeads(shorter, None, read_only=True)
    with pytest.raises(errors.DataLossError, match="are missing"):
        prove_inclusion(shorter, heads, 1, newer)
    for older in (first, newer):
        with pytest.raises(errors.DataLossError, match="are missing"):
            prove_consistency(shorter, heads, older, newer)


@pytest.mark.parametrize("records", [50, 255, 256, 257, 700])
def test_every_record_can_be_proved(tmp_path: Path, records: int) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id, _, _ = put_types(store)
        while store.log_position() < records:
            store.put_artifacts([mlmd.Artifact(type_id=type_id)] * 50)
            checkpoint = store.checkpoint(KEY)
            for position in random.Random(records).sample(range(1, checkpoint.size + 1), 5):
                text = store.prove(position, checkpoint).to_text()
                assert InclusionProof.check(text, KEY.verifier_key).record.position == position
        checkpoints = [store.as_of(n).checkpoint(KEY) for n in (11, store.log_position())]
        store.seal()
        check_consistency(store, *checkpoints)
        # The cache of subtree heads is only a cache.
        cache = tmp_path / "store" / "projections" / "subtree-heads"
        if cache.exists():
            content = bytearray(cache.read_bytes())
            content[-1] ^= 1
            cache.write_bytes(content)
    with eventstore.open(tmp_path / "store", read_only=True) as store:
        store.prove(1, checkpoints[-1])
    with eventstore.open(tmp_path / "store") as store:
        store.prove(1, checkpoints[-1])
        check_consistency(store, *checkpoints)


def check_consistency(store: MetadataStore, older: Checkpoint, newer: Checkpoint) -> None:
    text = store.prove_consistency(older, newer).to_text()
    assert ConsistencyProof.check(text, older, KEY.verifier_key).newer == newer


def test_a_store_in_memory_can_be_proved() -> None:
    store = memory_store()
    fill(store)
    checkpoint = store.checkpoint(KEY)
    InclusionProof.check(store.prove(3, checkpoint).to_text(), KEY.verifier_key)
    assert store.verify(checkpoints=[checkpoint]).ok


def test_findings_of_a_store_in_memory() -> None:
    store = memory_store()
    fill(store)
    checkpoint = store.checkpoint(KEY)
    size = checkpoint.size
    head = checkpoint.of_store(checkpoint.store_id)
    log = store.log
    assert log.verify(signed_heads=[head]).ok
    for changed in (
        {"head": bytes(32).hex()},
        {"commit": head.commit - 1},
        {"recorded_at": head.recorded_at + 1},
        {"size": size - 1},
    ):
        forged = msgspec.structs.replace(head, **changed)
        for heads in ([forged], [forged, head], [head, forged]):
            report = log.verify(signed_heads=heads)
            assert not report.ok
            (finding,) = report.findings
            assert finding.what.startswith("history up to commit")
            assert "ana@example.com signed on" in finding.what
            assert (finding.commit, finding.position) == (head.commit, forged.size)
    missing = msgspec.structs.replace(head, size=size + 1)
    (finding,) = log.verify(signed_heads=[missing]).findings
    assert "records that were signed are missing" in finding.what
    assert f"with {size + 1} records, the store has {size}" in finding.what
    assert finding.position == size
    half = msgspec.structs.replace(head, size=size - 1, head=head_over(log, size - 1).hex())
    (finding,) = log.verify(signed_heads=[half]).findings
    assert finding.what.startswith("history up to commit")


def test_a_changed_commit_of_a_store_in_memory_is_found() -> None:
    store = memory_store()
    fill(store)
    log = store.log
    assert isinstance(log, MemoryLog)
    commit = log._commits[3]
    (record, *others) = commit.records
    forged = msgspec.structs.replace(record, payload=b"\x08\x01")
    log._commits[3] = msgspec.structs.replace(commit, records=(forged, *others))
    report = log.verify()
    assert [finding.commit for finding in report.findings] == [*range(4, log.commit_number + 1)]
    assert report.findings[0].position == record.position
    assert "commit 4 does not match its tree head" in report.findings[0].what
    with pytest.raises(errors.DataLossError, match="commit 4"):
        store.verify()
    with pytest.raises(errors.DataLossError, match="nothing is signed"):
        store.checkpoint(KEY)


def head_over(log: Log, size: int) -> bytes:
    records = [record for commit in log.commits() for record in commit.records]
    return tree_head([*leaf_hashes(log.store_id, records)][:size])


def test_a_checkpoint_states_when(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    fill(store)
    commit = [*store.log.commits()][-2]
    at = datetime(2031, 2, 3, 4, 5, 6, 789012, tzinfo=timezone.utc)
    with monkeypatch.context() as patch:
        patch.setattr("time.time_ns", lambda: int(at.timestamp()) * 10**9 + 789012345)
        checkpoint = store.as_of(commit.last_position).checkpoint(KEY)
    recorded_at = datetime.fromtimestamp(commit.recorded_at // 10**6, timezone.utc)
    assert checkpoint.signed_at == at
    assert checkpoint.recorded_at == recorded_at.replace(microsecond=commit.recorded_at % 10**6)
    assert (checkpoint.size, checkpoint.commit) == (commit.last_position, commit.number)
    assert (checkpoint.root, checkpoint.signer) == (commit.tree_head, "ana@example.com")
    assert checkpoint.store_id == store.log.store_id
    lines = checkpoint.text.splitlines()
    assert lines[0] == f"eventstore/{store.log.store_id}"
    assert lines[1:4] == [
        str(commit.last_position),
        base64.b64encode(commit.tree_head).decode(),
        f"commit {commit.number}",
    ]
    micros = f"{commit.recorded_at % 10**6:06}"
    assert lines[4] == f"recorded-at {recorded_at:%Y-%m-%dT%H:%M:%S}.{micros}Z"
    assert lines[5] == "signed-at 2031-02-03T04:05:06.789012Z"
    reread = Checkpoint.parse(checkpoint.text, KEY.verifier_key)
    assert reread == checkpoint


def test_threads_that_prove_at_once_get_proofs_that_hold(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, *(draft(number) for number in range(1, 1_025)))
    heads = SubtreeHeads(log, tmp_path / "heads", read_only=False)
    expected = SubtreeHeads(log, None, read_only=True)
    expected.extend(1_024)
    starting = threading.Barrier(4)

    def prove(_: int) -> bytes:
        starting.wait()
        heads.extend(1_024)
        return heads.head(0, 1_024)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as executor:
            assert {*executor.map(prove, range(4))} == {expected.head(0, 1_024)}
    finally:
        sys.setswitchinterval(interval)
    assert heads.are_of_log()
    heads.forget()
    assert heads.head(0, 1_024) == expected.head(0, 1_024)
    log.close()
