"""Reads of now share a state only as long as nothing was put."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store


def test_a_state_is_kept_until_something_is_put() -> None:
    store = memory_store()
    first = store._engine.snapshot()
    assert store._engine.snapshot() is first
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    second = store._engine.snapshot()
    assert second is not first
    assert (first.position, second.position) == (store.log_position() - 1, store.log_position())
    assert store._engine.snapshot(as_of=second.position) is not second
    assert store.put_artifacts([mlmd.Artifact(type_id=type_id)]) == [1]
    assert store.get_artifacts_by_id([1])


def test_a_put_that_is_in_the_log_alone_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        assert store.get_artifacts_by_id([1]) == []
        projections = store._engine.projections
        add, is_appended, may_fold = projections.add, threading.Event(), threading.Event()

        def add_late(*arguments: Any) -> None:
            is_appended.set()
            assert may_fold.wait(60)
            add(*arguments)

        monkeypatch.setattr(projections, "add", add_late)
        putting = threading.Thread(
            target=lambda: store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        )
        putting.start()
        try:
            assert is_appended.wait(60)
            assert len(store.get_artifacts_by_id([1])) == 1
        finally:
            may_fold.set()
            putting.join()
        assert len(store.get_artifacts_by_id([1])) == 1


def test_a_state_of_an_index_that_was_built_again_is_not_kept(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        before = store._engine.snapshot()
        store.rebuild()
        after = store._engine.snapshot()
        assert after.index is store._engine.projections.index
        assert (after.position, after is before) == (before.position, False)


def test_what_another_opening_puts_is_seen(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as one, eventstore.open(tmp_path / "store") as other:
        type_id = one.put_artifact_type(mlmd.ArtifactType(name="T"))
        for number in range(1, 5):
            assert [*map(len, (one.get_artifacts(), other.get_artifacts()))] == [number - 1] * 2
            one.put_artifacts([mlmd.Artifact(type_id=type_id)])
            assert len(other.get_artifacts_by_id([number])) == 1
