"""A forger who knows the format: changes records and computes everything else again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet

import eventstore
from eventstore.log import Record
from eventstore.log.columns import RECORD_SCHEMA, decodes, derive
from eventstore.log.commit import records_of
from eventstore.log.creation import start_segment
from eventstore.log.leaf import leaf_hashes
from eventstore.log.manifest import stored_manifest, write_manifest
from eventstore.log.merkle import Frontier
from eventstore.log.sealing import ROWS_PER_GROUP
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention

_DICTIONARY_COLUMNS = ["kind", "type_id", "actor", "reason", "request_id", "version", "state"]

Records = list[Record]


def make_store(directory: Path) -> None:
    """A store with records of every kind, all of them in one sealed segment."""
    with eventstore.open(directory, actor="ana", reason="nightly") as store:
        artifact_type = mlmd.ArtifactType(name="Model", version="v1", external_id="t1")
        artifact_type.properties["n"] = mlmd.INT
        model = store.put_artifact_type(artifact_type)
        artifact_type.properties["x"] = mlmd.DOUBLE
        store.put_artifact_type(artifact_type, can_add_fields=True)
        data = store.put_artifact_type(mlmd.ArtifactType(name="Data", external_id="t2"))
        train = store.put_execution_type(mlmd.ExecutionType(name="Train"))
        run = store.put_context_type(mlmd.ContextType(name="Run"))
        artifacts = [
            mlmd.Artifact(type_id=model, name=f"m{n}", external_id=f"e{n}", uri=f"u{n}")
            for n in range(3)
        ]
        for artifact in artifacts:
            artifact.properties["n"].int_value = 7
            artifact.custom_properties["s"].string_value = "text"
        ids = store.put_artifacts([*artifacts, mlmd.Artifact(type_id=data)])
        (execution,) = store.put_executions([mlmd.Execution(type_id=train, name="x")])
        contexts = store.put_contexts(
            [mlmd.Context(type_id=run, name=name) for name in ("a", "b", "c")]
        )
        store.put_contexts([mlmd.Context(id=contexts[0], type_id=run, name="d")])
        store.put_contexts([mlmd.Context(id=contexts[1], type_id=run, name="a")])
        artifacts[0].id = ids[0]
        artifacts[0].properties["n"].int_value = 8
        store.put_artifacts([artifacts[0]])
        store.put_events(
            [mlmd.Event(artifact_id=i, execution_id=execution, type=mlmd.Event.OUTPUT) for i in ids]
        )
        store.put_attributions_and_associations(
            [mlmd.Attribution(context_id=c, artifact_id=ids[0]) for c in contexts],
            [mlmd.Association(context_id=c, execution_id=execution) for c in contexts],
        )
        store.put_parent_contexts(
            [mlmd.ParentContext(child_id=c, parent_id=contexts[0]) for c in contexts[1:]]
        )
        store.seal()


def sealed_path(directory: Path) -> Path:
    return directory / "log" / stored_manifest(directory).segments[0].file


def stored_records(directory: Path) -> Records:
    return [*records_of(parquet.read_table(sealed_path(directory)))]


def with_erasure(
    records: Sequence[Record],
    *,
    content: Sequence[int] = (),
    who: Sequence[int] = (),
    stage: str = "REQUESTED",
    **fields: Any,
) -> Records:
    """The records, and after them one of an erasure of some positions, in a commit of its own."""
    message = retention.Erasure(id=1, stage=retention.Erasure.Stage.Value(stage), **fields)
    for position in content:
        message.ranges.add(first_position=position, last_position=position, content=True)
    for position in who:
        message.ranges.add(first_position=position, last_position=position, who=True)
    last = records[-1]
    former = [r.position for r in records if (r.kind, r.entity_id) == ("erasure", message.id)]
    return [
        *records,
        Record(
            position=last.position + 1,
            commit=last.commit + 1,
            recorded_at=last.recorded_at,
            kind="erasure",
            entity_id=message.id,
            type_id=None,
            previous=former[-1] if former else None,
            actor="ben",
            reason=None,
            request_id=None,
            salt=hashlib.sha256(b"salt%d" % last.position).digest()[:16],
            payload=message.SerializeToString(deterministic=True),
            commitment=None,
            who_salt=hashlib.sha256(b"who%d" % last.position).digest()[:16],
            who_commitment=None,
        ),
    ]


def forge(
    directory: Path,
    change: Callable[[Records], Sequence[Record]],
    *,
    columns: dict[str, dict[int, Any]] | None = None,
    **options: Any,
) -> None:
    """Rewrite the sealed segment: hashes, derived columns, heads and manifest fit the records.

    `columns` are values by column and position to put in afterwards, `options` the writer's.
    """
    path = sealed_path(directory)
    before = parquet.read_table(path)
    records = [*change([*records_of(before)])]
    manifest = stored_manifest(directory)
    frontier = Frontier()
    heads: list[bytes | None] = []
    for record, following in zip(records, [*records[1:], None], strict=True):
        frontier.extend(leaf_hashes(manifest.store_id, [record]))
        ends = following is None or following.commit != record.commit
        heads.append(frontier.head() if ends else None)
    try:
        derived = derive([r.kind for r in records], [r.payload for r in records])
    except Exception:
        # As if what is no message was erased: no columns can be derived from it.
        read = [r.payload if decodes(r.kind, r.payload) else None for r in records]
        derived = derive([r.kind for r in records], read)
    values = {
        name: [getattr(record, name) for record in records] for name in Record.__struct_fields__
    } | {"tree_head": heads}
    arrays = []
    for field in RECORD_SCHEMA:
        column = values.get(field.name)
        if column is None:
            column = derived[field.name].to_pylist()
        for position, value in (columns or {}).get(field.name, {}).items():
            column[position - 1] = value
        arrays.append(pa.array(column, field.type))
    table = pa.Table.from_arrays(arrays, schema=RECORD_SCHEMA)
    metadata = {k: v for k, v in before.schema.metadata.items() if k.startswith(b"eventstore")}
    write(directory, table.replace_schema_metadata(metadata), **options)
    last = records[-1]
    mend_manifest(
        directory,
        last_position=last.position,
        last_commit=last.commit,
        first_recorded_at=records[0].recorded_at,
        last_recorded_at=last.recorded_at,
        tree_head=frontier.head().hex(),
        frontier=tuple(subtree.hex() for subtree in frontier.subtrees),
    )
    folder = path.parent
    for name in ("acknowledged", "commit-ends"):
        (folder / name).unlink(missing_ok=True)
    active = start_segment(folder, manifest.store_id, 2, first_position=last.position + 1)
    write_manifest(directory, msgspec.structs.replace(stored_manifest(directory), active=active))


def write(directory: Path, table: pa.Table, **options: Any) -> None:
    """Write the sealed segment's file as the store does, save for `options`."""
    settings: dict[str, Any] = {
        "compression": "zstd",
        "row_group_size": ROWS_PER_GROUP,
        "use_dictionary": _DICTIONARY_COLUMNS,
        "write_page_checksum": True,
    }
    parquet.write_table(table, sealed_path(directory), **settings | options)
    mend_manifest(directory)


def mend_manifest(directory: Path, **changes: Any) -> None:
    """Make the manifest's entry fit the sealed segment's file."""
    manifest = stored_manifest(directory)
    content = sealed_path(directory).read_bytes()
    entry = msgspec.structs.replace(
        manifest.segments[0],
        file_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
        **changes,
    )
    write_manifest(directory, msgspec.structs.replace(manifest, segments=(entry,)))
