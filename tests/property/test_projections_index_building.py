"""A run built column by column holds what is added record by record."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given

from eventstore.log import MemoryLog
from eventstore.log.columns import one_batch
from eventstore.log.kinds import EVENT, KINDS, NodeKind
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.index_entries import (
    add_entries,
    add_event_entries,
    new_node_adder,
)
from eventstore.projections.index_tables import PendingEntries, event_key, hash64, name_key
from eventstore.projections.run_building import (
    INDEXED_COLUMNS,
    hash64s,
    highest_ids,
    run_tables,
)
from tests.property.projection_model import Model, commits_of_drafts


@given(st.lists(commits_of_drafts(), min_size=1, max_size=8))
def test_built_runs_hold_the_entries_of_their_records(commits: list[Any]) -> None:
    log, model = MemoryLog(), Model()
    for changes in commits:
        model.add(log.append(model.drafts(changes), expected_position=log.position))
    records = one_batch(log.scan(0, None, INDEXED_COLUMNS))
    expected: dict[int, list[tuple[int, int, bytes]]] = {}
    for (table, key), entries in model.entries(log.position).items():
        expected.setdefault(table, []).extend((key, *entry) for entry in entries)
    built = {
        table: list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        for table, batch in run_tables(records, ErasedRecords(log)).items()
        if batch.num_rows
    }
    assert built == {
        table: sorted(rows, key=lambda row: row[:2]) for table, rows in expected.items()
    }
    assert highest_ids(records, {}) == model.highest


@given(commits_of_drafts())
def test_new_nodes_add_what_their_records_add(changes: list[Any]) -> None:
    added: PendingEntries = defaultdict(dict)
    expected: PendingEntries = defaultdict(dict)
    for position, draft in enumerate(Model().drafts(changes), start=1):
        kind, payload = KINDS[draft.kind], draft.payload
        if isinstance(kind, NodeKind) and draft.previous is None:
            node = kind.message.FromString(payload)
            add_entries(expected, kind, node, payload, position, True)
            new_node_adder(added, kind)(
                position,
                node.id,
                payload,
                name_key(node.type_id, node.name) if node.HasField("name") else None,
                node.external_id if node.HasField("external_id") else None,
                getattr(node, "uri", ""),
            )
    assert {table: found for table, found in added.items() if found} == expected


@given(commits_of_drafts())
def test_new_events_add_what_their_records_add(changes: list[Any]) -> None:
    added: PendingEntries = defaultdict(dict)
    expected: PendingEntries = defaultdict(dict)
    for position, draft in enumerate(Model().drafts(changes), start=1):
        if draft.kind == EVENT.name:
            event = EVENT.message.FromString(draft.payload)
            add_entries(expected, EVENT, event, draft.payload, position, True)
            ids = (event.artifact_id, event.execution_id)
            key = event_key(*ids, event.type)
            add_event_entries(added, draft.payload, position, *ids, key)
    assert added == expected


@given(st.lists(st.text(max_size=80)))
def test_hashes_of_columns_are_those_of_texts(texts: list[str]) -> None:
    assert hash64s(pa.array(texts, pa.utf8())).to_pylist() == [hash64(text) for text in texts]
