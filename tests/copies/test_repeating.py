"""What a restored store records again of a register, and what of it belongs to other histories."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.audit import SigningKey, standalone_verifier
from eventstore.copies import restoring
from eventstore.copies.repeating import Repeated
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run
from tests.stored_bytes import files_with

MARKER = "ana.example-7f3a"
BASIS = "GDPR-17(1)(b)"


def _artifact(type_id: int, **values: str) -> mlmd.Artifact:
    artifact = mlmd.Artifact(type_id=type_id)
    for name, value in values.items():
        artifact.custom_properties[name].string_value = value
    return artifact


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetadataStore]:
    """Artifact 1 has two versions, of which the first alone has an owner; artifact 2 has one."""
    with eventstore.open(tmp_path / "store", actor="operator") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        first = _artifact(type_id, owner=MARKER, mail=f"{MARKER}@", score="1")
        (first.id,) = store.put_artifacts([first])
        second = _artifact(type_id, mail=f"{MARKER}@", score="2")
        second.id = first.id
        store.put_artifacts([second, _artifact(type_id, owner=MARKER, score="3")])
        yield store


def _register(store: MetadataStore, tmp_path: Path) -> Path:
    path = tmp_path / "register"
    path.write_text(store.register_of_erasures())
    return path


def _restored(
    tmp_path: Path, register: Path, *, backup: str = "backup", to: str = "restored", **given: Any
) -> tuple[Path, Repeated]:
    """A store restored of a backup, sound by both verifiers; what was repeated."""
    target = tmp_path / to
    report = eventstore.restore(
        tmp_path / backup, target, erasures=register, actor="restorer", **given
    )
    with eventstore.open(target) as again:
        assert again.verify().ok
        key = SigningKey.generate("key")
        note = again.checkpoint(key).text
    trust = standalone_verifier.parse_trust(str(key.verifier_key))
    records = standalone_verifier.stored_records(str(target))
    standalone_verifier.verify_records(records, note, trust)
    return target, report.repeated


def _properties(store: MetadataStore, artifact_id: int) -> list[dict[str, str] | None]:
    """Of each version in its history, None where nothing is left."""
    return [
        None
        if version.message is None
        else {n: v.string_value for n, v in version.message.custom_properties.items()}
        for version in store.history("artifact", artifact_id)
    ]


def test_records_of_another_history_are_passed_over(store: MetadataStore, tmp_path: Path) -> None:
    store.backup(tmp_path / "backup")
    (lost,) = store.put_artifacts([_artifact(10, owner=MARKER)])
    store.erase("artifact", lost, reason=BASIS)
    store.erase("artifact", 2, reason=BASIS)
    register = _register(store, tmp_path)
    eventstore.restore(tmp_path / "backup", tmp_path / "going-on")
    with eventstore.open(tmp_path / "going-on") as other:
        other.put_artifacts([_artifact(10, owner="innocent")])
        # At the position of the other one, and of its record, too.
        other.erase("artifact", 1, reason="OTHER")
        other.backup(tmp_path / "of-other")
    done = run("restore", tmp_path / "of-other", tmp_path / "told", "--erasures", register)
    assert "Passed over: 1 record of the register, since another history" in done.err
    target, repeated = _restored(tmp_path, register, backup="of-other")
    assert repeated == Repeated(erasures=1, elsewhere=1)
    with eventstore.open(target) as again:
        assert _properties(again, 1) == [None, None]
        assert _properties(again, 2) == [None]
        assert _properties(again, lost) == [{"owner": "innocent"}]


def test_what_was_redacted_is_redacted_again(store: MetadataStore, tmp_path: Path) -> None:
    store.backup(tmp_path / "backup")
    store.erase("artifact", 1, reason=BASIS, redact=["owner"])
    store.backup(tmp_path / "between")
    store.erase("artifact", 1, reason=BASIS, redact=["mail"])
    store.erase("artifact", 1, reason="WHO", content=False, who=True)
    register = _register(store, tmp_path)
    for backup in ("backup", "between"):
        target, _ = _restored(tmp_path, register, backup=backup, to=f"of-{backup}")
        assert files_with(target, f"{MARKER}@".encode()) == []
        with eventstore.open(target) as again:
            newest, other = again.get_artifacts()
            assert {n: v.string_value for n, v in newest.custom_properties.items()} == {
                "score": "2"
            }
            assert other.custom_properties["owner"].string_value == MARKER
            assert _properties(again, 1)[:2] == [{"score": "1"}, {"score": "2"}]
            assert [version.actor for version in again.history("artifact", 1)[:2]] == [None, None]
    # What was left of it was erased after that.
    store.erase("artifact", 1, reason="WHOLE")
    register = _register(store, tmp_path)
    for backup in ("backup", "between"):
        target, _ = _restored(tmp_path, register, backup=backup, to=f"whole-of-{backup}")
        with eventstore.open(target) as again:
            assert {*map(str, _properties(again, 1))} == {"None"}
            assert again.get_artifacts()[0].custom_properties["erased_by"].int_value


def test_what_has_lost_its_key_is_erased_instead_of_redacted(
    store: MetadataStore, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    store.backup(tmp_path / "backup", keys=keys)
    store.erase("artifact", 2, reason=BASIS, redact=["owner"], who=True)
    store.destroy_keys(keys)
    register = _register(store, tmp_path)
    target, repeated = _restored(tmp_path, register, keys=keys)
    assert repeated == Repeated(erasures=1, not_redacted=1)
    with eventstore.open(target) as again:
        assert _properties(again, 2) == [None]
        assert [version.actor for version in again.history("artifact", 2)] == [None]


def test_ends_of_holds_are_recorded_again(store: MetadataStore, tmp_path: Path) -> None:
    hold = store.place_hold(entities=[("artifact", 1)], basis="CASE-1", needs_approval=True)
    store.backup(tmp_path / "backup")
    for actor in ("ana", "ben"):
        with store.acting(actor=actor):
            store.release_hold(hold, ticket="T-1")
    store.erase("artifact", 1, reason=BASIS)
    target, repeated = _restored(tmp_path, _register(store, tmp_path))
    assert repeated == Repeated(erasures=1, releases=1)
    with eventstore.open(target) as again:
        (found,) = again.holds()
        assert (found.stage, found.release_ticket) == ("released", "T-1")
        assert _properties(again, 1) == [None, None]
        assert [record.is_repeated for record in _retention_records(again)] == [
            *(False, True),
            *(True, True),
        ]
        commits = [*again.log.commits()][-3:]
        assert {(c.records[0].actor, c.records[0].reason) for c in commits} == {
            ("restorer", "restored from a backup")
        }
    # What was repeated is known, and not repeated once more.
    with eventstore.open(target) as again:
        again.backup(tmp_path / "second")
        register = tmp_path / "both"
        register.write_text(store.register_of_erasures() + again.register_of_erasures())
        position = again.log_position()
    target, _ = _restored(tmp_path, register, backup="second", to="twice")
    with eventstore.open(target) as twice:
        assert twice.log_position() == position


def _retention_records(store: MetadataStore) -> list[Any]:
    from eventstore.log.kinds import RETENTION_KINDS

    kinds = {kind.name: kind for kind in RETENTION_KINDS}
    return [
        kinds[record.kind].message.FromString(record.payload)
        for commit in store.log.commits()
        for record in commit.records
        if record.kind in kinds
    ]


def test_what_another_history_holds_stays(store: MetadataStore, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    store.backup(tmp_path / "backup", keys=keys)
    empty = tmp_path / "empty"
    empty.write_text("")
    eventstore.restore(tmp_path / "backup", tmp_path / "going-on", keys=keys, erasures=empty)
    with eventstore.open(tmp_path / "going-on") as other:
        other.place_hold(entities=[("artifact", 1)], basis="CASE-1")
        other.backup(tmp_path / "held")
        other.backup(tmp_path / "held-encrypted", keys=keys)
    for artifact_id in (1, 2):
        store.erase("artifact", artifact_id, reason=BASIS)
    register = _register(store, tmp_path)
    target, repeated = _restored(tmp_path, register, backup="held")
    assert repeated == Repeated(erasures=1, kept=2)
    with eventstore.open(target) as again:
        assert None not in _properties(again, 1)
        assert _properties(again, 2) == [None]
    store.destroy_keys(keys)
    with pytest.raises(errors.FailedPreconditionError, match="keys are destroyed of what must"):
        _restored(tmp_path, register, backup="held-encrypted", to="no", keys=keys)
    assert not (tmp_path / "no").exists()


def test_a_register_may_be_repeated_and_reordered_but_not_cut(
    store: MetadataStore, tmp_path: Path
) -> None:
    store.backup(tmp_path / "backup")
    store.erase("artifact", 1, reason=BASIS, redact=["owner"])
    store.erase("artifact", 1, reason=BASIS)
    store.erase("artifact", 2, reason=BASIS)
    text = store.register_of_erasures()
    lines = text.splitlines(keepends=True)
    assert [json.loads(line)["what"] for line in lines] == [*["erasure"] * 3, "end"]
    register = tmp_path / "register"
    register.write_text("".join([*reversed(lines), *lines]))
    assert _restored(tmp_path, register)[1] == Repeated(erasures=2)
    for number, cut in enumerate(
        ("".join(lines[:-1]), "".join(lines[1:]), text[:-20], text[: len(lines[0]) // 2])
    ):
        register.write_text(cut)
        with pytest.raises(errors.DataLossError, match=r"lacks|cut off|line [14]"):
            eventstore.restore(tmp_path / "backup", tmp_path / str(number), erasures=register)
        assert not (tmp_path / str(number)).exists()
    for change in ({"first": 1}, {"leaves": ""}, {"spans": [[9, 1]]}, {"replaced_by": []}):
        said = json.loads(lines[0])
        said["parts"][0] |= change
        register.write_text(json.dumps(said) + "\n" + lines[-1])
        with pytest.raises(errors.DataLossError, match="line 1"):
            eventstore.restore(tmp_path / "backup", tmp_path / "no", erasures=register)


def test_a_restoration_that_ends_early_leaves_nothing(
    store: MetadataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.backup(tmp_path / "backup")
    store.erase("artifact", 1, reason=BASIS)
    register = _register(store, tmp_path)
    before = {path.name for path in tmp_path.iterdir()}

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "complete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            eventstore.restore(tmp_path / "backup", tmp_path / "restored", erasures=register)
    assert {path.name for path in tmp_path.iterdir()} == before
    _restored(tmp_path, register)
    with pytest.raises(errors.AlreadyExistsError):
        _restored(tmp_path, register)


def test_commands_tell_of_the_register(store: MetadataStore, tmp_path: Path) -> None:
    store.backup(tmp_path / "backup", keys=tmp_path / "keys")
    hold = store.place_hold(entities=[("artifact", 2)], basis="CASE-1")
    store.release_hold(hold, ticket="T-1")
    store.erase("artifact", 1, reason=BASIS, redact=["owner"])
    store.erase("artifact", 2, reason=BASIS, ticket="T-2")
    store.close()
    register = tmp_path / "register"
    register.write_text(run("erasures", tmp_path / "store", "--json").out)
    header, *rows = csv.reader(run("erasures", tmp_path / "store", "--csv").out.splitlines())
    for line in register.read_text().splitlines():
        said = json.loads(line)
        known = {"record", "rule", "parts", "placed"} | (
            {"lines"} if said["what"] == "end" else set()
        )
        assert {*said} - known <= {*header}
    assert [row[0] for row in rows] == ["release", "erasure", "erasure"]
    for command in ("verify", "info", "list"):
        done = run(command, tmp_path / "backup", *(["artifact"] if command == "list" else []))
        assert "is an encrypted backup, and no store: `eventstore restore" in done.err
    done = run(
        *("restore", tmp_path / "backup", tmp_path / "new", "--actor", "ben", "--json"),
        *("--keys", tmp_path / "keys", "--erasures", register),
    )
    said = json.loads(done.out)
    assert (said["erasures_repeated"], said["elsewhere"]) == (2, 0)
    assert "Recorded again: 2 erasures" in done.err
