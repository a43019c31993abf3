"""Erasures that somebody recorded although a hold or a lock forbade them are found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.audit import SigningKey, standalone_verifier
from eventstore.cli.exit_codes import EXIT_DAMAGED
from eventstore.log import Draft
from eventstore.log.erased import Erased, Spans
from eventstore.log.stores import open_log
from eventstore.proto import retention_pb2
from eventstore.retention.checking import with_guards
from eventstore.retention.choosing import versions_at
from tests.command_line.runner import run
from tests.retention.test_precedence import DAY, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with eventstore.open(tmp_path / "store", actor="ana") as store:
        yield Shop(store)


def _erase_anyway(shop: Shop, *positions: int, who: bool = False) -> int:
    """Record an erasure as a forger would, without asking what forbids it; its position."""
    log = shop.store._engine.log
    ranges = [
        retention_pb2.ErasedRange(first_position=p, last_position=p, content=not who, who=who)
        for p in positions
    ]
    erasure = retention_pb2.Erasure(
        id=1, stage=retention_pb2.Erasure.REQUESTED, basis="FORGED", ranges=ranges
    )
    payload = erasure.SerializeToString(deterministic=True)
    commit = log.append([Draft("erasure", 1, None, None, payload)], expected_position=log.position)
    return commit.first_position


def _findings(tmp_path: Path) -> tuple[list[str], list[str]]:
    """What is found, and what could not be checked."""
    log = open_log(tmp_path / "store", read_only=True)
    try:
        report = with_guards(log.verify(), log)
    finally:
        log.close()
    assert report.ok == (not report.findings)
    # Nobody completes what is erased here.
    not_checked = [what for what in report.not_checked if "not completed yet" not in what]
    return [finding.what for finding in report.findings], not_checked


def _said_alone(shop: Shop, tmp_path: Path) -> str:
    """What the stand-alone verifier says of the store, with `refused: ` before a refusal."""
    key = SigningKey.generate("ana")
    note = shop.store.checkpoint(key).text
    trust = standalone_verifier.parse_trust(str(key.verifier_key))
    records = standalone_verifier.stored_records(str(tmp_path / "store"))
    try:
        return standalone_verifier.verify_records(records, note, trust)
    except standalone_verifier.Refused as refused:
        return f"refused: {refused}"


def _position(shop: Shop, kind: str, entity_id: int) -> int:
    return shop.store.history(kind, entity_id)[0].position


@pytest.mark.parametrize("seals", [False, True])
def test_what_was_held_or_locked_is_found(shop: Shop, tmp_path: Path, seals: bool) -> None:
    shop.store.set_retention_rule(
        entities=[("artifact", shop.unused)], keep_at_least=DAY, basis="AI-ACT-18"
    )
    shop.store.place_hold(context_ids=[shop.project], basis="CASE-1")
    data, unused, report = (
        _position(shop, "artifact", id_) for id_ in (shop.data, shop.unused, shop.report)
    )
    erased_at = _erase_anyway(shop, data, unused, report)
    if seals:
        shop.store.seal()
    found, not_checked = _findings(tmp_path)
    assert [what.partition(": ")[0] for what in found] == [
        f"erasure 1, at position {erased_at}, has covered what must not be erased"
    ] * 2
    assert f"artifact {shop.data} at position {data} is held by hold 1" in found[0]
    assert f"artifact {shop.unused} at position {unused} is locked by retention rule 1" in found[1]
    assert not_checked == []
    assert _said_alone(shop, tmp_path) == (
        f"refused: the erasure at position {erased_at} covers position {data}, artifact "
        f"{shop.data}, which hold 1 held, placed at position {erased_at - 1}"
    )


@pytest.mark.parametrize("seals", [False, True])
def test_what_was_locked_alone_is_found(shop: Shop, tmp_path: Path, seals: bool) -> None:
    rule = shop.store.set_retention_rule(
        type_ids=[shop.type_id], keep_at_least=DAY, basis="AI-ACT-18"
    )
    # Neither another scope nor its end frees what it has locked.
    shop.store.set_retention_rule(
        entities=[("context", shop.other)], keep_at_least=DAY, basis="X", number=rule
    )
    shop.store.withdraw_retention_rule(rule, ticket="T-1")
    position = _position(shop, "artifact", shop.unused)
    erased_at = _erase_anyway(shop, position)
    if seals:
        shop.store.seal()
    assert len(_findings(tmp_path)[0]) == 1
    assert _said_alone(shop, tmp_path) == (
        f"refused: the erasure at position {erased_at} covers position {position}, artifact "
        f"{shop.unused}, which retention rule 1 locked, at position {erased_at - 3}"
    )


def test_what_was_released_before_or_held_after_is_sound(shop: Shop, tmp_path: Path) -> None:
    hold = shop.store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1")
    shop.store.release_hold(hold, ticket="T-1")
    _erase_anyway(shop, _position(shop, "artifact", shop.data))
    shop.store.place_hold(entities=[("artifact", shop.data)], basis="CASE-2")
    shop.store.set_retention_rule(keep_at_least=DAY, basis="AI-ACT-18")
    assert _findings(tmp_path) == ([], [])
    assert "erasure 1 is not completed" in _said_alone(shop, tmp_path)


def test_a_lock_that_had_ended_is_sound(shop: Shop, tmp_path: Path) -> None:
    shop.store.set_retention_rule(keep_at_least=timedelta(seconds=1), basis="AI-ACT-18")
    _erase_anyway(shop, _position(shop, "artifact", shop.data))
    found, _ = _findings(tmp_path)
    assert len(found) == 1


def test_who_put_links_and_types_is_checked(shop: Shop, tmp_path: Path) -> None:
    shop.store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1")
    held, free = _position(shop, "event", 1), _position(shop, "event", 4)
    type_position = _position(shop, "artifact_type", shop.type_id)
    _erase_anyway(shop, held, free, type_position, who=True)
    found, _ = _findings(tmp_path)
    assert sorted(what.split("erased: ")[1].split(" is ")[0] for what in found) == [
        f"artifact type {shop.type_id} at position {type_position}",
        f"event 1 at position {held}",
    ]
    assert f"covers position {held}, event 1, which hold 1 held" in _said_alone(shop, tmp_path)


def test_a_filter_cannot_be_asked_of_what_is_erased(shop: Shop, tmp_path: Path) -> None:
    shop.store.place_hold(filter_query="uri = 's3://evidence'", basis="CASE-1")
    _erase_anyway(shop, _position(shop, "artifact", shop.data))
    found, not_checked = _findings(tmp_path)
    assert found == []
    assert not_checked == ["whether filters of holds and rules had found what is erased"]
    assert "whether the filter of hold 1 had found what is erased" in _said_alone(shop, tmp_path)


@pytest.mark.parametrize("seals", [False, True])
def test_records_at_positions(shop: Shop, seals: bool) -> None:
    if seals:
        shop.store.seal()
    positions = [
        _position(shop, *entity)
        for entity in (("artifact", shop.data), ("event", 2), ("attribution", 1))
    ]
    erased = Erased(Spans.of([(positions[0],) * 2]), Spans.of([(p, p) for p in positions[1:]]))
    found = list(versions_at(shop.store._engine.log, erased))
    assert [(one.kind, one.id, one.position, one.content, one.who) for one in found] == [
        ("artifact", shop.data, positions[0], True, False),
        ("event", 2, positions[1], False, True),
        ("attribution", 1, positions[2], False, True),
    ]
    assert [set(one.ends) for one in found] == [
        set(),
        {("artifact", shop.model), ("execution", shop.train)},
        {("artifact", shop.model), ("context", shop.project)},
    ]


def test_verify_of_a_store_tells_it(shop: Shop, tmp_path: Path) -> None:
    shop.store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1")
    assert shop.store.verify().ok
    _erase_anyway(shop, _position(shop, "artifact", shop.data))
    with pytest.raises(errors.DataLossError, match="is held by hold 1"):
        shop.store.verify()
    shop.store.close()
    done = run("verify", tmp_path / "store", "--no-caches")
    assert done.code == EXIT_DAMAGED
    assert "is held by hold 1" in done.out
    page = tmp_path / "report.html"
    run("report", tmp_path / "store", "artifact", shop.data, "--output", page)
    assert "is held by hold 1" in page.read_text()


def test_what_was_held_is_not_destroyed_by_a_forged_erasure(shop: Shop, tmp_path: Path) -> None:
    shop.store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1")
    position = _position(shop, "artifact", shop.data)
    _erase_anyway(shop, position)
    shop.store.erase("artifact", shop.unused, reason="GDPR-17(1)(b)")
    shop.store.close()
    with eventstore.open(tmp_path / "store"):
        pass
    (found,) = _findings(tmp_path)[0]
    assert f"artifact {shop.data} at position {position} is held by hold 1" in found
    log = open_log(tmp_path / "store", read_only=True)
    try:
        payloads = [
            payload
            for batch in log.scan(position - 1, position, ["payload"])
            for payload in batch["payload"].to_pylist()
        ]
    finally:
        log.close()
    assert b"data" in payloads[0]
