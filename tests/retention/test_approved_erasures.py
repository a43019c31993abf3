"""Erasures that take a second person."""

from __future__ import annotations

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types

SUBJECT = "somebody@example.com"


@pytest.fixture(autouse=True)
def survey(store: eventstore.MetadataStore) -> None:
    artifact_type, *_ = put_types(store)
    node = mlmd.Artifact(type_id=artifact_type, name="survey")
    node.custom_properties["owner"].string_value = SUBJECT
    store.put_artifacts([node, mlmd.Artifact(type_id=artifact_type, name="other")])
    store.set_retention_rule(entities=[("artifact", 1)], needs_approval=True, basis="FOUR-EYES")


def owner(store: eventstore.MetadataStore) -> str:
    (node,) = store.get_artifacts_by_id([1])
    return node.custom_properties["owner"].string_value


def test_a_proposal_erases_nothing_until_another_person_approves_it(
    store: eventstore.MetadataStore,
) -> None:
    before = store.log_position()
    with store.acting(actor="ana"):
        report = store.erase("artifact", 1, reason="GDPR-17", redact=["owner"])
    assert (report.number, report.stage) == (1, "proposed")
    assert owner(store) == SUBJECT
    assert store.log_position() == before + 1
    assert store.sql("SELECT stage FROM erasures").rows() == [("proposed",)]
    assert not store.history("artifact", 1)[0].erasures

    with (
        store.acting(actor="ana"),
        pytest.raises(errors.FailedPreconditionError, match="needs a second person: 'ana'"),
    ):
        store.approve_erasure(1)
    with store.acting(actor="ben"):
        report = store.approve_erasure(1)
    assert (report.number, report.stage, report.contents_erased) == (1, "completed", 1)
    assert report.versions[0].replaced_by == before + 3
    assert owner(store) == ""
    (mark,) = store.history("artifact", 1)[0].erasures
    assert (mark.actor, mark.position) == ("ben", before + 2)
    with pytest.raises(errors.FailedPreconditionError, match="erasure 1 is completed: only a"):
        store.approve_erasure(1)


def test_a_proposal_can_be_withdrawn(store: eventstore.MetadataStore) -> None:
    assert store.erase("artifact", 2, reason="GDPR-17").stage == "completed"
    assert store.erase("artifact", 1, reason="GDPR-17").stage == "proposed"
    store.withdraw_erasure(2)
    with pytest.raises(errors.FailedPreconditionError, match="erasure 2 is withdrawn"):
        store.approve_erasure(2)
    assert owner(store) == SUBJECT
    assert store.sql("SELECT stage FROM erasures ORDER BY number").rows() == [
        ("completed",),
        ("withdrawn",),
    ]
    with pytest.raises(errors.NotFoundError, match="there is no erasure 3"):
        store.withdraw_erasure(3)


def test_what_is_held_by_then_is_not_erased(store: eventstore.MetadataStore) -> None:
    with store.acting(actor="ana"):
        store.erase("artifact", 1, reason="GDPR-17", who=True)
    hold = store.place_hold(entities=[("artifact", 1)], basis="CASE-1")
    with (
        store.acting(actor="ben"),
        pytest.raises(errors.FailedPreconditionError, match="nothing was erased: artifact 1 at"),
    ):
        store.approve_erasure(1)
    assert owner(store) == SUBJECT
    store.release_hold(hold, ticket="CASE-1")
    with store.acting(actor="ben"):
        assert store.approve_erasure(1).whos_erased == 1
    assert owner(store) == ""
