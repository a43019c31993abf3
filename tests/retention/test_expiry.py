"""What expires by the rules, and what keeps some of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import eventstore
from eventstore.log import DirectoryLog
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import retention_pb2
from eventstore.times import Microseconds
from tests.retention.test_precedence import DAY, Shop

_MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with eventstore.open(tmp_path / "store", actor="ana") as store:
        yield Shop(store)


@pytest.fixture
def days_later(monkeypatch: pytest.MonkeyPatch, shop: Shop) -> dict[str, timedelta]:
    """What is added to the time of the newest record, as the time that expiry goes by."""
    later = {"by": timedelta(0)}
    log = shop.store._engine.log

    def now(_: object) -> Microseconds:
        return Microseconds(log.recorded_at(log.position) + later["by"] // _MICROSECOND)

    monkeypatch.setattr(DirectoryLog, "now", now)
    return later


def _rename(store: MetadataStore, artifact_id: int, uri: str) -> int:
    """Put another version; the position of the one before."""
    before = store.history("artifact", artifact_id)[-1].position
    (artifact,) = store.get_artifacts_by_id([artifact_id])
    artifact.uri = uri
    store.put_artifacts([artifact])
    return before


def _due(store: MetadataStore) -> list[tuple[str, int, bool]]:
    return [(due.kind, due.position, due.is_current) for due in store.expired().due]


def test_superseded_versions_expire_and_current_ones_stay(
    shop: Shop, days_later: dict[str, timedelta]
) -> None:
    store = shop.store
    store.set_retention_rule(kinds=["artifact"], keep_at_most=2 * DAY, basis="POLICY-1")
    first = _rename(store, shop.data, "a")
    assert _due(store) == []
    days_later["by"] = 2 * DAY - _MICROSECOND
    assert _due(store) == []
    days_later["by"] = 2 * DAY
    assert _due(store) == [("artifact", first, False)]
    assert [due.rule for due in store.expired().due] == [1]
    days_later["by"] = 1_000 * DAY
    assert _due(store) == [("artifact", first, False)]


def test_a_withdrawn_rule_expires_nothing(shop: Shop, days_later: dict[str, timedelta]) -> None:
    rule = shop.store.set_retention_rule(keep_at_most=DAY, basis="POLICY-1")
    _rename(shop.store, shop.data, "a")
    days_later["by"] = 9 * DAY
    assert _due(shop.store)
    shop.store.withdraw_retention_rule(rule, ticket="T-1")
    assert _due(shop.store) == []


def test_current_versions_expire_by_a_rule_that_says_so_unless_they_are_in_use(
    shop: Shop, days_later: dict[str, timedelta]
) -> None:
    store = shop.store
    store.set_retention_rule(
        kinds=["artifact"], keep_at_most=DAY, includes_current=True, basis="POLICY-1"
    )
    days_later["by"] = 9 * DAY
    found = store.expired()
    # What executions that stay have read is in use; a report that nobody read is not.
    assert {due.id for due in found.due} == {shop.report, shop.unused}
    assert [(pin.kind, pin.id, pin.by_kind, pin.by_id) for pin in found.pinned] == [
        ("artifact", shop.data, "execution", shop.train),
        ("artifact", shop.model, "execution", shop.serve),
    ]
    store.set_retention_rule(
        kinds=["execution"], keep_at_most=DAY, includes_current=True, basis="POLICY-1"
    )
    found = store.expired()
    assert found.pinned == []
    assert {(due.kind, due.id) for due in found.due} == {
        *(("artifact", id_) for id_ in (shop.data, shop.model, shop.report, shop.unused)),
        *(("execution", id_) for id_ in (shop.train, shop.serve)),
    }


def test_what_is_held_or_locked_does_not_go(shop: Shop, days_later: dict[str, timedelta]) -> None:
    store = shop.store
    store.set_retention_rule(kinds=["artifact"], keep_at_most=DAY, basis="POLICY-1")
    data, unused = _rename(store, shop.data, "a"), _rename(store, shop.unused, "a")
    store.place_hold(entities=[("artifact", shop.model)], basis="CASE-1")
    days_later["by"] = 9 * DAY
    found = store.expired()
    assert [(due.id, due.position) for due in found.due] == [(shop.unused, unused)]
    assert [(one.position, one.by) for one in found.refused] == [(data, "hold")]
    store.set_retention_rule(
        entities=[("artifact", shop.unused)], keep_at_least=90 * DAY, basis="AI-ACT-18"
    )
    assert {one.by for one in store.expired().refused} == {"hold", "lock"}
    assert _due(store) == []


def test_what_has_expired_is_erased_by_a_rule_that_is_named(
    shop: Shop, days_later: dict[str, timedelta], tmp_path: Path
) -> None:
    store = shop.store
    number = store.set_retention_rule(kinds=["artifact"], keep_at_most=DAY, basis="POLICY-1")
    first, held = _rename(store, shop.unused, "a"), _rename(store, shop.data, "a")
    store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1")
    days_later["by"] = 9 * DAY
    (report,) = store.apply_retention()
    assert (report.stage, report.basis, report.contents_erased) == ("completed", "POLICY-1", 1)
    assert [version.position for version in report.versions] == [first]
    rule_position = store.retention_rules()[0].position
    payload = [*store._engine.log.commits()][-1].records[0].payload
    assert payload is not None
    assert retention_pb2.Erasure.FromString(payload).rule_position == rule_position
    assert store.apply_retention() == []
    assert [found.position for found in store.expired().refused] == [held]
    versions = store.history("artifact", shop.unused)
    assert [version.message is None for version in versions] == [True, False]
    (current,) = store.get_artifacts_by_id([shop.unused])
    assert (current.name, current.uri) == ("unused", "a")
    assert number == 1
    assert store.verify().ok


def test_several_rules_are_applied_under_one_request_id(
    shop: Shop, days_later: dict[str, timedelta]
) -> None:
    store = shop.store
    for node_id in (shop.unused, shop.data):
        rule = {"entities": [("artifact", node_id)], "keep_at_most": DAY, "basis": "POLICY-1"}
        store.set_retention_rule(**rule)
        _rename(store, node_id, "a")
    days_later["by"] = 9 * DAY
    with store.acting(request_id="monthly"):
        assert len(store.apply_retention()) == 2
        assert store.apply_retention() == []


def test_an_expiry_that_needs_approval_is_proposed(
    shop: Shop, days_later: dict[str, timedelta]
) -> None:
    store = shop.store
    store.set_retention_rule(kinds=["artifact"], keep_at_most=DAY, basis="POLICY-1")
    store.set_retention_rule(kinds=["artifact"], needs_approval=True, basis="FOUR-EYES")
    _rename(store, shop.unused, "a")
    days_later["by"] = 9 * DAY
    (report,) = store.apply_retention()
    assert report.stage == "proposed"
    assert [v.message is None for v in store.history("artifact", shop.unused)] == [False, False]
    assert report.number is not None
    with store.acting(actor="bo"):
        assert store.approve_erasure(report.number).stage == "completed"
    assert [v.message is None for v in store.history("artifact", shop.unused)] == [True, False]
