"""Makes the small databases beside it: `.oracle/bin/python tests/data/make_databases.py`.

One holds every kind of value and link; the others are filled alike, except for what came with the
newest schema, and brought down to an older one.
"""

import sqlite3
from pathlib import Path

import ml_metadata as mlmd
from ml_metadata.metadata_store import mlmd_types
from ml_metadata.proto import metadata_store_pb2 as pb

FOLDER = Path(__file__).parent


def config_for(path):
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    return config


def fill(path, *, newest):
    store = mlmd.MetadataStore(config_for(path))
    dataset = pb.ArtifactType(
        name="DataSet", version="v1", description="rows", external_id="type-external-id"
    )
    dataset.base_type = mlmd_types.Dataset().system_type
    for name, kind in (
        ("int", pb.INT),
        ("double", pb.DOUBLE),
        ("string", pb.STRING),
        ("struct", pb.STRUCT),
    ):
        dataset.properties[name] = kind
    if newest:
        dataset.properties["proto"] = pb.PROTO
        dataset.properties["bool"] = pb.BOOLEAN
    dataset_id = store.put_artifact_type(dataset)
    plain_id = store.put_artifact_type(pb.ArtifactType(name="Plain"))
    train = pb.ExecutionType(name="Train", description="")
    train.base_type = mlmd_types.Train().system_type
    train.input_type.dict.properties["data"].simple.name = "DataSet"
    train.output_type.list.element.simple.name = "Plain"
    train.properties["p"] = pb.STRING
    train_id = store.put_execution_type(train)
    run_id = store.put_context_type(pb.ContextType(name="Run"))

    first = pb.Artifact(
        type_id=dataset_id,
        uri="s3://bucket/ä/数据",
        name="first",
        external_id="artifact-external-id",
        state=pb.Artifact.LIVE,
    )
    first.properties["int"].int_value = 2**63 - 1
    first.properties["double"].double_value = -0.5
    first.properties["string"].string_value = "naïve 🦆 'quoted' \"twice\""
    first.properties["struct"].struct_value.update({"a": [1, None, {"b": "c"}], "d": True})
    if newest:
        first.properties["proto"].proto_value.Pack(pb.Artifact(uri="inside"))
        first.properties["bool"].bool_value = False
        first.custom_properties["proto"].proto_value.Pack(pb.Event(type=pb.Event.INPUT))
        first.custom_properties["bool"].bool_value = True
    first.custom_properties["int"].int_value = -(2**63)
    first.custom_properties[""].string_value = ""
    first.custom_properties["a.b c"].double_value = 1e300
    first.custom_properties["struct"].struct_value.SetInParent()
    second = pb.Artifact(type_id=plain_id, name="")
    third = pb.Artifact(type_id=plain_id, uri="s3://bucket/ä/数据", state=pb.Artifact.REFERENCE)
    run = pb.Context(type_id=run_id, name="run", external_id="context-external-id")
    run.custom_properties["n"].int_value = 1
    execution = pb.Execution(
        type_id=train_id,
        name="fit",
        last_known_state=pb.Execution.COMPLETE,
        external_id="execution-external-id",
    )
    execution.properties["p"].string_value = "mlmd"
    path_event = pb.Event(type=pb.Event.INPUT, milliseconds_since_epoch=-5)
    path_event.path.steps.add().key = "data"
    path_event.path.steps.add().index = 0
    path_event.path.steps.add().key = ""
    execution_id, artifact_ids, (first_run,) = store.put_execution(
        execution, [(first, path_event), (second, pb.Event(type=pb.Event.OUTPUT))], [run]
    )
    (third_id,) = store.put_artifacts([third])
    (bare_id,) = store.put_executions([pb.Execution(type_id=train_id)])
    store.put_events(
        [
            pb.Event(type=pb.Event.PENDING_OUTPUT, artifact_id=third_id, execution_id=bare_id),
            pb.Event(type=pb.Event.OUTPUT, artifact_id=third_id, execution_id=execution_id),
            pb.Event(type=pb.Event.INPUT, artifact_id=artifact_ids[1], execution_id=bare_id),
        ]
    )
    parent_id, other_id = store.put_contexts(
        [pb.Context(type_id=run_id, name="parent"), pb.Context(type_id=run_id, name="other")]
    )
    store.put_parent_contexts(
        [
            pb.ParentContext(child_id=first_run, parent_id=parent_id),
            pb.ParentContext(child_id=first_run, parent_id=other_id),
            pb.ParentContext(child_id=parent_id, parent_id=other_id),
        ]
    )
    store.put_attributions_and_associations(
        [pb.Attribution(context_id=other_id, artifact_id=third_id)],
        [pb.Association(context_id=other_id, execution_id=bare_id)],
    )


def main():
    newest = FOLDER / "mlmd-v10.db"
    newest.unlink(missing_ok=True)
    fill(newest, newest=True)
    for version in range(9, -1, -1):
        older = FOLDER / f"mlmd-v{version}.db"
        older.unlink(missing_ok=True)
        fill(older, newest=False)
        mlmd.downgrade_schema(config_for(older), version)
    for path in sorted(FOLDER.glob("mlmd-v*.db")):
        with sqlite3.connect(path) as connection:
            connection.execute("VACUUM")
        print(path.name, path.stat().st_size)


main()
