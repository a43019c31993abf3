"""Large histories that are written as sealed segments are stores like others."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from benchmarks.large_history.making import make_store
from benchmarks.large_history.plan import History
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.benchmarks import BLOCK, RECORDS, SEED


def test_a_large_history_is_sound(store: eventstore.MetadataStore, tmp_path: Path) -> None:
    report = store.verify()
    assert (report.findings, report.records) == ([], RECORDS)
    # However it is written, the same arguments make the same history.
    again = make_store(tmp_path / "store", RECORDS, seed=SEED, block_records=BLOCK, processes=1)
    assert [segment.last_position for segment in again.segments] == [2_048, 4_096, 6_144, RECORDS]
    assert again.segments[-1].tree_head == report.tree_head


def test_what_records_refer_to_is_there_before_them(store: eventstore.MetadataStore) -> None:
    dangling = store.sql(
        """
        WITH firsts AS (
            SELECT kind, entity_id, min(position) AS since FROM records GROUP BY ALL
        ), ends AS (
            SELECT position, 'artifact' AS kind, artifact_id AS id FROM events
            UNION ALL SELECT position, 'execution', execution_id FROM events
            UNION ALL SELECT position, 'artifact', artifact_id FROM links
            UNION ALL SELECT position, 'execution', execution_id FROM links
            UNION ALL SELECT position, 'context', context_id FROM links
            UNION ALL SELECT position, 'context', parent_context_id FROM links
        )
        SELECT * FROM ends LEFT JOIN firsts ON ends.kind = firsts.kind AND id = entity_id
        WHERE id IS NOT NULL AND (since IS NULL OR since >= position)
        """
    )
    assert dangling.rows() == []


def test_the_store_holds_what_was_planned(store: eventstore.MetadataStore) -> None:
    planned = History(SEED, RECORDS, BLOCK).before[-1]
    found = store.sql(
        """
        SELECT (SELECT count(*) FROM commits), (SELECT count(*) FROM artifacts),
            (SELECT count(*) FROM executions), (SELECT count(*) FROM contexts),
            (SELECT count(*) FROM events)
        """
    ).rows()
    assert found == [
        (planned.commits, planned.artifacts, planned.executions, planned.contexts, planned.events)
    ]


def test_nodes_change_as_in_a_real_pipeline(store: eventstore.MetadataStore) -> None:
    states = store.sql(
        """
        SELECT type, string_agg(state, ' ' ORDER BY position) AS states
        FROM (FROM artifact_versions SELECT id, type, state, position
              UNION ALL FROM execution_versions SELECT -id, type, state, position)
        GROUP BY id, type
        """
    ).rows()
    ends = {("RUNNING",), ("RUNNING", "COMPLETE"), ("RUNNING", "FAILED")}
    live = {("LIVE",), ("PENDING", "LIVE")}
    assert {(name, tuple(said.split())) for name, said in states} == {
        *(("Train", states) for states in ends),
        *((name, states) for name in ("Ingest", "Evaluate") for states in ends if len(states) > 1),
        *(("Dataset", states) for states in live),
        ("Evaluation", ("LIVE",)),
        ("Model", ("PENDING", "LIVE")),
        ("Model", ("PENDING", "LIVE", "MARKED_FOR_DELETION")),
    } - {("Evaluate", ("RUNNING", "FAILED"))}


def test_it_is_put_to_like_any_other(directory: Path) -> None:
    with eventstore.open(directory, actor="somebody") as store:
        (model,) = store.get_artifacts(
            eventstore.ListOptions(limit=1, filter_query="type = 'Model' AND state = LIVE")
        )
        model.state = mlmd.Artifact.ABANDONED
        store.put_artifacts([model])
        assert store.get_artifacts_by_id([model.id])[0].state == mlmd.Artifact.ABANDONED
        newest = max(found.id for found in store.get_artifacts())
        (made,) = store.put_artifacts([mlmd.Artifact(type_id=model.type_id, name="a new one")])
        assert made == newest + 1


def test_a_history_has_room_for_what_all_begin_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1,000 records at least, not 999"):
        make_store(tmp_path / "store", 999)
