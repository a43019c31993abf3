"""The store that the page's tests look at tells the story that they ask about."""

from __future__ import annotations

import eventstore
from tests.page.store_of_runs import REASON, RUNS, MadeStore


def test_it_has_what_the_five_questions_ask_for(runs: MadeStore) -> None:
    with eventstore.open(runs.path, read_only=True) as store:
        assert len(store.get_contexts_by_type("PipelineRun")) == RUNS
        pushes = store.get_executions_by_type("Push")
        assert max(push.id for push in pushes) == runs.push
        versions = store.history("artifact", runs.bad_dataset)
        assert [version.actor for version in versions] == ["nightly", "validator", "data-quality"]
        assert (versions[-1].position, versions[-1].reason) == (runs.bad_position, REASON)
        upstream = store.upstream("artifact", runs.pushed_model)
        assert runs.bad_dataset in {node.id for node in upstream.nodes if node.kind == "artifact"}
        [tombstone] = store.get_artifacts_by_id([runs.erased_dataset])
        assert tombstone.custom_properties["erased_by"].int_value == 1
        assert [hold.stage for hold in store.holds()] == ["placed", "released"]
