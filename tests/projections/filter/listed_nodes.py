"""The nodes that the tests of filters list."""

from __future__ import annotations

from typing import Any

from eventstore.proto import metadata_store_pb2 as mlmd


def put_nodes(made: Any) -> None:
    """Five artifacts, three executions and three contexts of all sorts."""
    kinds = {"i": mlmd.INT, "d": mlmd.DOUBLE, "s": mlmd.STRING, "b": mlmd.BOOLEAN}
    plain = made.put_artifact_type(mlmd.ArtifactType(name="AT", properties=kinds))
    other = made.put_artifact_type(mlmd.ArtifactType(name="AT2", version="v1"))
    step = made.put_execution_type(mlmd.ExecutionType(name="ET"))
    group = made.put_context_type(mlmd.ContextType(name="CT"))
    value = mlmd.Value
    states = mlmd.Artifact
    made.put_artifacts(
        [
            mlmd.Artifact(
                type_id=plain,
                name="Foo",
                uri="/data/a",
                state=states.LIVE,
                properties={
                    "i": value(int_value=1),
                    "d": value(double_value=1.5),
                    "s": value(string_value="abc"),
                    "b": value(bool_value=True),
                },
                custom_properties={"i": value(int_value=10), "MyProp": value(int_value=1)},
            ),
            mlmd.Artifact(
                type_id=plain,
                name="foobar",
                uri="/data/b",
                state=states.PENDING,
                properties={
                    "i": value(int_value=2),
                    "d": value(double_value=2.0),
                    "s": value(string_value="Abd"),
                    "b": value(bool_value=False),
                },
                custom_properties={"mixed": value(string_value="7")},
            ),
            mlmd.Artifact(
                type_id=other,
                name="bar_100%",
                state=states.ABANDONED,
                custom_properties={
                    "mixed": value(int_value=7),
                    "a:b": value(int_value=10),
                    "big": value(int_value=2**53 + 1),
                },
            ),
            mlmd.Artifact(type_id=other),
            mlmd.Artifact(type_id=other, name="a\\b", uri="O'Brien", state=states.REFERENCE),
        ]
    )
    made.put_executions(
        [
            mlmd.Execution(type_id=step, name="e1", last_known_state=mlmd.Execution.RUNNING),
            mlmd.Execution(type_id=step, last_known_state=mlmd.Execution.COMPLETE),
            mlmd.Execution(type_id=step),
        ]
    )
    made.put_contexts([mlmd.Context(type_id=group, name=name) for name in ("c1", "c2", "c3")])
    made.put_parent_contexts(
        [
            mlmd.ParentContext(child_id=1, parent_id=2),
            mlmd.ParentContext(child_id=2, parent_id=3),
        ]
    )
    made.put_attributions_and_associations(
        [
            mlmd.Attribution(context_id=context, artifact_id=artifact)
            for context, artifact in ((1, 1), (1, 2), (2, 1))
        ],
        [mlmd.Association(context_id=1, execution_id=1)],
    )
    event = mlmd.Event
    made.put_events(
        [
            event(artifact_id=1, execution_id=1, type=event.INPUT),
            event(artifact_id=2, execution_id=1, type=event.OUTPUT),
            event(artifact_id=1, execution_id=2, type=event.DECLARED_INPUT),
            event(artifact_id=3, execution_id=2, type=event.PENDING_OUTPUT),
        ]
    )
