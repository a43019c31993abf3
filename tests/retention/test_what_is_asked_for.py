"""An erasure is of what was asked for: no more, and no less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from tests.retention.test_precedence import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with eventstore.open(tmp_path / "store", actor="ana") as store:
        yield Shop(store)


def _put_again(shop: Shop, uri: str) -> None:
    (artifact,) = shop.store.get_artifacts_by_id([shop.unused])
    artifact.uri = uri
    shop.store.put_artifacts([artifact])


def test_an_approval_is_of_what_was_proposed_alone(shop: Shop) -> None:
    store = shop.store
    store.set_retention_rule(needs_approval=True, basis="FOUR-EYES")
    number = store.erase("artifact", shop.unused, reason="GDPR-17(1)(b)").number
    assert number is not None
    _put_again(shop, "later")
    with (
        store.acting(actor="bo"),
        pytest.raises(errors.FailedPreconditionError, match="was put again, at position"),
    ):
        store.approve_erasure(number)
    store.withdraw_erasure(number)
    again = store.erase("artifact", shop.unused, reason="GDPR-17(1)(b)").number
    assert again is not None
    with store.acting(actor="bo"):
        assert store.approve_erasure(again).contents_erased == 2
    (tombstone,) = store.get_artifacts_by_id([shop.unused])
    assert (tombstone.name, tombstone.uri) == ("", "")


def test_an_empty_list_is_not_all(shop: Shop) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"redact is \[\]"):
        shop.store.erase("artifact", shop.unused, reason="R-1", redact=[])
    assert shop.store.get_artifacts_by_id([shop.unused])[0].name == "unused"
