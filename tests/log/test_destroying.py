"""What becomes of the files of a log when records are destroyed, and of those who read them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import pyarrow.dataset as dataset
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import standalone_verifier
from eventstore.log import DirectoryLog, Draft, RewrittenFile, destroying, sealing
from eventstore.log.erased import Erased, Spans
from eventstore.log.manifest import file_name, read_manifest, sealed_name, write_manifest
from eventstore.log.verification import verify_directory
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.sql import views
from tests.builders import append, append_erasure, draft
from tests.stored_bytes import files_with

MARKER = b"Grace-Hopper"


def marked(number: int) -> Draft:
    """An artifact of which every text is somebody's name."""
    text = MARKER.decode()
    node = mlmd.Artifact(id=number, type_id=10, name=f"{text}{number}", uri=text, external_id=text)
    node.external_id = f"{text}{number}"
    node.properties[text].string_value = text
    node.custom_properties["note"].struct_value.update({text: [text]})
    node.custom_properties["any"].proto_value.Pack(mlmd.Event(path=mlmd.Event.Path()))
    payload = node.SerializeToString(deterministic=True)
    return Draft("artifact", number, 10, None, payload)


def at(*positions: int) -> Erased:
    spans = Spans.of((position, position) for position in positions)
    return Erased(spans, spans)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DirectoryLog]:
    """Two sealed segments of four records and an active one of three; 2, 7 and 10 are marked."""
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=4)
    for number in range(1, 12):
        if number in (2, 7, 10):
            append(log, marked(number), actor=MARKER.decode())
        else:
            append(log, draft(number, name=f"n{number}"))
        if number == 8:
            log.seal()
    yield log
    log.close()


def ids(log: DirectoryLog) -> list[int]:
    return [record.entity_id for commit in log.commits() for record in commit.records]


def erased_positions(log: DirectoryLog) -> list[int]:
    return [r.position for c in log.commits() for r in c.records if r.payload is None]


def test_no_byte_of_any_file_has_what_is_destroyed(log: DirectoryLog) -> None:
    assert len(files_with(log.directory, MARKER)) == 3
    log.destroy(at(2))
    assert len(files_with(log.directory, MARKER)) == 2
    log.destroy(at(7, 10))
    assert files_with(log.directory, MARKER) == []
    assert files_with(log.directory, b"s3://3") != []
    append_erasure(log, at(2, 7, 10))
    assert verify_directory(log.directory).ok


def test_files_take_the_place_of_others_under_new_names(log: DirectoryLog) -> None:
    before = read_manifest(log.directory)
    hashes = [segment.file_sha256 for segment in before.segments]
    files = log.destroy(at(2))
    first, second = read_manifest(log.directory).segments
    assert files == [RewrittenFile(1, hashes[0], first.file_sha256)]
    assert (first.file, first.rewritten_from) == ("0000000001-2.parquet", (hashes[0],))
    assert second == before.segments[1]
    kept = ("file", "file_bytes", "file_sha256", "rewritten_from")
    same = {name: getattr(first, name) for name in kept}
    assert msgspec.structs.replace(before.segments[0], **same) == first
    assert log.destroy(at(2)) == files
    assert (*log.destroy(at(2, 3)), *log.destroy(at(2))) == (
        *(RewrittenFile(1, files[0].new_sha256, log.sealed_files()[0].file_sha256),) * 2,
    )
    names = sorted(path.name for path in (log.directory / "log").iterdir())
    assert [name for name in names if name.endswith("parquet")] == [
        "0000000001-3.parquet",
        "0000000002.parquet",
    ]
    with eventstore.open(log.directory, read_only=True) as store:
        assert [path.name for path in store.segment_files()] == [
            "0000000001-3.parquet",
            "0000000002.parquet",
        ]


def test_a_segment_that_never_had_it_is_not_given(log: DirectoryLog) -> None:
    """As one that was made with commitments, by an older version or a forger."""
    log.destroy(at(2))
    manifest = read_manifest(log.directory)
    first, *others = manifest.segments
    (log.directory / "log" / first.file).rename(log.directory / "log" / sealed_name(1))
    first = msgspec.structs.replace(first, file=sealed_name(1), rewritten_from=())
    write_manifest(log.directory, msgspec.structs.replace(manifest, segments=(first, *others)))
    with closing(DirectoryLog.open(log.directory)) as other:
        assert other.destroy(at(2)) == []


def test_who_has_the_log_open_goes_on(log: DirectoryLog) -> None:
    readers = [DirectoryLog.open(log.directory, read_only=True) for _ in range(4)]
    writer = DirectoryLog.open(log.directory, segment_records_max=4)
    assert ids(readers[0]) == [*range(1, 12)]
    under_way = [readers[1].commits(), readers[1].scan(columns=["position"])]
    next(under_way[0])
    next(under_way[1])
    log.destroy(at(2, 7))
    assert [commit.number for commit in under_way[0]] == [*range(2, 12)]
    assert [p for batch in under_way[1] for p in batch["position"].to_pylist()] == [*range(5, 12)]
    for reader in (*readers, writer):
        assert ids(reader) == [*range(1, 12)]
        assert erased_positions(reader) == [2, 7]
        assert reader.dataset(11, ["position"]).to_table()["position"].to_pylist() == [
            *range(1, 12)
        ]
    append(writer, draft(12))
    writer.destroy(at(2, 3, 7))
    log.refresh()
    assert erased_positions(log) == [2, 3, 7]
    append(log, draft(13))
    assert read_manifest(log.directory).segments[0].file == "0000000001-3.parquet"
    for reader in (*readers, writer):
        reader.close()


def test_a_file_that_goes_as_it_is_opened_is_found_again(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(DirectoryLog.open(log.directory, read_only=True)) as reader:
        read = sealing.sealed_batches
        todo = [lambda: log.destroy(at(2)), lambda: log.destroy(at(7))]

        def late(path: Path, *arguments: object) -> object:
            if todo:
                todo.pop(0)()
            return read(path, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(sealing, "sealed_batches", late)
        assert ids(reader) == [*range(1, 12)]
        assert erased_positions(reader) == [2, 7]


def files_of(directory: Path) -> list[str]:
    segments = read_manifest(directory).segments
    return [str(directory / "log" / segment.file) for segment in segments if segment.sealed]


def test_whoever_reads_the_files_that_are_named_finds_each_record_once(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step at which anything changes on disk."""
    log.seal()
    seen: list[list[int]] = []
    for name in ("replace", "unlink", "fsync"):
        call = getattr(os, name)

        def observing(*arguments: object, call: Callable[..., object] = call) -> object:
            answer = call(*arguments)
            table = dataset.dataset(files_of(log.directory)).to_table(columns=["position"])
            seen.append(sorted(table["position"].to_pylist()))
            return answer

        monkeypatch.setattr(os, name, observing)
    log.destroy(at(2, 7, 10))
    assert len(seen) > 12
    assert all(positions == [*range(1, 12)] for positions in seen)


class Stopped(BaseException):
    """The process is gone."""


def test_what_was_interrupted_is_finished(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changes on disk from an operation on, not even by what cleans up."""
    append_erasure(log, at(2, 7, 10))
    log.close()
    called = {name: getattr(os, name) for name in ("replace", "unlink", "fsync", "ftruncate")}
    for number in count(0, 4):
        calls = count()

        def stopping(name: str, *arguments: object, calls: Iterator[int] = calls) -> object:
            if next(calls) >= number:  # noqa: B023
                raise Stopped
            return called[name](*arguments)

        dying = DirectoryLog.open(log.directory, segment_records_max=4)
        with monkeypatch.context() as patched:
            for name in called:
                patched.setattr(os, name, partial(stopping, name))
            with contextlib.suppress(Stopped):
                dying.destroy(at(2, 7, 10))
        dying.close()
        assert verify_directory(log.directory).ok
        if next(calls) <= number:
            break
    assert number > 8
    with closing(DirectoryLog.open(log.directory)) as again:
        assert len(again.destroy(at(2, 7, 10))) == 3
        assert erased_positions(again) == [2, 7, 10]
    assert files_with(log.directory, MARKER) == []
    assert not [*(log.directory / "log").glob("*.tmp")]


def test_what_a_crash_left_is_part_of_the_store_until_it_is_removed(
    log: DirectoryLog, tmp_path: Path
) -> None:
    append_erasure(log, at(2))
    log.seal()
    old = (log.directory / "log" / "0000000001.parquet").read_bytes()
    log.destroy(at(2))
    new = (log.directory / "log" / "0000000001-2.parquet").read_bytes()
    log.close()
    for name, content in (("0000000001.parquet", old), ("0000000001-3.parquet", new)):
        left = log.directory / "log" / name
        left.write_bytes(content)
        assert verify_directory(log.directory).ok
        records = [*standalone_verifier.stored_records(str(log.directory))]
        assert [r["position"] for r in records if r["payload"] is None] == [2]
        DirectoryLog.open(log.directory).close()
        assert not left.exists()
    for name, content in (
        *(("0000000001-3.parquet", b"x"), ("0000000001-9.parquet", new)),
        *(("0000000001-02.parquet", new), ("0000000009-2.parquet", new)),
    ):
        left = log.directory / "log" / name
        left.write_bytes(content)
        (finding,) = verify_directory(log.directory).findings
        assert str(left) in finding.what
        if name != "0000000001-9.parquet":
            with pytest.raises(standalone_verifier.Refused):
                [*standalone_verifier.stored_records(str(log.directory))]
        left.unlink()


def test_what_does_not_give_the_tree_head_is_not_rewritten(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_manifest(log.directory)
    monkeypatch.setattr(destroying, "concealed_batches", lambda batches, *_: _shifted(batches))
    with pytest.raises(errors.DataLossError, match="do not give its tree head"):
        log.destroy(at(2))
    assert read_manifest(log.directory) == before
    assert not [*(log.directory / "log").glob("*.tmp")]
    assert verify_directory(log.directory).ok


def _shifted(batches: Iterator[object]) -> Iterator[object]:
    import pyarrow.compute as pc

    for batch in batches:
        place = batch.schema.get_field_index("entity_id")  # type: ignore[attr-defined]
        changed = pc.add(batch.column(place), 1)  # type: ignore[attr-defined]
        yield batch.set_column(place, batch.schema.field(place), changed)  # type: ignore[attr-defined]


def test_a_damaged_or_missing_segment_is_not_rewritten(log: DirectoryLog) -> None:
    path = log.directory / "log" / "0000000001.parquet"
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(errors.DataLossError, match="is damaged"):
        log.destroy(at(2))
    path.unlink()
    with pytest.raises(errors.DataLossError, match="is missing"):
        log.destroy(at(2))
    path.write_bytes(content)
    assert len(log.destroy(at(2))) == 1


def test_only_who_may_write_destroys(log: DirectoryLog) -> None:
    with (
        closing(DirectoryLog.open(log.directory, read_only=True)) as reader,
        pytest.raises(errors.FailedPreconditionError, match="open it for writing to erase"),
    ):
        reader.destroy(at(2))


def test_puts_go_on_while_a_segment_is_rewritten(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for no more than to put the new file in place."""
    other = DirectoryLog.open(log.directory, segment_records_max=4)
    write = destroying.write_parquet
    put: list[int] = []

    def putting(*arguments: object) -> str:
        def work(one: DirectoryLog) -> None:
            one.refresh()
            put.append(append(one, draft(one.position + 1)).number)

        for one in (other, log):
            thread = threading.Thread(target=work, args=(one,))
            thread.start()
            thread.join()
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(destroying, "write_parquet", putting)
    log.destroy(at(2, 7))
    assert put == [12, 13, 14, 15]
    assert ids(log) == [*range(1, 16)]
    other.close()


@pytest.mark.parametrize("name", ["write_parquet", "_prepared", "_write"])
def test_two_that_destroy_at_once_lose_nothing(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Though the lock between them was removed."""
    other = DirectoryLog.open(log.directory, segment_records_max=4)
    owner: object = log if name == "_write" else destroying
    call = getattr(owner, name)
    todo = [lambda: other.destroy(at(3))]

    def overtaken() -> None:
        if todo:
            (log.directory / "sealing.lock").unlink()
            todo.pop()()

    def overtaken_after(*arguments: object) -> object:
        answer = call(*arguments)
        overtaken()
        return answer

    def overtaken_before(do: Callable[[], object]) -> object:
        overtaken()
        return call(do)

    monkeypatch.setattr(owner, name, overtaken_before if name == "_write" else overtaken_after)
    # The other one takes what is being written for a dead process's.
    may_fail = contextlib.nullcontext() if name == "_write" else pytest.raises(errors.NotFoundError)
    with may_fail:
        log.destroy(at(2))
    if name != "_write":
        log.destroy(at(2))
    assert erased_positions(log) == erased_positions(other) == [2, 3]
    assert read_manifest(log.directory).segments[0].file == "0000000001-3.parquet"
    assert not [*(log.directory / "log").glob("*.tmp")]
    other.close()


def test_backup_and_packing_take_rewritten_segments(log: DirectoryLog, tmp_path: Path) -> None:
    log.destroy(at(2, 7, 10))
    append_erasure(log, at(2, 7, 10))
    log.backup(tmp_path / "copy")
    assert files_with(tmp_path / "copy", MARKER) == []
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "copy")
    eventstore.downgrade_schema(config, 0)
    assert (tmp_path / "copy").is_file()
    eventstore.MetadataStore(config, True).close()
    with closing(DirectoryLog.open(tmp_path / "copy")) as copy:
        assert erased_positions(copy) == [2, 7, 10]
        assert copy.verify().ok
        assert copy.destroy(at(2, 3)) != []
        assert erased_positions(copy) == [2, 3, 7, 10]


def test_a_backup_goes_on_as_a_segment_is_rewritten(
    log: DirectoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstore.log import backup

    append_erasure(log, at(2, 7))
    copied = backup._copied_file
    todo = [lambda: log.destroy(at(2, 7))]

    def late(path: Path, target: Path) -> str:
        if todo:
            todo.pop()()
        return copied(path, target)

    monkeypatch.setattr(backup, "_copied_file", late)
    assert log.backup(tmp_path / "copy").ok
    with closing(DirectoryLog.open(tmp_path / "copy", read_only=True)) as copy:
        assert erased_positions(copy) == [2, 7]


@pytest.mark.parametrize(
    "change",
    [
        {"file": "0000000001.parquet"},
        {"file": "0000000001-3.parquet"},
        {"rewritten_from": ()},
        {"rewritten_from": ("0" * 63,)},
        {"rewritten_from": ("0" * 64, "0" * 64)},
        {"sealed": False, "file": "0000000001.arrows"},
    ],
    ids=str,
)
def test_a_manifest_names_what_its_rewriting_makes(
    log: DirectoryLog, change: dict[str, object]
) -> None:
    log.destroy(at(2))
    manifest = read_manifest(log.directory)
    first, *others = manifest.segments
    assert file_name(first) == first.file
    forged = (msgspec.structs.replace(first, **change), *others)
    write_manifest(log.directory, msgspec.structs.replace(manifest, segments=forged))
    with pytest.raises(errors.DataLossError, match="what it says of segment 1 cannot be"):
        read_manifest(log.directory)
    if change != {"rewritten_from": ("0" * 63,)}:
        assert verify_directory(log.directory).findings


def test_a_query_is_asked_again_where_a_file_was_rewritten(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with eventstore.open(log.directory, read_only=True) as store:
        given = store.log.dataset
        todo = [lambda: log.destroy(at(2, 7)), lambda: log.destroy(at(3))]

        def late(upto: int, columns: Sequence[str]) -> object:
            found = given(upto, columns)
            if todo:
                # After its files were looked at, and before they are read.
                todo.pop(0)()
            return found

        monkeypatch.setattr(store.log, "dataset", late)
        query = "SELECT count(*), count(actor) FROM records"
        assert store.sql(query).rows() == [(11, 8)]
        assert not todo
        todo.append(lambda: log.destroy(at(4)))
        monkeypatch.setattr(views, "_TRIES_MAX", 1)
        with pytest.raises(errors.AbortedError, match="rewritten all the time"):
            store.sql(query)


def test_longer_row_groups_than_are_written_now(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "ROWS_PER_GROUP", 3)
    log.destroy(at(2, 7, 10))
    assert files_with(log.directory, MARKER) == []
    assert verify_directory(log.directory).position == log.position
