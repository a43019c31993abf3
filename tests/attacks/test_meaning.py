"""What a forger cannot make records say even if every hash, checksum and derived column fits.

A change that leaves the records in agreement with each other is found with a checkpoint alone.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventstore
from eventstore.audit import Checkpoint, SigningKey, standalone_verifier
from eventstore.log.kinds import KINDS
from eventstore.log.leaf import leaf_hashes
from eventstore.log.manifest import stored_manifest
from eventstore.log.merkle import tree_head
from eventstore.log.record import Record
from eventstore.log.verification import verify_directory
from eventstore.plain_json import moment_text
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention
from eventstore.times import moment_of
from tests.attacks.forging import Records, forge, make_store, stored_records, with_erasure
from tests.data.make_stores import erased

KEY = SigningKey.generate("auditor")
STANDALONE_KEY = standalone_verifier.parse_key(str(KEY.verifier_key))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    directory = tmp_path_factory.mktemp("meaning") / "store"
    make_store(directory)
    with eventstore.open(directory, read_only=True) as store:
        return directory, store.checkpoint(KEY)


@pytest.fixture
def forged(honest: tuple[Path, Checkpoint], tmp_path: Path) -> Path:
    shutil.copytree(honest[0], tmp_path / "store", ignore=shutil.ignore_patterns("projections"))
    return tmp_path / "store"


def found(directory: Path) -> str:
    report = verify_directory(directory)
    assert report.ok == (not report.findings)
    return "; ".join(finding.what for finding in report.findings)


def signed_as_it_stands(directory: Path) -> str:
    """A checkpoint of what is stored, by a signer who has not looked."""
    records = stored_records(directory)
    leaves = [*leaf_hashes(stored_manifest(directory).store_id, records)]
    last = records[-1]
    return KEY.signed(
        f"eventstore/{stored_manifest(directory).store_id}\n{len(records)}\n"
        f"{base64.b64encode(tree_head(leaves)).decode()}\ncommit {last.commit}\n"
        f"recorded-at {moment_text(moment_of(last.recorded_at))}\n"
        f"signed-at {moment_text(moment_of(0))}\n"
    )


def standalone(directory: Path, checkpoint: str) -> str:
    records = standalone_verifier.stored_records(str(directory))
    return standalone_verifier.verify_records(records, checkpoint, STANDALONE_KEY)


def replaced(record: Record, **changes: Any) -> Record:
    return msgspec.structs.replace(record, **changes)


def rewritten(record: Record, **fields: Any) -> Record:
    """The record with fields of its content set; None clears one."""
    message = KINDS[record.kind].message.FromString(record.payload or b"")
    for name, value in fields.items():
        if value is None:
            message.ClearField(name)
        else:
            setattr(message, name, value)
    return replaced(record, payload=message.SerializeToString(deterministic=True))


def place_of(records: Records, kind: str, number: int = 0, *, update: bool = False) -> int:
    places = [
        n for n, r in enumerate(records) if r.kind == kind and (r.previous is not None) == update
    ]
    return places[number]


def changing(
    kind: str, number: int = 0, *, update: bool = False, fields: Any = None, **changes: Any
) -> Callable[[Records], Records]:
    def change(records: Records) -> Records:
        place = place_of(records, kind, number, update=update)
        records[place] = rewritten(replaced(records[place], **changes), **(fields or {}))
        return records

    return change


def same_salt(records: Records) -> Records:
    records[-1] = replaced(records[-1], salt=records[3].salt)
    return records


def same_salt_of_who(records: Records) -> Records:
    records[-1] = replaced(records[-1], who_salt=records[3].who_salt)
    return records


def one_salt_for_both(records: Records) -> Records:
    records[-1] = replaced(records[-1], who_salt=records[-1].salt)
    return records


def first_of_commit(name: str, value: Any) -> Callable[[Records], Records]:
    """Change the first record of a commit of several."""

    def change(records: Records) -> Records:
        place = next(
            n for n in range(len(records) - 1, 0, -1) if records[n].commit == records[n - 1].commit
        )
        records[place - 1] = replaced(records[place - 1], **{name: value})
        return records

    return change


def another_last_commit(records: Records) -> Records:
    records[-1] = replaced(records[-1], commit=records[-1].commit + 1)
    return records


FORGERIES: list[tuple[str, Callable[[Records], Records], str]] = [
    ("id", changing("artifact", entity_id=77), "its content says artifact 1 "),
    ("id-in-content", changing("artifact", fields={"id": 77}), "its content says artifact 77"),
    ("type-id", changing("artifact", type_id=12), "its columns say artifact 1 of type 12"),
    ("type-id-in-content", changing("context", fields={"type_id": 1}), "content says context 1"),
    ("type's-id", changing("artifact_type", entity_id=70), "its columns say artifact type 70"),
    ("type's-id-in-content", changing("context_type", fields={"id": 70}), "says context type 70"),
    ("execution's-id", changing("execution", entity_id=5), "columns say execution 5"),
    ("no-id", changing("execution", fields={"id": None}), "its content says execution 0"),
    ("id-0", changing("event", entity_id=0), "its entity id is 0"),
    ("id-negative", changing("event", entity_id=-4), "its entity id is -4"),
    ("type-of-a-link", changing("event", type_id=10), "which nodes alone have"),
    ("type-of-a-type", changing("artifact_type", type_id=10), "which nodes alone have"),
    ("no-type", changing("artifact", type_id=None), "its type id is None"),
    ("type-0", changing("artifact", type_id=0, fields={"type_id": 0}), "its type id is 0"),
    ("link-replaces", changing("association", previous=3), "is a link, and says that it replaces"),
    ("link-repeats-id", changing("event", 1, entity_id=1), "event 1 is said to be new"),
    ("new-again", changing("artifact", update=True, previous=None), "artifact 1 is said to be new"),
    ("replaces-other", changing("artifact", update=True, previous=3), "is not its former one"),
    ("replaces-none", changing("artifact", 1, previous=3), "is none of its positions"),
    ("replaces-later", changing("artifact", 1, previous=40), "out of order"),
    ("replaces-0", changing("artifact", 1, previous=0), "out of order"),
    ("type-new-again", changing("artifact_type", update=True, previous=None), "is said to be new"),
    (
        "node-changes-type",
        changing("artifact", update=True, type_id=1, fields={"type_id": 1, "type": None}),
        "another type than",
    ),
    (
        "node-changes-name",
        changing("artifact", update=True, fields={"name": "other"}),
        "another name than",
    ),
    (
        "node-changes-creation",
        changing("context", update=True, fields={"create_time_since_epoch": 1}),
        "another create time than",
    ),
    (
        "type-changes-name",
        changing("artifact_type", update=True, fields={"name": "other"}),
        "another name than",
    ),
    (
        "type-changes-version",
        changing("artifact_type", update=True, fields={"version": "v2"}),
        "another version than",
    ),
    ("name-twice", changing("artifact", 1, fields={"name": "m2"}), "bears the name m2"),
    ("context-name-twice", changing("context", 2, fields={"name": "b"}), "bears the name b"),
    (
        "name-not-yet-free",
        changing("context", update=True, number=1, fields={"name": "c"}),
        "bears the name c",
    ),
    (
        "external-id-twice",
        changing("artifact", 1, fields={"external_id": "e2"}),
        "bears the external id e2",
    ),
    (
        "type-external-id-twice",
        changing("execution_type", -1, fields={"external_id": "t1"}),
        "bears the external id t1",
    ),
    (
        "event-twice",
        changing("event", 1, fields={"artifact_id": 1}),
        "event (1, 1, 4) is there twice",
    ),
    (
        "attribution-twice",
        changing("attribution", 1, fields={"context_id": 1}),
        "attribution (1, 1) is there twice",
    ),
    (
        "association-twice",
        changing("association", 1, fields={"context_id": 1}),
        "association (1, 1) is there twice",
    ),
    (
        "parent-twice",
        changing("parent_context", 1, fields={"child_id": 2}),
        "parent context (2, 1) is there twice",
    ),
    ("type-name", changing("artifact", fields={"type": "Other"}), "a type with another name"),
    ("only-type-name", changing("execution", fields={"type": "Other"}), "says that its type"),
    ("salt-twice", same_salt, "a salt is there twice"),
    ("salt-of-who-twice", same_salt_of_who, "a salt is there twice"),
    ("one-salt-for-both", one_salt_for_both, "a salt is there twice"),
    ("time-of-a-commit", first_of_commit("recorded_at", 5), "out of order"),
    ("actor-of-a-commit", first_of_commit("actor", "eve"), "its commit says two"),
    ("reason-of-a-commit", first_of_commit("reason", None), "its commit says two"),
    ("request-of-a-commit", first_of_commit("request_id", "r"), "its commit says two"),
    ("a-commit-skipped", changing("parent_context", 1, commit=900), "out of order"),
]


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("change", "words"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES]
)
def test_what_no_put_could_have_written_is_found(
    forged: Path, change: Callable[[Records], Records], words: str
) -> None:
    forge(forged, change)
    assert words in found(forged)
    # Signed as it stands, so that nothing but its meaning is wrong.
    with pytest.raises(standalone_verifier.Refused):
        standalone(forged, signed_as_it_stands(forged))


def test_an_honest_store_is_sound_written_by_the_forger(
    honest: tuple[Path, Checkpoint], forged: Path
) -> None:
    assert found(honest[0]) == ""
    forge(forged, lambda records: records)
    assert found(forged) == ""
    report = verify_directory(forged, signed_heads=[honest[1].of_store(honest[1].store_id)])
    assert report.ok
    assert report.not_checked == []
    words = standalone(forged, honest[1].text)
    assert "agree with each other" in words
    assert "that auditor signed on" in words
    assert standalone(forged, signed_as_it_stands(forged))


@pytest.mark.parametrize(
    "change",
    [
        changing("artifact", fields={"uri": "elsewhere"}),
        changing("artifact", actor="ana"),
        changing("event", fields={"milliseconds_since_epoch": 4}),
        lambda records: records[:-3],
    ],
    ids=["uri", "nothing-but-salt", "event-time", "cut"],
)
def test_what_a_put_could_have_written_is_found_with_a_checkpoint(
    honest: tuple[Path, Checkpoint], forged: Path, change: Callable[[Records], Records]
) -> None:
    def resalted(records: Records) -> Records:
        return [replaced(record, salt=bytes([n]) * 16) for n, record in enumerate(change(records))]

    forge(forged, resalted)
    checkpoint = honest[1].of_store(stored_manifest(forged).store_id)
    assert found(forged) == ""
    assert not verify_directory(forged, signed_heads=[checkpoint]).ok
    assert standalone(forged, signed_as_it_stands(forged))
    with pytest.raises(standalone_verifier.Refused):
        standalone(forged, honest[1].text)


@pytest.mark.parametrize(
    "columns",
    [
        {"salt": {5: None}},
        {"salt": {5: None}, "payload": {5: None}},
        {"payload": {5: None}},
        {"commitment": {5: bytes(32)}},
        {"commitment": {5: bytes(32)}, "salt": {5: None}},
        {"commitment": {5: bytes(32)}, "payload": {5: None}},
        {"commitment": {5: bytes(32)}, "payload": {5: None}, "salt": {5: None}},
        {"who_salt": {5: None}},
        {"who_salt": {5: None}, "actor": {5: None}, "reason": {5: None}},
        {"who_commitment": {5: bytes(32)}},
        {"who_commitment": {5: bytes(32)}, "who_salt": {5: None}},
        {"who_commitment": {5: bytes(32)}, "actor": {5: None}, "reason": {5: None}},
        {"who_commitment": {5: bytes(32)}, "who_salt": {5: None}, "actor": {5: None}},
        {"tree_head": {5: bytes(32)}},
        {"tree_head": {-1: None}},
        {"kind": {5: "artefact"}},
    ],
    ids=lambda columns: "-".join(columns),
)
def test_content_salt_and_commitment(forged: Path, columns: dict[str, dict[int, Any]]) -> None:
    last = len(stored_records(forged))
    fixed = {
        name: {last if place == -1 else place: value for place, value in values.items()}
        for name, values in columns.items()
    }
    forge(forged, lambda records: records, columns=fixed)
    assert found(forged)


def test_a_right_commitment_does_not_vouch_for_content_beside_it(forged: Path) -> None:
    def change(records: Records) -> Records:
        place = place_of(records, "artifact")
        record = records[place]
        assert record.salt is not None
        assert record.payload is not None
        commitment = hashlib.sha256(record.salt + record.payload).digest()
        records[place] = rewritten(replaced(record, commitment=commitment), uri="forged")
        return records

    forge(forged, change)
    assert "a commitment, which stands for erased content" in found(forged)


def test_erased_content_is_no_damage(forged: Path) -> None:
    def change(records: Records) -> Records:
        places = (place_of(records, "artifact"), place_of(records, "context", 2))
        for place in places:
            records[place] = erased(records[place], "content")
        return with_erasure(records, content=[place + 1 for place in places])

    forge(forged, change)
    assert found(forged) == ""
    assert standalone(forged, signed_as_it_stands(forged))


def without_who(record: Record) -> Record:
    return erased(record, "who")


@pytest.mark.parametrize("which", ["all", "first of each commit", "last of each commit"])
def test_erased_who_and_why_is_no_damage(
    honest: tuple[Path, Checkpoint], forged: Path, which: str
) -> None:
    def change(records: Records) -> Records:
        left = [
            without_who(record)
            if which == "all" or (neighbour is None or neighbour.commit != record.commit)
            else record
            for record, neighbour in zip(
                records,
                [None, *records[:-1]] if which == "first of each commit" else [*records[1:], None],
                strict=True,
            )
        ]
        return with_erasure(left, who=[r.position for r in left if r.who_salt is None])

    forge(forged, change)
    assert found(forged) == ""
    # The leaves are the same, and so an older checkpoint holds.
    assert standalone(forged, honest[1].text)
    assert {r.actor for r in stored_records(forged)[:-1]} == (
        {None} if which == "all" else {None, "ana"}
    )
    # To read only: else the erasure would be completed.
    with eventstore.open(forged, read_only=True) as store:
        assert store.get_artifacts()
        *others, last = store.changes()
        assert len(others) == store.info().commits - 1
        assert [change.kind for change in last.changes] == ["erasure"]


def test_an_erased_who_does_not_hide_that_a_commit_says_two_things(forged: Path) -> None:
    def change(records: Records) -> Records:
        place = next(
            n for n in range(2, len(records)) if records[n].commit == records[n - 2].commit
        )
        records[place - 1] = without_who(records[place - 1])
        records[place] = replaced(records[place], actor="eve")
        return records

    forge(forged, change)
    assert "its commit says two" in found(forged)
    with pytest.raises(standalone_verifier.Refused, match="says otherwise"):
        standalone(forged, signed_as_it_stands(forged))


RETENTION: dict[str, Any] = {
    "retention_rule": retention.RetentionRule(id=1, keep_at_least_seconds=60, basis="17a-4"),
    "hold": retention.Hold(id=1, stage=retention.Hold.RELEASED, ticket="T-1", release_ticket="T-3"),
    "erasure": retention.Erasure(id=1, stage=retention.Erasure.REQUESTED, ticket="T-2"),
}
BEFORE: dict[str, Any] = RETENTION | {
    "hold": retention.Hold(id=1, stage=retention.Hold.PLACED, ticket="T-1"),
    "erasure": retention.Erasure(id=1, stage=retention.Erasure.PROPOSED, ticket="T-2"),
}


def with_retention(change: Callable[[Records], object] = lambda added: None) -> Any:
    """Puts a record of each kind of retention after the others, and a second one for each."""

    def changed(records: Records) -> Records:
        added: Records = []
        for kind, message in [*BEFORE.items(), *RETENTION.items()]:
            position = len(records) + len(added) + 1
            former = next((r.position for r in added if r.kind == kind), None)
            added.append(
                replaced(
                    records[-1],
                    position=position,
                    commit=records[-1].commit + len(added) + 1,
                    kind=kind,
                    entity_id=1,
                    type_id=None,
                    previous=former,
                    actor="ana" if former is None else "ben",
                    salt=hashlib.sha256(b"salt%d" % position).digest()[:16],
                    who_salt=hashlib.sha256(b"who%d" % position).digest()[:16],
                    payload=message.SerializeToString(deterministic=True),
                )
            )
        change(added)
        return [*records, *added]

    return changed


def test_rules_holds_and_erasures_are_read_and_pass_verification(forged: Path) -> None:
    with eventstore.open(forged) as store:
        artifacts, info = store.get_artifacts(), store.info()
    forge(forged, with_retention())
    assert found(forged) == ""
    assert standalone(forged, signed_as_it_stands(forged))
    with eventstore.open(forged) as store:
        assert store.get_artifacts() == artifacts
        assert store.verify().ok
        assert store.info().counts == info.counts
        # Opening has completed the erasure.
        assert store.sql("SELECT kind FROM records ORDER BY position DESC LIMIT 3").rows() == [
            ("erasure",),
            ("erasure",),
            ("hold",),
        ]
        kinds = {change.kind for commit in store.changes() for change in commit.changes}
        assert kinds.issuperset(RETENTION)
        kinds = {difference.kind for difference in store.diff(0, store.log_position())}
        assert kinds.isdisjoint(RETENTION)
        with pytest.raises(eventstore.errors.InvalidArgumentError, match="no kind of entity"):
            store.history("hold", 1)
        # Ids of nodes go on where they were, and so do positions.
        requested_at = store.log_position() - 1
        store.put_artifacts([mlmd.Artifact(type_id=artifacts[0].type_id, name="new")])
        proof = store.prove(requested_at, store.checkpoint(KEY))
        assert proof.message == RETENTION["erasure"]
        assert standalone_verifier.verify_proof(proof.to_text(), STANDALONE_KEY)


@pytest.mark.parametrize("kind", RETENTION)
@pytest.mark.parametrize("what", ["content", "who", "id", "type id", "previous", "no message"])
def test_what_rules_holds_and_erasures_cannot_be(forged: Path, kind: str, what: str) -> None:
    def change(added: Records) -> None:
        place = next(n for n, r in enumerate(added) if r.kind == kind)
        record = added[place]
        assert record.salt is not None
        assert record.payload is not None
        if what == "content":
            commitment = hashlib.sha256(record.salt + record.payload).digest()
            record = replaced(record, salt=None, payload=None, commitment=commitment)
        added[place] = {
            "content": lambda: record,
            "who": lambda: without_who(record),
            "id": lambda: rewritten(record, id=2),
            "type id": lambda: replaced(record, type_id=1),
            "previous": lambda: replaced(record, previous=1),
            "no message": lambda: replaced(record, payload=b"\x12\xff"),
        }[what]()

    forge(forged, with_retention(change))
    assert found(forged)
    with pytest.raises(standalone_verifier.Refused):
        standalone(forged, signed_as_it_stands(forged))


DERIVED: dict[str, tuple[str, Any]] = {
    "name": ("artifact", "forged"),
    "external_id": ("artifact", None),
    "version": ("artifact_type", "v9"),
    "uri": ("artifact", "forged"),
    "state": ("artifact", 2),
    "create_time": ("artifact", 5),
    "update_time": ("context", 5),
    "artifact_id": ("event", 9),
    "execution_id": ("association", 9),
    "context_id": ("attribution", 9),
    "parent_context_id": ("parent_context", 9),
    "event_type": ("event", 1),
    "event_time": ("event", 9),
    "properties": ("artifact", []),
    "custom_properties": ("artifact", []),
}


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_column_alone(forged: Path, name: str) -> None:
    kind, value = DERIVED[name]
    records = stored_records(forged)
    places = [n for n, r in enumerate(records, 1) if r.kind == kind and r.entity_id == 1]
    if kind.endswith("type"):
        places = [n for n, r in enumerate(records, 1) if r.kind == kind][-1:]
    forge(forged, lambda r: r, columns={name: {places[0]: value}})
    assert f"column {name} does not agree with the payload" in found(forged)
    with pytest.raises(standalone_verifier.Refused, match=f"column {name} of position"):
        standalone(forged, signed_as_it_stands(forged))


def test_a_range_says_what_it_did_not_look_at(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    with eventstore.open(directory) as store:
        for number in range(3):
            store.put_artifact_type(eventstore.proto.ArtifactType(name=f"t{number}"))
            store.seal()
        store.put_artifact_type(eventstore.proto.ArtifactType(name="last"))
        ends = [segment.last_position for segment in store.log.segments()]
        whole = store.verify()
        assert (whole.not_checked, whole.records) == ([], ends[-1])
        (before, guards, caches) = store.verify(since=ends[0]).not_checked
        assert before.startswith(f"records 1 to {ends[0]}, which were believed")
        assert guards.startswith("whether a hold, a lock or a missing second person")
        assert caches.startswith("the caches")
        (after, *_) = store.verify(until=ends[1]).not_checked
        assert after == f"records after {ends[1]}"
        between = store.verify(since=ends[0], until=ends[1])
        assert len(between.not_checked) == 4
        assert between.records == ends[1] - ends[0]
