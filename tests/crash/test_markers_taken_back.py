"""A segment's end-of-stream marker that cannot be made durable is taken back: it ends nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import directory_writer
from eventstore.proto import metadata_store_pb2 as mlmd


def put(store: eventstore.MetadataStore, name: str) -> int:
    (artifact_id,) = store.put_artifacts([mlmd.Artifact(type_id=10, name=name)])
    return artifact_id


def names(store: eventstore.MetadataStore) -> list[str]:
    return [artifact.name for artifact in store.get_artifacts()]


@pytest.mark.parametrize("is_seen_at_once", [True, False])
def test_what_comes_after_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_seen_at_once: bool
) -> None:
    path = tmp_path / "store"
    one, other = eventstore.open(path), eventstore.open(path)
    reader = eventstore.open(path, read_only=True)
    assert one.put_artifact_type(mlmd.ArtifactType(name="T")) == 10
    put(one, "first")
    sync = os.fsync

    def look_and_fail(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        assert names(other) == names(reader) == ["first"]
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if not is_seen_at_once:
        # The marker is durable, but no segment can follow.
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(directory_writer, "start_segment", full)
            with pytest.raises(errors.ResourceExhaustedError):
                one.seal()
        assert names(other) == names(reader) == ["first"]
    monkeypatch.setattr(os, "fsync", look_and_fail)
    with pytest.raises(errors.UnavailableError):
        one.seal() if is_seen_at_once else put(one, "refused")
    assert os.fsync is sync

    given = [put(one, f"after {number}") for number in range(3)]
    expected = ["first", *(f"after {number}" for number in range(3))]
    assert names(reader) == expected
    assert put(other, "last") == given[-1] + 1
    for store in (one, other, reader):
        assert names(store) == [*expected, "last"]
        store.close()
    with eventstore.open(path) as again:
        assert names(again) == [*expected, "last"]
        assert again.verify().ok
