"""Small messages, drafts and logs for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import eventstore
from eventstore.log import Commit, DirectoryLog, Draft, Log
from eventstore.log import record as kind_names
from eventstore.log.acknowledged import FILE_NAME, read_acknowledged, write_acknowledged
from eventstore.log.erased import Erased
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION
from eventstore.metadata_store.opening import open_directory
from eventstore.projections import Projections
from eventstore.projections.index_tables import TABLES_OF
from eventstore.projections.limits import CandidateLimits, IndexLimits, Limits
from eventstore.projections.listing import Listing
from eventstore.projections.planning import Planner
from eventstore.projections.point_index import PointIndex
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention

ARTIFACTS, ARTIFACT_NAMES = TABLES_OF[ARTIFACT].stored, TABLES_OF[ARTIFACT].names


def memory_store() -> eventstore.MetadataStore:
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    return eventstore.MetadataStore(config)


def open_with(path: Path, *, read_only: bool = False, **index: int) -> eventstore.MetadataStore:
    """A store whose point index has other limits."""
    limits = Limits(index=IndexLimits(**index))
    engine = open_directory(path, read_only=read_only, limits=limits)
    return eventstore.MetadataStore._of(engine)


def put_types(store: eventstore.MetadataStore) -> tuple[int, int, int]:
    """An artifact type with a property of each kind, an execution type and a context type."""
    artifact_type = mlmd.ArtifactType(name="DataSet")
    for name, property_type in (
        ("int", mlmd.INT),
        ("double", mlmd.DOUBLE),
        ("string", mlmd.STRING),
        ("struct", mlmd.STRUCT),
        ("proto", mlmd.PROTO),
        ("bool", mlmd.BOOLEAN),
    ):
        artifact_type.properties[name] = property_type
    return (
        store.put_artifact_type(artifact_type),
        store.put_execution_type(mlmd.ExecutionType(name="Train")),
        store.put_context_type(mlmd.ContextType(name="Run")),
    )


def artifact(type_id: int, **fields: Any) -> mlmd.Artifact:
    """An artifact with a value of each kind; `fields` are set on top."""
    made = mlmd.Artifact(type_id=type_id, **fields)
    made.properties["int"].int_value = 7
    made.properties["double"].double_value = 0.1
    made.properties["string"].string_value = "ä"
    made.properties["bool"].bool_value = False
    made.custom_properties["note"].struct_value.update({"a": [1, None]})
    made.custom_properties["any"].proto_value.Pack(mlmd.Event(artifact_id=3))
    return made


def draft(entity_id: int, *, name: str | None = None, previous: int | None = None) -> Draft:
    """An artifact's draft, for tests of the log itself."""
    node = mlmd.Artifact(
        id=entity_id,
        type_id=10,
        uri=f"s3://{entity_id}",
        create_time_since_epoch=5,
        last_update_time_since_epoch=6,
    )
    if name is not None:
        node.name = name
    node.custom_properties["n"].int_value = entity_id
    payload = node.SerializeToString(deterministic=True)
    return Draft(kind_names.ARTIFACT, entity_id, 10, previous, payload)


def append(log: Log, *drafts: Draft, actor: str | None = "tester") -> Commit:
    return log.append(drafts, expected_position=log.position, actor=actor)


def append_erasure(
    log: Log, erased: Erased, *, stage: str = "REQUESTED", number: int = 1, **fields: Any
) -> Commit:
    """Append the record of a stage of an erasure; `fields` are further ones of its message."""
    message = retention.Erasure(
        id=number, stage=retention.Erasure.Stage.Value(stage), basis="GDPR-17-1-b", **fields
    )
    for first, last in erased.content:
        message.ranges.add(first_position=first, last_position=last, content=True)
    for first, last in erased.who:
        message.ranges.add(first_position=first, last_position=last, who=True)
    before = [
        record.position
        for commit in log.commits()
        for record in commit.records
        if (record.kind, record.entity_id) == (kind_names.ERASURE, number)
    ]
    previous = before[-1] if before else None
    return append(
        log, Draft(kind_names.ERASURE, number, None, previous, message.SerializeToString())
    )


NODE_KINDS = {kind.name: kind for kind in (ARTIFACT, EXECUTION, CONTEXT)}


def list_ids(projections: Projections, kind: str, **listing: Any) -> list[tuple[int, int]]:
    """The rows of a listing, by the names of its fields."""
    return projections.planner.find(Listing(NODE_KINDS[kind], **listing)).rows


def limited_planner(projections: Projections, **limits: int) -> Planner:
    """The planner of the projections from here on, with other limits."""
    log, tables = projections._log, projections.opened_tables
    few = CandidateLimits(**limits)
    projections._planner = Planner(log, lambda: projections.index, tables, few)
    return projections.planner


def rotate(log: DirectoryLog) -> None:
    """Close the active segment and begin the next one, with nothing sealed."""

    def begin_the_next() -> None:
        log._active.append_end_of_stream()
        log._start_next_segment()

    log._write(begin_the_next)


def acknowledge(directory: Path, segment: int, end: int) -> None:
    """Say that a segment is acknowledged up to a byte; of the tree, what was said before."""
    path = directory / "log" / FILE_NAME
    known = read_acknowledged(path)
    assert known is not None
    with path.open("rb+") as file:
        write_acknowledged(file.fileno(), segment, end, known.frontier())


def wait_until_written(index: PointIndex) -> None:
    """Wait until an index has written its frozen tails out, and merged what there is to merge."""
    index._writer.wait()
    index._merger.wait()
