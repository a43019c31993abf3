"""The questions of analysts give what the store itself answers."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from benchmarks.analytics.__main__ import sealed_files
from benchmarks.analytics.engines import ENGINES, Rows
from benchmarks.analytics.questions import QUESTIONS
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.benchmarks import RECORDS


@pytest.fixture(scope="module")
def answers(
    directory: Path, store: eventstore.MetadataStore, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Rows]:
    files, records = sealed_files(directory)
    assert (records, files) == (RECORDS, [str(file) for file in store.segment_files()])
    ask, _ = ENGINES["duckdb"](files, tmp_path_factory.mktemp("scratch"))
    position = str(_half_way(store))
    return {asked.what: ask(asked.sql.replace("$position", position)) for asked in QUESTIONS}


def _half_way(store: eventstore.MetadataStore) -> int:
    query = f"SELECT max(last_position) FROM commits WHERE last_position <= {RECORDS // 2}"
    position: int = store.sql(query).rows()[0][0]
    return position


def test_each_question_has_an_answer(answers: dict[str, Rows]) -> None:
    assert len(answers) == 10
    assert all(answers.values())


def test_states_half_way_are_those_of_the_past(
    answers: dict[str, Rows], store: eventstore.MetadataStore
) -> None:
    past = store.sql(
        """
        SELECT type, state, count(*) FROM (
            SELECT type, state FROM artifacts UNION ALL SELECT type, state FROM executions
        ) GROUP BY ALL
        """,
        as_of=_half_way(store),
    )
    names = {"Dataset": mlmd.Artifact.State, "Model": mlmd.Artifact.State}
    names |= {"Evaluation": mlmd.Artifact.State}
    found = [
        (name, names.get(name, mlmd.Execution.State).Name(state), count)
        for name, state, count in answers["nodes by type and state as of half way"]
    ]
    assert sorted(found) == sorted(past.rows())


def test_what_datasets_led_to_is_what_events_say(
    answers: dict[str, Rows], store: eventstore.MetadataStore
) -> None:
    rows = answers["which datasets led to most models and evaluations, two hops on"]
    dataset, models, evaluations = rows[0]
    once = _made_of(store, {dataset})
    assert (models, evaluations) == (len(once), len(_made_of(store, once)))


def _made_of(store: eventstore.MetadataStore, artifacts: set[int]) -> set[int]:
    """The outputs of executions that have these inputs."""
    events = store.get_events_by_artifact_ids([*artifacts])
    executions = {event.execution_id for event in events if event.type == mlmd.Event.INPUT}
    return {
        event.artifact_id
        for event in store.get_events_by_execution_ids([*executions])
        if event.type == mlmd.Event.OUTPUT
    }
