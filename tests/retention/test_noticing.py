"""A process that only reads as of moments notices what others have erased."""

from __future__ import annotations

from pathlib import Path

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd


def test_a_store_as_of_a_moment_answers_no_longer_what_another_has_erased(tmp_path: Path) -> None:
    with (
        eventstore.open(tmp_path / "store") as eraser,
        eventstore.open(tmp_path / "store", read_only=True) as reader,
    ):
        type_id = eraser.put_artifact_type(mlmd.ArtifactType(name="Data"))
        (node_id,) = eraser.put_artifacts([mlmd.Artifact(type_id=type_id, name="ana")])
        then = reader.as_of(eraser.log_position())
        assert then.get_artifacts_by_id([node_id])[0].name == "ana"
        assert [node.name for node in then.get_artifacts()] == ["ana"]
        eraser.erase("artifact", node_id, reason="GDPR-17(1)(b)")
        assert then.get_artifacts_by_id([node_id])[0].name == ""
        assert [node.name for node in then.get_artifacts()] == [""]
        assert then.get_artifact_by_type_and_name("Data", "ana") is None
        sql = then.sql("SELECT name, erased_by FROM artifacts")
        assert sql.rows() == [(None, 1)]
