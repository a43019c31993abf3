"""What a log in a directory does beyond what every log does."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from tests.builders import append, draft


def test_two_handles_share_one_directory(tmp_path: Path) -> None:
    first = DirectoryLog.create(tmp_path / "store", segment_records_max=3)
    second = DirectoryLog.open(tmp_path / "store", segment_records_max=3)
    for number in range(1, 12):
        writer, reader = (first, second) if number % 2 else (second, first)
        writer.refresh()
        append(writer, draft(number))
        assert reader.refresh()
        assert reader.position == number
    assert not first.refresh()
    first.seal()
    assert [record.entity_id for c in second.commits() for record in c.records] == list(
        range(1, 12)
    )
    first.close()
    second.close()


def test_sealed_segment_is_plain_parquet(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1, name="one"))
    log.seal()
    (sealed, active) = log.segments()
    assert (sealed.state, active.state) == ("sealed", "active")
    assert sealed.path is not None
    (row,) = parquet.read_table(sealed.path).to_pylist()
    assert row["name"] == "one"
    assert row["custom_properties"] == [
        (
            "n",
            {
                "int_value": 1,
                "double_value": None,
                "string_value": None,
                "bool_value": None,
                "struct_value": None,
                "proto_value": None,
            },
        )
    ]
    assert isinstance(row["recorded_at"], datetime)
    assert row["recorded_at"].tzinfo == timezone.utc or row["recorded_at"].utcoffset() is not None
    log.close()


def test_a_read_only_log_takes_no_appends(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFoundError, match="no store at"):
        DirectoryLog.open(tmp_path / "store", read_only=True)
    writer = DirectoryLog.create(tmp_path / "store")
    append(writer, draft(1))
    writer.close()
    files = sorted(path.name for path in (tmp_path / "store").rglob("*"))
    reader = DirectoryLog.open(tmp_path / "store", read_only=True)
    assert reader.position == 1
    with pytest.raises(errors.FailedPreconditionError, match="read only"):
        append(reader, draft(2))
    reader.close()
    assert sorted(path.name for path in (tmp_path / "store").rglob("*")) == files


def test_creating_refuses_what_is_not_empty(tmp_path: Path) -> None:
    DirectoryLog.create(tmp_path / "store").close()
    with pytest.raises(errors.AlreadyExistsError, match="there is a store"):
        DirectoryLog.create(tmp_path / "store")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.FailedPreconditionError, match=r"thesis\.txt"):
        DirectoryLog.create(tmp_path / "other")


def test_a_store_without_its_manifest_is_not_created_over(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.close()
    (tmp_path / "store" / "manifest.json").unlink()
    with pytest.raises(errors.DataLossError, match=r"without its manifest\.json"):
        DirectoryLog.create(tmp_path / "store")
    assert (tmp_path / "store" / "log" / "0000000001.arrows").exists()


def test_an_interrupted_creation_is_repeated(tmp_path: Path) -> None:
    DirectoryLog.create(tmp_path / "store").close()
    (tmp_path / "store" / "manifest.json").unlink()
    (tmp_path / "store" / "log" / "acknowledged").unlink()
    log = DirectoryLog.create(tmp_path / "store")
    assert (log.position, append(log, draft(1)).last_position) == (0, 1)
    assert log.verify().ok
    log.close()


def test_a_newer_format_is_refused_in_one_line(tmp_path: Path) -> None:
    DirectoryLog.create(tmp_path / "store").close()
    manifest = tmp_path / "store" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["format_version"] = 4
    manifest.write_text(json.dumps(content))
    with pytest.raises(errors.FailedPreconditionError, match="format version 4") as raised:
        DirectoryLog.open(tmp_path / "store")
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-40],
        lambda text: text.replace('"generation":1', '"generation":7'),
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("created_at", "created_by"),
    ],
)
def test_a_corrupt_manifest_is_named(tmp_path: Path, damage: Callable[[str], str]) -> None:
    DirectoryLog.create(tmp_path / "store").close()
    manifest = tmp_path / "store" / "manifest.json"
    manifest.write_text(damage(manifest.read_text()))
    with pytest.raises(errors.DataLossError, match=r"manifest\.json is damaged"):
        DirectoryLog.open(tmp_path / "store")


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        write(descriptor, data[:100], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        with pytest.raises(errors.ResourceExhaustedError, match="No space left"):
            append(log, draft(2))
    assert append(log, draft(2)).last_position == 2
    assert log.verify().ok
    log.close()
    with DirectoryLogContext(tmp_path / "store") as reopened:
        assert reopened.position == 2


def test_after_a_failed_sync_the_handle_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", failing)
        with pytest.raises(errors.UnavailableError, match="reopen"):
            append(log, draft(2))
    with pytest.raises(errors.UnavailableError, match="reopen"):
        append(log, draft(2))
    log.close()
    with DirectoryLogContext(tmp_path / "store") as reopened:
        assert reopened.position == 1
        append(reopened, draft(2))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")
def test_no_permission_is_said(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(errors.PermissionDeniedError):
        DirectoryLog.create(tmp_path / "closed" / "store")


def test_no_permission_is_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", forbidden)
    with pytest.raises(errors.PermissionDeniedError, match="Permission denied"):
        DirectoryLog.create(tmp_path / "store")


def test_a_forked_child_writes_with_a_lock_of_its_own(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    child = os.fork()
    if child == 0:
        append(log, draft(2))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    log.refresh()
    append(log, draft(3))
    assert log.position == 3
    assert log.verify().ok
    log.close()


class DirectoryLogContext:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> DirectoryLog:
        self._log = DirectoryLog.open(self._directory)
        return self._log

    def __exit__(self, *_: object) -> None:
        self._log.close()


@pytest.mark.parametrize("others", [(), ("",), ("~",), ("", "~")])
def test_long_values_are_sealed_and_verify(tmp_path: Path, others: tuple[str, ...]) -> None:
    # Parquet states no limit that is longer than 4 KiB, the other one all the same.
    log = DirectoryLog.create(tmp_path / "store")
    for entity_id, name in enumerate((*others, "m" * 5_000), 1):
        append(log, draft(entity_id, name=name))
    log.seal()
    assert log.segments()[0].state == "sealed"
    assert log.verify().findings == []
    log.close()
