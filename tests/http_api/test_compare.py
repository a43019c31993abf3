"""Several nodes side by side, and the points of plots."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.http_api import points as plotted
from eventstore.http_api.compare import compare
from eventstore.http_api.compare_routes import CompareQuery, chosen_nodes
from eventstore.http_api.points import points
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.http_api.test_commits import source_of


def told(found: Any) -> dict[str, dict[str, tuple[list[Any], bool]]]:
    return {
        section.name: {
            field.name: (
                [None if cell is None else cell.value for cell in field.cells],
                field.is_equal,
            )
            for field in section.fields
        }
        for section in found.sections
    }


def test_models_bring_settings_and_inputs(small: eventstore.MetadataStore) -> None:
    found = compare(source_of(small), "artifact", [4, 2, 8])
    assert [node.name for node in found.nodes] == ["model-01", "model-00", "model-03"]
    assert told(found) == {
        "Inputs": {"Data": (["data-01", "data-00", "data-03"], False)},
        "Settings": {"rate": ([0.05, 0.1, 0.1], False), "state": (["COMPLETE"] * 3, True)},
        "Fields": {
            "accuracy": ([0.51, 0.5, 0.53], False),
            "name": (["model-01", "model-00", "model-03"], False),
            "state": (["LIVE"] * 3, True),
            "type": (["Model"] * 3, True),
            "uri": ([""] * 3, True),
        },
    }
    (rate,) = [f for s in found.sections for f in s.fields if f.name == "rate"]
    assert [(cell.kind, cell.id) for cell in rate.cells if cell] == [
        ("execution", 2),
        ("execution", 1),
        ("execution", 4),
    ]


def test_fields_that_one_node_lacks_are_missing(small: eventstore.MetadataStore) -> None:
    said = told(compare(source_of(small), "artifact", [1, 9]))["Fields"]
    assert said["state"] == (["MARKED_FOR_DELETION", None], False)
    assert said["custom_properties.quality"] == (["bad 0", None], False)
    then = told(compare(source_of(small.as_of(100)), "artifact", [1, 9]))["Fields"]
    assert "state" not in then


def test_own_fields_are_those_of_the_store(small: eventstore.MetadataStore) -> None:
    both = small.compare("artifact", 4, 8)
    said = told(compare(source_of(small), "artifact", [4, 8]))["Fields"]
    assert {name.removeprefix("properties."): value for name, value in said.items()} == {
        difference.field.removeprefix("properties."): (
            [difference.left, difference.right],
            difference.is_equal,
        )
        for difference in both.fields
    } | {"type": (["Model", "Model"], True)}


def test_runs_are_compared_by_their_steps() -> None:
    with eventstore.open("memory://") as store:
        data = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        metrics = store.put_artifact_type(
            mlmd.ArtifactType(name="Metrics", properties={"loss": mlmd.DOUBLE})
        )
        train = store.put_execution_type(
            mlmd.ExecutionType(name="Train", properties={"rate": mlmd.DOUBLE})
        )
        run = store.put_context_type(mlmd.ContextType(name="Run"))
        for number in (1, 2):
            execution = mlmd.Execution(type_id=train)
            execution.properties["rate"].double_value = number / 10
            made = mlmd.Artifact(type_id=metrics, name=f"m{number}")
            made.properties["loss"].double_value = number
            store.put_lineage_subgraph(
                [execution],
                [mlmd.Artifact(type_id=data, name=f"d{number}"), made],
                [mlmd.Context(type_id=run, name=f"r{number}")],
                [
                    (0, 0, mlmd.Event(type=mlmd.Event.INPUT)),
                    (0, 1, mlmd.Event(type=mlmd.Event.OUTPUT)),
                ],
            )
        source = source_of(store)
        runs = told(compare(source, "context", [1, 2]))
        assert runs["Inputs"] == {"Train.Data": (["d1", "d2"], False)}
        assert runs["Settings"] == {"Train.rate": ([0.1, 0.2], False)}
        assert runs["Metrics"] == {"Metrics.loss": ([1.0, 2.0], False)}
        # Of a dataset, what was measured of all that was made of it.
        assert told(compare(source, "artifact", [1, 3]))["Metrics"]["loss"][0] == [1.0, 2.0]
        assert told(compare(source, "execution", [1, 2]))["Metrics"]["loss"][0] == [1.0, 2.0]


@pytest.mark.parametrize("ids", [[1], [1, 1], [*range(1, 22)]])
def test_two_to_twenty_are_compared(small: eventstore.MetadataStore, ids: list[int]) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="2 to 20"):
        compare(source_of(small), "artifact", ids)
    with pytest.raises(errors.NotFoundError):
        compare(source_of(small), "artifact", [1, 99])


@pytest.mark.parametrize(
    "query", [CompareQuery(), CompareQuery("1,2", "3"), CompareQuery("1,x"), CompareQuery("-1,2")]
)
def test_what_names_no_nodes_is_refused(query: CompareQuery) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        chosen_nodes(query)


def test_points_are_sampled_alike(
    small: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(small)
    models = small.get_artifacts_by_type("Model")
    found = points(source, "artifact", "Model", "created_at", "properties.accuracy")
    assert (found.count, found.is_sampled) == (12, False)
    assert list(zip(found.ids, found.x, found.y, strict=True)) == [
        (one.id, one.create_time_since_epoch, one.properties["accuracy"].double_value)
        for one in models
    ]
    monkeypatch.setattr(plotted, "POINTS_MAX", 4)
    some = points(source, "artifact", "Model", "created_at", "properties.accuracy")
    assert (some.count, some.is_sampled) == (12, True)
    assert set(some.ids) < set(found.ids)
    for field in ("name", "properties."):
        with pytest.raises(errors.InvalidArgumentError, match="cannot be plotted"):
            points(source, "artifact", "Model", field, "created_at")


def test_points_lie_somewhere(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        made = mlmd.ArtifactType(name="M", properties={"loss": mlmd.DOUBLE})
        type_id = store.put_artifact_type(made)
        for value in (1.5, math.nan, -math.inf, 0.5):
            artifact = mlmd.Artifact(type_id=type_id)
            artifact.properties["loss"].double_value = value
            store.put_artifacts([artifact])
        found = points(source_of(store), "artifact", "M", "created_at", "properties.loss")
    assert (found.y, found.count, found.left_out) == ([1.5, 0.5], 4, 2)
