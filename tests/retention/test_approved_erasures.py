"""Erasures that take a second person."""

from __future__ import annotations

import pytest

import eventstore
from eventstore import errors
from eventstore.answers import SecondPerson
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
    demanded = store.erase("artifact", 1, reason="GDPR-17", dry_run=True).second_person
    assert demanded == SecondPerson(1, before, "FOUR-EYES", "")
    assert store.erase("artifact", 2, reason="GDPR-17", dry_run=True).second_person is None
    with store.acting(actor="ana"):
        report = store.erase("artifact", 1, reason="GDPR-17", redact=["owner"])
    assert (report.number, report.stage) == (1, "proposed")
    assert owner(store) == SUBJECT
    assert store.log_position() == before + 1
    who = "SELECT stage, actor, proposed_by, approved_by, proposed_at = recorded_at FROM erasures"
    assert store.sql(who).rows() == [("proposed", "ana", "ana", None, True)]
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
    assert (mark.proposed_by, mark.approved_by) == ("ana", "ben")
    assert mark.by == "proposed by ana, approved by ben"
    assert store.sql(who).rows() == [("completed", "ben", "ana", "ben", False)]
    with pytest.raises(errors.FailedPreconditionError, match="erasure 1 is completed: only a"):
        store.approve_erasure(1)


def test_a_proposal_can_be_withdrawn(store: eventstore.MetadataStore) -> None:
    assert store.erase("artifact", 2, reason="GDPR-17").stage == "completed"
    with store.acting(actor="ana"):
        assert store.erase("artifact", 1, reason="GDPR-17").stage == "proposed"
    with store.acting(actor="ben"):
        store.withdraw_erasure(2)
    with pytest.raises(errors.FailedPreconditionError, match="erasure 2 is withdrawn"):
        store.approve_erasure(2)
    assert owner(store) == SUBJECT
    who = "SELECT stage, actor, proposed_by, approved_by FROM erasures ORDER BY number"
    actor = store.sql("SELECT DISTINCT actor FROM commits WHERE number = 1").rows()[0][0]
    assert store.sql(who).rows() == [
        ("completed", actor, None, None),
        ("withdrawn", "ben", "ana", None),
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
