"""A put makes way for the work of the background once it is durable and holds nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import putting


@pytest.mark.parametrize("conflicts_before_reserving", [3, 0])
def test_a_put_that_rests_keeps_nobody_from_putting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflicts_before_reserving: int
) -> None:
    monkeypatch.setattr(putting, "_CONFLICTS_BEFORE_RESERVING", conflicts_before_reserving)
    path = tmp_path / "store"
    with eventstore.open(path) as store, eventstore.open(path) as other:
        kind, rests = mlmd.ArtifactType(name="T"), list[int]()
        type_id = store.put_artifact_type(kind)

        def put_meanwhile() -> None:
            monkeypatch.setattr(pacing, "rest", rests.append)
            store.put_artifacts([mlmd.Artifact(type_id=type_id)])
            other.put_artifacts([mlmd.Artifact(type_id=type_id)])

        def rest(records: int) -> None:
            rests.append(records)
            thread = threading.Thread(target=put_meanwhile, daemon=True)
            thread.start()
            thread.join(30)
            assert not thread.is_alive()

        pacing = store._engine.projections.pacing
        monkeypatch.setattr(pacing, "rest", rest)
        assert store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(3)]) == [1, 2, 3]
        assert [artifact.id for artifact in store.get_artifacts()] == [1, 2, 3, 4, 5]
        # Nothing is appended.
        store.put_artifact_type(kind)
        assert rests == [3, 1]
