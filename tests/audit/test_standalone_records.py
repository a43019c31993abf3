"""Which records may follow each other, and what a checkpoint states of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventstore.audit.standalone_verifier import Refused, check_record
from tests.audit.records_by_hand import (
    AT,
    Records,
    artifact,
    artifact_type,
    context,
    erasure,
    event,
    execution_type,
    hidden,
    history,
    holds,
    signed,
)

SOUND: list[Records] = [
    [artifact_type(1), artifact(1, type="T"), artifact(1, type="T", uri="u", previous=2)],
    [artifact_type(1), artifact_type(1, previous=1)],
    [artifact_type(1), execution_type(2), artifact(1, type="T")],
    [artifact_type(2, "A", external_id="a"), artifact_type(3, "B", external_id="b")],
    [artifact(1, name="a"), artifact(2, type_id=2, name="a"), context(1, name="a")],
    [artifact(1, name="a"), artifact(2), artifact(3)],
    [artifact(1, external_id="a"), context(1, external_id="a")],
    [
        artifact(1, external_id="a"),
        artifact(1, external_id="b", previous=1),
        artifact(2, external_id="a"),
    ],
    [context(1, name="a"), context(1, name="b", previous=1), context(2, name="a")],
    [context(1, name="a"), context(2, name="b"), context(1, name="c", previous=1)],
    [event(1, 1, 1, 1), event(2, 1, 1, 2), event(3, 1, 2, 1), event(4, 2, 1, 1)],
    [event(1, 1, 2, 3), event(2, 2, 1, 3)],
    [
        artifact_type(1),
        hidden(artifact(1)),
        artifact(1, name="a", previous=2, type="T"),
        erasure(2),
    ],
    [artifact(1, name="a"), hidden(artifact(1, previous=1)), artifact(2, name="a"), erasure(2)],
    [artifact(1), context(1)],
    [artifact(1, type_id=5, type="T")],
]
FORGED: list[Records] = [
    [artifact_type(1), artifact(1, type="U")],
    [artifact_type(1), artifact(1, type="T"), artifact(1, type="U", previous=2)],
    [artifact_type(1), artifact(1, type_id=2, type="T")],
    [artifact(1, type="T"), artifact_type(1)],
    [artifact_type(1), execution_type(1)],
    [artifact_type(1), artifact_type(1, "U", previous=1)],
    [artifact_type(1, version="v"), artifact_type(1, previous=1)],
    [artifact_type(2, "A", external_id="a"), execution_type(3, "B", external_id="a")],
    [artifact(1, name="a"), artifact(2, name="a")],
    [artifact(1, name="a"), artifact(1, previous=1)],
    [artifact(1, create_time_since_epoch=1), artifact(1, previous=1)],
    [artifact(1), artifact(1, type_id=2, previous=1)],
    [artifact(1), hidden(artifact(1, type_id=2, previous=1)), erasure(2)],
    [hidden(artifact_type(1)), artifact(1, type="T"), erasure(1)],
    [hidden(event(1, 1, 1, 1)), event(2, 1, 1, 1), erasure(1)],
    [artifact(1, external_id="a"), artifact(2, external_id="a")],
    [
        artifact(1, external_id="a"),
        artifact(1, external_id="b", previous=1),
        artifact(2, external_id="b"),
    ],
    [artifact(1, external_id="a"), artifact(2, type_id=2, external_id="a")],
    [context(1, name="a"), context(2, name="a")],
    [event(1, 1, 2, 3), event(2, 1, 2, 3)],
    [event(1, 1, 2, 3, at=1), event(2, 1, 2, 3, at=2)],
    [event(1, 1, 1, 1), event(1, 1, 2, 1)],
    [artifact(1), artifact(1)],
    [artifact(1), artifact(2), artifact(1, previous=2)],
    [artifact(1), artifact(2, previous=1)],
    [artifact(1), context(1, previous=1)],
    [artifact(1), artifact(2, previous=2)],
    [artifact(0)],
    [artifact(-1)],
    [artifact(1), artifact(1, previous=-1)],
    [artifact(1), event(1, 1, 1, 1) | {"previous": 1}],
    [artifact(1) | {"type_id": None}],
    [artifact(1) | {"type_id": 2}],
    [artifact(1) | {"entity_id": 2}],
    [artifact_type(1) | {"entity_id": 2}],
    [artifact_type(1) | {"type_id": 2}],
    [event(1, 1, 1, 1) | {"type_id": 2}],
    [event(0, 1, 1, 1)],
]


@pytest.mark.parametrize("number", range(len(SOUND)))
def test_records_that_agree_are_accepted(number: int) -> None:
    assert holds(history(*map(dict, SOUND[number])))


@pytest.mark.parametrize("number", range(len(FORGED)))
def test_records_that_contradict_each_other_are_refused(number: int) -> None:
    assert not holds(history(*map(dict, FORGED[number])))


@pytest.mark.parametrize("one", [artifact(3), artifact_type(3)], ids=["node", "type"])
def test_a_record_replaces_one_at_an_earlier_position(one: dict[str, Any]) -> None:
    for previous in (-1, 0, 5, 6):
        with pytest.raises(Refused, match="which is not before it"):
            check_record(one | {"position": 5, "previous": previous})
    for previous in (1, 4):
        assert check_record(one | {"position": 5, "previous": previous})
    with pytest.raises(Refused, match="is a link"):
        check_record(event(1, 1, 1, 1) | {"position": 5, "previous": 1})


def changed_at(place: int, **changes: Any) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        records[place] |= changes

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed_at(0, position=0),
        changed_at(0, position=2),
        changed_at(3, position=5),
        changed_at(3, position=3),
        changed_at(0, commit=2),
        changed_at(0, commit=0),
        changed_at(3, commit=4),
        changed_at(3, commit=1),
        changed_at(3, recorded_at=AT - 1),
        changed_at(1, recorded_at=AT - 1),
        changed_at(1, recorded_at=AT + 1),
        changed_at(1, actor="eve"),
        changed_at(1, reason=""),
        changed_at(1, request_id=None),
        changed_at(3, salt=bytes([1]) * 16),
    ],
)
def test_records_that_do_not_follow_each_other_are_refused(
    change: Callable[[Records], None],
) -> None:
    def records() -> Records:
        found = history(*(artifact(number) for number in range(1, 5)))
        for one in found[2:]:
            one["commit"] = 2
        found[3] |= {"commit": 3, "recorded_at": AT + 5, "actor": "bob"}
        return found

    assert holds(records())
    changed = records()
    change(changed)
    assert not holds(changed)


def test_what_a_checkpoint_states_has_to_be_true_of_the_records() -> None:
    records = history(*(artifact(number) for number in range(1, 7)))
    for one in records[3:]:
        one |= {"commit": 2, "recorded_at": AT + 1}
    assert holds(records)
    # As far as the checkpoint reaches, which is to the end of a commit.
    assert holds(records, signed(records[:3]))
    for size in (1, 2, 4, 5):
        assert not holds(records, signed(records[:size]))
    assert not holds(records[:3], signed(records))
    assert not holds([], signed(records))
    for stated in (
        {"size": 5},
        {"size": 7},
        {"root": bytes(32)},
        {"commit": 1},
        {"commit": 3},
        {"recorded_at": AT},
    ):
        assert not holds(records, signed(records, **stated))
