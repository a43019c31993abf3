"""What a graph says of its nodes, which values make a run the one asked for, and moments."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types


def run(store: eventstore.MetadataStore, **value: Any) -> int:
    """An execution with a custom property `x`."""
    (kind,) = store.get_execution_types()[-1:]
    execution = mlmd.Execution(type_id=kind.id, last_known_state=mlmd.Execution.COMPLETE)
    execution.custom_properties["x"].MergeFrom(mlmd.Value(**value))
    return int(store.put_executions([execution])[0])


def test_a_run_is_found_by_values_of_the_same_kind(store: eventstore.MetadataStore) -> None:
    put_types(store)
    one = run(store, int_value=1)
    yes, no = run(store, bool_value=True), run(store, bool_value=False)
    zero = run(store, double_value=0.0)
    text = run(store, string_value="1")

    def found(value: Any) -> list[int]:
        runs = store.find_runs("Train", [], custom_properties={"x": value})
        return [entry.execution.id for entry in runs]

    assert found(1) == found(1.0) == [one]
    assert found(True) == [yes]
    assert found(False) == [no]
    assert found(0) == [zero]
    assert found("1") == [text]
    assert found(2) == found("") == []
    assert store.find_runs("Train", [], custom_properties={"y": 1}) == []
    assert store.find_runs("Train", [], properties={"x": 1}) == []


@pytest.mark.parametrize("state", [None, "UNKNOWN", "LIVE", "DELETED"])
@pytest.mark.parametrize("last_state", [None, "UNKNOWN", "NEW", "COMPLETE"])
def test_a_node_says_its_state(
    store: eventstore.MetadataStore, state: str | None, last_state: str | None
) -> None:
    data, train, _ = put_types(store)
    artifact, execution = mlmd.Artifact(type_id=data), mlmd.Execution(type_id=train, name="now")
    if state is not None:
        artifact.state = mlmd.Artifact.State.Value(state)
    if last_state is not None:
        execution.last_known_state = mlmd.Execution.State.Value(last_state)
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    store.put_execution(execution, [(artifact, event)], [])
    graph = store.lineage("artifact", 1)
    by_kind = {node.kind: node for node in graph.nodes}
    assert by_kind["artifact"].state == (state or "")
    assert by_kind["execution"].state == (last_state or "")
    assert by_kind["artifact"].label == ("DataSet", "artifact 1")
    assert by_kind["execution"].label == ("Train", "now")
    assert graph.to_mermaid().splitlines()[1:3] == [
        '  a1(["DataSet<br/>artifact 1"])',
        '  e1["Train<br/>now"]',
    ]


def test_moments_are_aware_and_in_utc(store: eventstore.MetadataStore) -> None:
    now = datetime.now(timezone.utc)
    data, _, run_type = put_types(store)
    store.put_artifacts([mlmd.Artifact(type_id=data)])
    store.put_contexts([mlmd.Context(type_id=run_type, name="c")])
    found = [commit.recorded_at for commit in store.changes(0)]
    found += [version.recorded_at for version in store.history("artifact", 1)]
    found += [version.recorded_at for version in store.context_history(1)]
    assert len(found) > 4
    for moment in found:
        assert moment.utcoffset() == timedelta()
        assert abs(moment - now) < timedelta(minutes=10)


def test_what_cannot_be_compared_is_said(store: eventstore.MetadataStore) -> None:
    data, _, _ = put_types(store)
    store.put_artifacts([mlmd.Artifact(type_id=data)] * 2)
    assert store.compare("artifact", 1, 2).differences == ()
    with pytest.raises(errors.InvalidArgumentError, match="'event' is no kind of node: use one of"):
        store.compare("event", 1, 2)
    with pytest.raises(errors.NotFoundError, match="3"):
        store.compare("artifact", 1, 3)
