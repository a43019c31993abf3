"""The store's meaning in plain dictionaries, to compare the real one with."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from eventstore.proto import metadata_store_pb2 as mlmd


@dataclass
class Model:
    """What a store answers, as dictionaries by id. Nodes are kept as a get returns them."""

    artifacts: dict[int, mlmd.Artifact] = field(default_factory=dict)
    executions: dict[int, mlmd.Execution] = field(default_factory=dict)
    contexts: dict[int, mlmd.Context] = field(default_factory=dict)
    events: list[mlmd.Event] = field(default_factory=list)
    attributions: set[tuple[int, int]] = field(default_factory=set)
    associations: set[tuple[int, int]] = field(default_factory=set)
    parents: set[tuple[int, int]] = field(default_factory=set)

    def snapshot(self) -> Model:
        return copy.deepcopy(self)


def dump(store: Any, uris: list[str], names: list[str]) -> dict[str, Any]:
    """Every answer of a store, or of one as of a moment, in a form that can be compared."""
    artifacts, executions, contexts = (
        store.get_artifacts(),
        store.get_executions(),
        store.get_contexts(),
    )
    return {
        "artifacts": artifacts,
        "executions": executions,
        "contexts": contexts,
        "by id": store.get_artifacts_by_id([node.id for node in artifacts]),
        "by type": (
            store.get_artifacts_by_type("DataSet"),
            store.get_executions_by_type("Train"),
            store.get_contexts_by_type("Run"),
        ),
        "by uri": {uri: store.get_artifacts_by_uri(uri) for uri in uris},
        "by name": {
            name: (
                store.get_artifact_by_type_and_name("DataSet", name),
                store.get_execution_by_type_and_name("Train", name),
                store.get_context_by_type_and_name("Run", name),
            )
            for name in names
        },
        "events": (
            store.get_events_by_artifact_ids([node.id for node in artifacts]),
            store.get_events_by_execution_ids([node.id for node in executions]),
        ),
        "in contexts": [
            (
                store.get_artifacts_by_context(context.id),
                sorted(node.id for node in store.get_executions_by_context(context.id)),
                store.get_parent_contexts_by_context(context.id),
                store.get_children_contexts_by_context(context.id),
            )
            for context in contexts
        ],
        "types": (
            store.get_artifact_types(),
            store.get_execution_types(),
            store.get_context_types(),
        ),
    }


def expected(model: Model, uris: list[str], names: list[str], types: Any) -> dict[str, Any]:
    """The dump that a store with the model's content gives."""

    def sorted_nodes(nodes: dict[int, Any]) -> list[Any]:
        return [nodes[node_id] for node_id in sorted(nodes)]

    def named(nodes: dict[int, Any], name: str) -> Any:
        found = [n for n in nodes.values() if n.HasField("name") and n.name == name]
        return found[0] if found else None

    artifacts = sorted_nodes(model.artifacts)
    executions = sorted_nodes(model.executions)
    contexts = sorted_nodes(model.contexts)
    return {
        "artifacts": artifacts,
        "executions": executions,
        "contexts": contexts,
        "by id": artifacts,
        "by type": (artifacts, executions, contexts),
        "by uri": {uri: [node for node in artifacts if node.uri == uri] for uri in uris},
        "by name": {
            name: (
                named(model.artifacts, name),
                named(model.executions, name),
                named(model.contexts, name),
            )
            for name in names
        },
        "events": (
            sorted(model.events, key=lambda e: (e.artifact_id, e.execution_id, e.type)),
            sorted(model.events, key=lambda e: e.execution_id),
        ),
        "in contexts": [
            (
                [node for node in artifacts if (context.id, node.id) in model.attributions],
                [node.id for node in executions if (context.id, node.id) in model.associations],
                [c for c in contexts if (context.id, c.id) in model.parents],
                [c for c in contexts if (c.id, context.id) in model.parents],
            )
            for context in contexts
        ],
        "types": types,
    }
