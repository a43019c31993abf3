"""What someone with write access to the files could do, and that it is found and named.

The attackers here know the format: they mend checksums, tree heads and the manifest where that is
possible without knowing what the auditor keeps, which is a signed checkpoint.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import Checkpoint, SigningKey, signed_checkpoint
from eventstore.log import Commit, DirectoryLog, Draft, VerifyReport, creation
from eventstore.log import record as kind_names
from eventstore.log.acknowledged import FILE_NAME
from eventstore.log.columns import PROPERTIES_TYPE
from eventstore.log.leaf import leaf_hashes
from eventstore.log.manifest import stored_manifest, write_manifest
from eventstore.log.merkle import tree_head
from eventstore.log.sealing import ROWS_PER_GROUP
from eventstore.log.verification import verify_directory
from eventstore.plain_json import moment_text
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.times import moment_of
from tests.builders import append, draft

KEY = SigningKey.generate("auditor")


@pytest.fixture(scope="module")
def built_and_signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    """Commits 1 to 3 sealed, 4 to 6 active, and the auditor's checkpoint of all of it."""
    directory = tmp_path_factory.mktemp("signed") / "store"
    log = DirectoryLog.create(directory)
    for number in range(1, 7):
        append(log, *(draft(10 * number + n) for n in range(2)))
        if number == 3:
            log.seal()
    log.close()
    with eventstore.open(directory, read_only=True) as store:
        checkpoint = store.checkpoint(KEY)
    assert verify(directory).ok
    assert verify(directory, checkpoint).ok
    return directory, checkpoint


@pytest.fixture
def signed(built_and_signed: tuple[Path, Checkpoint], tmp_path: Path) -> tuple[Path, Checkpoint]:
    """A copy of that store, to be attacked."""
    directory, checkpoint = built_and_signed
    return Path(shutil.copytree(directory, tmp_path / "store")), checkpoint


def verify(directory: Path, *checkpoints: Checkpoint) -> VerifyReport:
    store_id = stored_manifest(directory).store_id
    heads = [checkpoint.of_store(store_id) for checkpoint in checkpoints]
    return verify_directory(directory, signed_heads=heads)


def assert_named(report: VerifyReport, *words: str) -> None:
    assert not report.ok
    told = "; ".join(finding.what for finding in report.findings)
    for word in words:
        assert word in told, told


def messages_of(path: Path) -> list[bytes]:
    """The header and the messages of a stream."""
    content = path.read_bytes()
    starts = [n for n in range(0, len(content), 8) if content[n : n + 4] == b"\xff\xff\xff\xff"]
    return [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]


def active_file(directory: Path) -> Path:
    return directory / "log" / stored_manifest(directory).active.file


def rewrite_sealed(directory: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the first sealed segment, and mend the manifest's checksum of it."""
    manifest = stored_manifest(directory)
    segment = manifest.segments[0]
    path = directory / "log" / segment.file
    table = parquet.read_table(path)
    changed = change(table).replace_schema_metadata(table.schema.metadata)
    parquet.write_table(
        changed,
        path,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        write_page_checksum=True,
    )
    mended = msgspec.structs.replace(
        segment,
        file_bytes=path.stat().st_size,
        file_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    write_manifest(directory, msgspec.structs.replace(manifest, segments=(mended,)))


def change_value(directory: Path, column: str, value: Any) -> None:
    """Change what a column has in the fourth row of the first sealed segment, in commit 2."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[3] = value
        place = table.schema.get_field_index(column)
        return table.set_column(
            place, table.schema.field(column), pa.array(values, table[column].type)
        )

    rewrite_sealed(directory, change)


def test_a_flipped_byte(signed: tuple[Path, Checkpoint]) -> None:
    directory, _ = signed
    path = active_file(directory)
    content = bytearray(path.read_bytes())
    place = content.index(b"s3://50")
    content[place] ^= 1
    path.write_bytes(content)
    assert_named(verify(directory), "commit 5 is damaged")


@pytest.mark.parametrize("number", [4, 5, 6])
def test_a_commit_removed_from_the_active_segment(
    signed: tuple[Path, Checkpoint], number: int
) -> None:
    directory, checkpoint = signed
    path = active_file(directory)
    messages = messages_of(path)
    del messages[number - 3]
    path.write_bytes(b"".join(messages))
    assert_named(verify(directory), f"commit {number}")
    (path.parent / FILE_NAME).unlink()
    if number < 6:
        assert_named(verify(directory), f"commit {number}")
    # The last one leaves no trace in what remains; the auditor's checkpoint tells.
    assert_named(verify(directory, checkpoint))


def test_two_commits_swapped_in_the_active_segment(signed: tuple[Path, Checkpoint]) -> None:
    directory, _ = signed
    path = active_file(directory)
    header, first, second, third = messages_of(path)
    path.write_bytes(header + second + first + third)
    (path.parent / FILE_NAME).unlink()
    assert_named(verify(directory), "out of order: commit 4")


@pytest.mark.parametrize("row", range(6))
def test_a_record_removed_from_a_sealed_segment(signed: tuple[Path, Checkpoint], row: int) -> None:
    directory, _ = signed
    rewrite_sealed(directory, lambda table: pa.concat_tables([table[:row], table[row + 1 :]]))
    assert_named(verify(directory), "commit")


def test_two_commits_swapped_in_a_sealed_segment(signed: tuple[Path, Checkpoint]) -> None:
    directory, _ = signed
    rewrite_sealed(directory, lambda t: pa.concat_tables([t[2:4], t[0:2], t[4:]]))
    assert_named(verify(directory), "out of order: commit 1")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("uri", "s3://forged"),
        ("actor", "someone else"),
        ("recorded_at", 5),
        ("entity_id", 99),
        ("type_id", 99),
        ("previous", 1),
        ("payload", b"\x08\x01"),
        ("salt", bytes(16)),
        ("tree_head", bytes(32)),
        ("commit", 3),
        ("kind", "execution"),
        ("create_time", 1),
        ("custom_properties", []),
    ],
)
def test_a_value_changed_in_a_sealed_segment(
    signed: tuple[Path, Checkpoint], column: str, value: Any
) -> None:
    directory, _ = signed
    change_value(directory, column, value)
    assert_named(verify(directory), "commit 2")


def test_the_tail_cut_and_regrown(signed: tuple[Path, Checkpoint]) -> None:
    directory, checkpoint = signed
    path = active_file(directory)
    path.write_bytes(b"".join(messages_of(path)[:-1]))
    for name in (FILE_NAME, "commit-ends"):
        (path.parent / name).unlink(missing_ok=True)
    shutil.rmtree(directory / "projections", ignore_errors=True)
    log = DirectoryLog.open(directory)
    append(log, draft(60), draft(61))
    append(log, draft(70))
    log.close()
    # All agrees with itself; only what was signed does not.
    assert verify(directory).ok
    assert_named(verify(directory, checkpoint), "history up to commit 6", "auditor signed on")
    with eventstore.open(directory) as store:
        with pytest.raises(errors.DataLossError, match="history up to commit 6"):
            store.verify(checkpoints=[checkpoint])
        with pytest.raises(errors.DataLossError, match="history was changed"):
            store.prove(1, checkpoint)
        with pytest.raises(errors.DataLossError, match="history was changed"):
            store.prove_consistency(checkpoint, store.checkpoint(KEY))


def test_the_tail_cut(signed: tuple[Path, Checkpoint]) -> None:
    directory, checkpoint = signed
    path = active_file(directory)
    path.write_bytes(b"".join(messages_of(path)[:-1]))
    assert_named(verify(directory), "commit 6 is missing")
    (path.parent / FILE_NAME).unlink()
    assert_named(verify(directory, checkpoint), "records that were signed are missing")
    with (
        eventstore.open(directory, read_only=True) as store,
        pytest.raises(errors.DataLossError, match="are missing"),
    ):
        store.prove(1, checkpoint)


def rewritten(
    directory: Path, forged: Path, change: Callable[[Commit], Sequence[Draft]], patch: Any
) -> None:
    """Another history under the same store id, with the same times."""
    original = DirectoryLog.open(directory, read_only=True)
    commits = list(original.commits())
    patch.setattr(creation, "uuid4", lambda: original.store_id)
    log = DirectoryLog.create(forged)
    for commit in commits:
        patch.setattr("time.time_ns", lambda at=commit.recorded_at: at * 1000)
        append(log, *change(commit))
        if commit.number == 3:
            log.seal()
    patch.undo()
    log.close()
    original.close()


def drafts_of(commit: Commit) -> list[Draft]:
    return [
        Draft(r.kind, r.entity_id, r.type_id, r.previous, r.payload or b"") for r in commit.records
    ]


@pytest.mark.parametrize("number", range(1, 7))
def test_the_whole_chain_recomputed_after_a_change(
    signed: tuple[Path, Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    directory, checkpoint = signed

    def change(commit: Commit) -> list[Draft]:
        if commit.number != number:
            return drafts_of(commit)
        return [draft(99), *drafts_of(commit)[1:]]

    rewritten(directory, tmp_path / "forged", change, monkeypatch)
    forged = tmp_path / "forged"
    assert verify(forged).ok
    assert_named(verify(forged, checkpoint), "history up to commit 6", "were changed since")
    with (
        eventstore.open(forged) as store,
        pytest.raises(errors.DataLossError, match="history was changed"),
    ):
        store.prove_consistency(checkpoint, store.checkpoint(KEY))


@pytest.mark.parametrize(
    "changed",
    [
        {"last_position": 5},
        {"last_commit": 2},
        {"first_recorded_at": 1},
        {"last_recorded_at": 1},
        {"tree_head": bytes(32).hex()},
        {"frontier": (bytes(32).hex(), bytes(32).hex())},
        {"frontier": ()},
        {"frontier": ("x", "y")},
        {"file_sha256": bytes(32).hex()},
        {"file": "0000000002.arrows"},
        {"first_position": 2},
        {"first_commit": 2},
        {"file_bytes": 1},
        {"number": 7},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_a_manifest_edited_with_its_checksum_mended(
    signed: tuple[Path, Checkpoint], changed: dict[str, Any]
) -> None:
    directory, checkpoint = signed
    manifest = stored_manifest(directory)
    edited = msgspec.structs.replace(manifest.segments[0], **changed)
    write_manifest(directory, msgspec.structs.replace(manifest, segments=(edited,)))
    assert_named(verify(directory, checkpoint))


@pytest.mark.parametrize("changed", [{"number": 7}, {"first_position": 6}, {"header_bytes": 8}])
def test_a_manifest_with_another_active_segment(
    signed: tuple[Path, Checkpoint], changed: dict[str, Any]
) -> None:
    directory, _ = signed
    manifest = stored_manifest(directory)
    edited = msgspec.structs.replace(manifest.active, **changed)
    write_manifest(directory, msgspec.structs.replace(manifest, active=edited))
    assert_named(verify(directory), "commit 4")


def test_a_manifest_without_a_segment(signed: tuple[Path, Checkpoint]) -> None:
    directory, checkpoint = signed
    manifest = stored_manifest(directory)
    write_manifest(directory, msgspec.structs.replace(manifest, segments=()))
    assert_named(verify(directory), "commit 1")
    assert_named(verify(directory, checkpoint))


def test_a_manifest_of_another_store(signed: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    directory, checkpoint = signed
    other = DirectoryLog.create(tmp_path / "other")
    other.close()
    manifest = stored_manifest(directory)
    write_manifest(directory, msgspec.structs.replace(manifest, store_id=other.store_id))
    assert_named(verify(directory), "was changed")
    with pytest.raises(errors.NotFoundError, match="of store"):
        verify(directory, checkpoint)
    (directory / "manifest.json").write_bytes(b"{}")
    report = verify_directory(directory)
    assert_named(report, "manifest", "damaged")


def test_a_checkpoint_signs_what_the_records_say_not_what_is_stored_of_them(
    signed: tuple[Path, Checkpoint],
) -> None:
    directory, checkpoint = signed

    def change(table: pa.Table) -> pa.Table:
        values = table["payload"].to_pylist()
        values[3] = draft(99).payload
        place = table.schema.get_field_index("payload")
        return table.set_column(place, table.schema.field("payload"), pa.array(values, pa.binary()))

    rewrite_sealed(directory, change)
    # The heads of every commit are those of before, and so is the cache of subtree heads.
    with eventstore.open(directory) as store:
        for moment in (store, store.as_of(store.log_position()), store.as_of(6)):
            with pytest.raises(errors.DataLossError, match="nothing is signed: the first"):
                moment.checkpoint(KEY)
        with pytest.raises(errors.DataLossError, match="nothing is signed: the first 12 records"):
            store.checkpoint(KEY, previous=checkpoint)
        assert store.as_of(2).checkpoint(KEY).size == 2


@pytest.mark.parametrize(
    ("column", "value"), [("kind", "artefact"), ("salt", None), ("payload", None)]
)
def test_nothing_is_signed_that_cannot_be_a_record(
    signed: tuple[Path, Checkpoint], column: str, value: Any
) -> None:
    directory, _ = signed
    change_value(directory, column, value)
    log = DirectoryLog.open(directory, read_only=True)
    with pytest.raises(errors.DataLossError, match="cannot be one"):
        signed_checkpoint(log, log.position, KEY)
    log.close()


def test_a_checkpoint_is_refused_that_does_not_begin_with_the_one_before(
    signed: tuple[Path, Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, checkpoint = signed
    with eventstore.open(directory) as store:
        # Opening it has put the system types.
        newer = store.checkpoint(KEY, previous=checkpoint)
        assert newer.size == store.log_position() > 12
        assert store.checkpoint(KEY, previous=newer).root == newer.root
        with pytest.raises(errors.InvalidArgumentError, match="of which 12 are to be signed"):
            store.as_of(12).checkpoint(KEY, previous=newer)
    forged = tmp_path / "forged"
    rewritten(
        directory,
        forged,
        lambda c: [draft(98), *drafts_of(c)[1:]] if c.number == 1 else drafts_of(c),
        monkeypatch,
    )
    assert verify(forged).ok
    with eventstore.open(forged) as store:
        assert store.checkpoint(KEY).size == store.log_position()
        for previous in (checkpoint, newer):
            with pytest.raises(errors.DataLossError, match="not what auditor signed on"):
                store.checkpoint(KEY, previous=previous)
    other = DirectoryLog.create(tmp_path / "other")
    append(other, draft(1))
    other.close()
    with (
        eventstore.open(tmp_path / "other") as store,
        pytest.raises(errors.NotFoundError, match="of store"),
    ):
        store.checkpoint(KEY, previous=checkpoint)


def test_a_checkpoint_is_refused_when_what_was_signed_is_missing(
    signed: tuple[Path, Checkpoint],
) -> None:
    directory, checkpoint = signed
    path = active_file(directory)
    path.write_bytes(b"".join(messages_of(path)[:-1]))
    (path.parent / FILE_NAME).unlink()
    with eventstore.open(directory, read_only=True) as store:
        assert store.checkpoint(KEY).size == 10
        with pytest.raises(errors.DataLossError, match="records that were signed are missing"):
            store.checkpoint(KEY, previous=checkpoint)


@pytest.mark.parametrize(
    "line", ["commit 5", "commit 7", "recorded-at 2026-11-20T08:00:00.000001Z"]
)
def test_a_checkpoint_that_states_another_commit_or_time(
    signed: tuple[Path, Checkpoint], line: str
) -> None:
    directory, checkpoint = signed
    lines = checkpoint.text.partition("\n\n")[0].split("\n")
    place = next(n for n, old in enumerate(lines) if old.split()[0] == line.split()[0])
    lines[place] = line
    changed = Checkpoint.parse(KEY.signed("\n".join(lines) + "\n"), KEY.verifier_key)
    assert_named(verify(directory, changed), "history up to commit 6", "auditor signed on")
    assert_named(verify(directory, changed, checkpoint), "history up to commit 6")
    assert_named(verify(directory, checkpoint, changed), "history up to commit 6")
    with (
        eventstore.open(directory) as store,
        pytest.raises(errors.DataLossError, match="not what auditor signed on"),
    ):
        store.checkpoint(KEY, previous=changed)


def test_a_checkpoint_of_half_a_commit(signed: tuple[Path, Checkpoint]) -> None:
    directory, checkpoint = signed
    with eventstore.open(directory) as store:
        record = next(store.log.commits(2)).records[0]
        heads = [*store.log.commits()]
    leaves = [leaf for commit in heads for leaf in leaf_hashes(checkpoint.store_id, commit.records)]
    body = (
        f"eventstore/{checkpoint.store_id}\n3\n{base64.b64encode(tree_head(leaves[:3])).decode()}\n"
        f"commit 2\nrecorded-at {moment_text(moment_of(record.recorded_at))}\n"
        f"signed-at {moment_text(moment_of(record.recorded_at))}\n"
    )
    half = Checkpoint.parse(KEY.signed(body), KEY.verifier_key)
    assert_named(verify(directory, half), "history up to commit 2")
    with (
        eventstore.open(directory) as store,
        pytest.raises(errors.DataLossError, match="not what auditor signed on"),
    ):
        store.checkpoint(KEY, previous=half)


@pytest.mark.parametrize(("stored", "forged"), [(-0.0, 0.0), (float("nan"), float("inf"))])
def test_a_double_changed_in_a_sealed_segment(tmp_path: Path, stored: float, forged: float) -> None:
    directory = tmp_path / "store"
    node = mlmd.Artifact(
        id=1, type_id=10, uri="", custom_properties={"x": mlmd.Value(double_value=stored)}
    )
    log = DirectoryLog.create(directory)
    append(log, Draft(kind_names.ARTIFACT, 1, 10, None, node.SerializeToString(deterministic=True)))
    log.seal()
    log.close()
    assert verify(directory).ok

    def change(table: pa.Table) -> pa.Table:
        ((name, value),) = table["custom_properties"][0].as_py()
        column = pa.array([[(name, value | {"double_value": forged})]], PROPERTIES_TYPE)
        place = table.schema.get_field_index("custom_properties")
        return table.set_column(place, table.schema.field(place), column)

    rewrite_sealed(directory, change)
    assert_named(verify(directory), "commit 1", "custom_properties")
