"""The registry of kinds: what must never change of it."""

from eventstore.log.kinds import KINDS
from eventstore.log.record import KIND_NAMES


def test_the_numbers_of_kinds_stay_as_leaves_have_them() -> None:
    assert {name: kind.number for name, kind in KINDS.items()} == {
        "artifact_type": 1,
        "execution_type": 2,
        "context_type": 3,
        "artifact": 4,
        "execution": 5,
        "context": 6,
        "event": 7,
        "attribution": 8,
        "association": 9,
        "parent_context": 10,
        "retention_rule": 11,
        "hold": 12,
        "erasure": 13,
    }
    assert tuple(KINDS) == KIND_NAMES


def test_only_types_share_a_sequence_of_ids() -> None:
    for name, kind in KINDS.items():
        assert kind.sequence == ("type" if name.endswith("_type") else name)
