"""What is answered after an erasure, who else sees it, and what it leaves to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog, Draft
from eventstore.log.erased import Erased
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention
from eventstore.retention import erasing
from tests.builders import put_types
from tests.faults.layer import REPOSITORY
from tests.stored_bytes import files_with

SUBJECT = "somebody.0123456789@example.com"


@pytest.fixture
def survey(store: eventstore.MetadataStore) -> mlmd.Artifact:
    """An artifact with two versions, the input of execution 1 in context 1."""
    artifact_type, execution_type, context_type = put_types(store)
    node = mlmd.Artifact(type_id=artifact_type, name="survey", uri="s3://survey", external_id="x")
    node.custom_properties["owner"].string_value = SUBJECT
    node.properties["double"].double_value = 0.9
    with store.acting(actor=SUBJECT, reason="asked", request_id="r-1"):
        store.put_execution(
            mlmd.Execution(type_id=execution_type, name="e"),
            [(node, mlmd.Event(type=mlmd.Event.INPUT))],
            [mlmd.Context(type_id=context_type, name="c")],
        )
    node.id = 1
    node.state = mlmd.Artifact.LIVE
    with store.acting(actor=SUBJECT, request_id="r-2"):
        store.put_artifacts([node])
    return node


def tombstone(store: eventstore.MetadataStore, position: int, number: int) -> mlmd.Artifact:
    recorded_ms = store.log.recorded_at(position) // 1_000
    node = mlmd.Artifact(
        id=1,
        type_id=store.get_artifact_type("DataSet").id,
        type="DataSet",
        create_time_since_epoch=recorded_ms,
        last_update_time_since_epoch=recorded_ms,
    )
    node.custom_properties["erased_by"].int_value = number
    return node


def test_what_is_erased_is_answered_as_a_tombstone_by_every_way(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    first, second = (version.position for version in store.history("artifact", 1))
    before = store.log_position()
    report = store.erase("artifact", 1, reason="GDPR-17(1)(b)", ticket="PRIV-214")
    assert (report.number, report.stage, report.contents_erased) == (1, "completed", 2)
    assert [version.position for version in report.versions] == [first, second]

    left = tombstone(store, second, 1)
    for asked in (store, store.as_of(before)):
        assert asked.get_artifacts_by_id([1]) == [left]
        assert asked.get_artifacts() == [left]
        assert asked.get_artifacts_by_type("DataSet") == [left]
        assert asked.get_artifacts_by_context(1) == [left]
        assert asked.get_artifact_by_type_and_name("DataSet", "survey") is None
        assert asked.get_artifacts_by_uri("s3://survey") == []
        with pytest.raises(errors.NotFoundError):
            asked.get_artifacts_by_external_ids(["x"])
        assert asked.lineage("artifact", 1).artifacts() == [left]
        assert len(asked.get_events_by_artifact_ids([1])) == 1
        for query, found in (
            ("uri = 's3://survey'", []),
            ("name = 'survey'", []),
            (f"custom_properties.owner.string_value = '{SUBJECT}'", []),
            ("properties.double.double_value > 0.1", []),
            ("custom_properties.erased_by.int_value = 1", [left]),
            ("type = 'DataSet'", [left]),
        ):
            options = eventstore.ListOptions(filter_query=query)
            assert asked.get_artifacts(options) == found, query
        rows = asked.sql("SELECT id, type, name, uri, state, external_id, erased_by FROM artifacts")
        assert rows.rows() == [(1, "DataSet", None, None, None, None, 1)]
        names = asked.sql("SELECT name FROM properties WHERE kind = 'artifact'").rows()
        assert names == [("erased_by",)]
    ((number, stage, position, basis, ticket, contents),) = store.sql(
        "SELECT number, stage, position, basis, ticket, contents FROM erasures"
    ).rows()
    assert (number, stage, position) == (1, "completed", before + 1)
    assert (basis, ticket, contents) == ("GDPR-17(1)(b)", "PRIV-214", 2)
    assert store.as_of(before).sql("FROM erasures").rows() == []


def test_the_past_of_a_version_that_is_not_erased_stays(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    first, second = (version.position for version in store.history("artifact", 1))
    store.erase("artifact", 1, reason="GDPR-17", version=first)
    (now,) = store.get_artifacts_by_id([1])
    assert now.custom_properties["owner"].string_value == SUBJECT
    assert store.as_of(second - 1).get_artifacts_by_id([1]) == [tombstone(store, first, 1)]
    # It takes puts, and bears its name.
    survey.state = mlmd.Artifact.DELETED
    store.put_artifacts([survey])
    assert store.get_artifact_by_type_and_name("DataSet", "survey").state == mlmd.Artifact.DELETED


def test_an_erased_node_takes_links_and_no_puts_and_its_name_is_free(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    store.erase("artifact", 1, reason="GDPR-17")
    for given in (survey, *store.get_artifacts_by_id([1])):
        with pytest.raises(
            errors.FailedPreconditionError, match="artifact 1 was erased by erasure 1"
        ):
            store.put_artifacts([given])
    before = store.log_position()
    store.put_events([mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.OUTPUT)])
    assert store.log_position() == before + 1
    survey.ClearField("id")
    assert store.put_artifacts([survey]) == [2]
    assert store.get_artifact_by_type_and_name("DataSet", "survey").id == 2
    assert store.get_artifacts_by_external_ids(["x"])[0].id == 2
    assert store.verify().ok


def test_a_property_alone_makes_no_tombstone(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    survey.custom_properties["erased_by"].int_value = 7
    store.put_artifacts([survey])
    survey.custom_properties["owner"].string_value = "Ben"
    store.put_artifacts([survey])
    assert store.sql("SELECT erased_by FROM artifacts").rows() == [(None,)]
    assert [version.erasures for version in store.history("artifact", 1)] == [()] * 4


def test_histories_say_who_erased_a_version_when_and_why(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    first, second = (version.position for version in store.history("artifact", 1))
    before = store.log_position()
    with store.acting(actor="dpo"):
        store.erase("artifact", 1, reason="GDPR-17", ticket="P-1", redact=["owner"])
        store.erase("artifact", 1, reason="GDPR-17", content=False, who=True, version=second)
    found = store.history("artifact", 1)
    assert [(v.position, v.replaces) for v in found] == [
        (first, None),
        (second, None),
        (before + 2, first),
        (before + 3, second),
    ]
    (mark,) = found[0].erasures
    assert (mark.number, mark.position, mark.actor) == (1, before + 1, "dpo")
    assert (mark.basis, mark.ticket) == ("GDPR-17", "P-1")
    assert (mark.content, mark.who, mark.redacted) == (True, False, ("owner",))
    assert (mark.replaced_by, mark.requested_at) == (before + 2, found[2].recorded_at)
    assert [(m.number, m.content, m.who) for m in found[1].erasures] == [
        (1, True, False),
        (2, False, True),
    ]
    assert (found[1].actor, found[1].request_id) == (None, None)
    # What changed is told of what is left, and replacements change nothing.
    assert [[change.field for change in version.changes] for version in found] == [
        ["external_id", "name", "uri", "properties.double"],
        ["state"],
        [],
        [],
    ]
    commits = [*store.changes(kinds=["artifact"], types=["DataSet"])]
    assert [[c.erasures != () for c in commit.changes] for commit in commits] == [
        [True],
        [True],
        [False, False],
    ]
    assert store.diff(before) == []

    store.erase("artifact", 1, reason="GDPR-17")
    assert [version.message for version in store.history("artifact", 1)] == [None] * 4
    (touched,) = [d for d in store.diff(second - 1, before) if d.kind == "artifact"]
    assert (touched.fields, touched.is_new) == ((), False)
    assert {mark.number for mark in touched.erasures} == {1, 2}
    lineage = store.lineage_diff("artifact", 1, second - 1, before)
    assert lineage.erasures == {("artifact", 1): touched.erasures}
    assert [(d.fields, d.erasures) for d in lineage.changed] == [((), touched.erasures)]
    assert store.lineage_diff("artifact", 1, before).changed != ()
    # Erased nodes are found by their type, too.
    assert len([*store.changes(kinds=["artifact"], types=["DataSet"])]) == 3


def test_a_repeated_put_is_known_although_it_was_erased(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    end = store.log_position()
    store.erase("artifact", 1, reason="GDPR-17")
    complete = store.log_position()
    with store.acting(actor=SUBJECT, request_id="r-2"):
        assert store.put_artifacts([survey]) == [1]
    assert store.log_position() == complete == end + 2
    other = mlmd.Artifact(type_id=survey.type_id, name="other")
    with (
        store.acting(request_id="r-2"),
        pytest.raises(errors.AlreadyExistsError, match="used before, for other content"),
    ):
        store.put_artifacts([other])


def test_with_who_the_request_id_goes(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    store.erase("artifact", 1, reason="GDPR-17", who=True)
    other = mlmd.Artifact(type_id=survey.type_id, name="other")
    with store.acting(request_id="r-2"):
        assert store.put_artifacts([other]) == [2]
    # The other records of the first put still say who put them.
    with (
        store.acting(request_id="r-1"),
        pytest.raises(errors.AlreadyExistsError, match="for other content"),
    ):
        store.put_artifacts([other])


def test_an_erasure_is_repeated_under_its_request_id(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    with store.acting(request_id="e-1"):
        report = store.erase("artifact", 1, reason="GDPR-17", redact=["owner"])
    end = store.log_position()
    with store.acting(request_id="e-1"):
        again = store.erase("artifact", 1, reason="GDPR-17", redact=["owner"])
    assert (again.number, again.stage, again.versions) == (1, "completed", report.versions)
    assert store.log_position() == end
    again = store.erase("artifact", 1, reason="GDPR-17", redact=["owner"])
    assert (again.number, again.stage) == (None, "nothing to erase")


def test_redacting_in_turn(store: eventstore.MetadataStore, survey: mlmd.Artifact) -> None:
    before = store.log_position()
    store.erase("artifact", 1, reason="GDPR-17", redact=["owner"])
    store.erase("artifact", 1, reason="GDPR-17", redact=["name", "external_id"])
    for asked in (store, store.as_of(before)):
        (left,) = asked.get_artifacts_by_id([1])
        assert (left.HasField("name"), left.HasField("external_id")) == (False, False)
        assert (left.uri, [*left.custom_properties]) == ("s3://survey", [])
        assert asked.get_artifacts_by_uri("s3://survey") == [left]
        assert asked.get_artifact_by_type_and_name("DataSet", "survey") is None
    # It takes puts; it has no name any more, and gets none.
    left.state = mlmd.Artifact.DELETED
    store.put_artifacts([left])
    assert store.verify().ok


def test_an_older_version_of_what_is_erased_cannot_be_redacted(
    store: eventstore.MetadataStore, survey: mlmd.Artifact
) -> None:
    first, second = (version.position for version in store.history("artifact", 1))
    store.erase("artifact", 1, reason="GDPR-17", version=second)
    with pytest.raises(errors.FailedPreconditionError, match="artifact 1 is erased by now"):
        store.erase("artifact", 1, reason="GDPR-17", redact=["owner"], version=first)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with eventstore.open(tmp_path / "store") as store:
        artifact_type, *_ = put_types(store)
        node = mlmd.Artifact(type_id=artifact_type, name="survey")
        node.custom_properties["owner"].string_value = SUBJECT
        store.put_artifacts([node])
    return tmp_path / "store"


READER = """
import sys, eventstore
store = eventstore.open(sys.argv[1], read_only=sys.argv[2] == "read")
for line in sys.stdin:
    (node,) = store.get_artifacts_by_id([1])
    options = eventstore.ListOptions(filter_query="custom_properties.owner.string_value != ''")
    print(
        [*node.custom_properties],
        len(store.get_artifacts(options)),
        store.sql("SELECT string_value FROM properties").rows(),
        flush=True,
    )
"""


@pytest.mark.parametrize("opened", ["read", "write"])
def test_another_process_answers_it_no_more(directory: Path, opened: str) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", READER, str(directory), opened],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    )
    assert other.stdin is not None
    assert other.stdout is not None

    def asked() -> str:
        print(file=other.stdin, flush=True)
        return other.stdout.readline()

    assert asked() == f"['owner'] 1 [('{SUBJECT}',)]\n"
    with eventstore.open(directory) as store:
        store.erase("artifact", 1, reason="GDPR-17")
        assert asked() == "['erased_by'] 0 [(None,)]\n"
    other.stdin.close()
    assert other.wait() == 0
    assert files_with(directory, SUBJECT.encode()) == []


def test_what_cannot_be_destroyed_now_is_by_the_next_opening(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_log: DirectoryLog, erased: Erased, *_: Any) -> Any:
        if erased:
            raise errors.ResourceExhaustedError("no room on the disk")

    with eventstore.open(directory) as store:
        with monkeypatch.context() as patch:
            patch.setattr(DirectoryLog, "destroy", full)
            said = (
                "erasure 1 is in effect, but files of .* may still have what it erases: no room on "
                "the disk; .*`eventstore erase --unfinished`"
            )
            with pytest.raises(errors.ResourceExhaustedError, match=said):
                store.erase("artifact", 1, reason="GDPR-17")
            report = store.erase("artifact", 1, reason="GDPR-17", dry_run=True)
            assert report.stage == "nothing to erase"
            (found,) = report.erased_before
            assert (found.id, found.position, found.number) == (1, 13, 1)
            assert (found.stage, found.content, found.replaced_by) == ("requested", True, None)
            assert "erased_by" in store.get_artifacts_by_id([1])[0].custom_properties
            with eventstore.open(directory) as other:
                assert "erased_by" in other.get_artifacts_by_id([1])[0].custom_properties
            assert "may still have what it erases: no room on the disk" in caplog.text
            assert "`eventstore erase --unfinished`" in caplog.text
        assert files_with(directory, SUBJECT.encode()) != []
    with eventstore.open(directory) as store:
        assert files_with(directory, SUBJECT.encode()) == []
        assert store.sql("SELECT stage FROM erasures").rows() == [("completed",)]
        assert store.complete_erasures() == []


def test_the_last_record_has_the_files_and_their_hashes(directory: Path) -> None:
    with eventstore.open(directory) as store:
        store.seal()
        ((old,),) = [[file.file_sha256] for file in store.log.sealed_files()]
        report = store.erase("artifact", 1, reason="GDPR-17")
        (file,) = report.files
        (new,) = [f.file_sha256 for f in store.log.sealed_files() if f.first_position == 1]
        assert (file.segment, file.old_sha256, file.new_sha256) == (1, old, new)
        *_, commit = store.log.commits()
        (record,) = commit.records
        completed = retention.Erasure.FromString(record.payload or b"")
        assert completed.stage == retention.Erasure.COMPLETED
        assert (completed.contents_erased, completed.whos_erased) == (1, 0)
        assert completed.files[0].new_sha256.hex() == new


def test_two_that_complete_at_once_record_it_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with eventstore.open(directory) as store, eventstore.open(directory) as other:
        completing = erasing._completed

        def overtaken(*arguments: Any) -> None:
            monkeypatch.setattr(erasing, "_completed", completing)
            other.complete_erasures()
            completing(*arguments)

        monkeypatch.setattr(erasing, "_completed", overtaken)
        store.erase("artifact", 1, reason="GDPR-17")
        records = [r for c in store.log.commits() for r in c.records if r.kind == "erasure"]
        assert len(records) == 2


def test_a_forged_erasure_of_what_is_never_erased_destroys_nothing(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with eventstore.open(directory) as store:
        store.erase("artifact", 1, reason="GDPR-17")
        covered = retention.ErasedRange(first_position=1, last_position=2, content=True)
        forged = retention.Erasure(
            id=2, stage=retention.Erasure.REQUESTED, basis="FORGED", ranges=[covered]
        )
        end = store.log_position()
        payload = forged.SerializeToString(deterministic=True)
        store.log.append([Draft("erasure", 2, None, None, payload)], expected_position=end)
    with eventstore.open(directory) as store:
        assert "is never erased; nothing of it is destroyed" in caplog.text
        assert len(store.get_artifact_types()) > 0
        with pytest.raises(errors.DataLossError, match="run `eventstore verify`"):
            store.complete_erasures()


@pytest.mark.parametrize("entity_id", ["1", None, 0, -1, 2**63, True, [1]])
def test_what_is_no_id(store: eventstore.MetadataStore, entity_id: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="is no id of an entity"):
        store.erase("artifact", entity_id, reason="GDPR-17")


@pytest.mark.parametrize("kind", ["artefact", "", None, ["artifact"], 3])
def test_what_is_no_kind(store: eventstore.MetadataStore, kind: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="is no kind of entity"):
        store.erase(kind, 1, reason="GDPR-17")


@pytest.mark.parametrize("entities", [[5], [("artifact",)], "artifact", 5])
def test_what_is_no_pair(store: eventstore.MetadataStore, entities: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="use pairs of a kind and an id"):
        store.erase_many(entities, reason="GDPR-17")
