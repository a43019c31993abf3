"""A run copied without what was erased holds the entries of one that is built from the log."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import given

from eventstore.log import Draft, MemoryLog
from eventstore.log.erased import Spans
from eventstore.log.kinds import ERASURE, NODE_KINDS_BY_NAME
from eventstore.projections import run_patching
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.index_tables import TABLES
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_building import built_run
from eventstore.projections.run_merging import CopiedTable
from eventstore.projections.run_writing import write_named
from eventstore.projections.sorted_run import SortedRun
from eventstore.proto import retention_pb2
from tests.property.projection_model import Model, commits_of_drafts

LIMITS = IndexLimits(written_rows_max=3)


def entries(run: SortedRun) -> dict[int, list[dict[str, Any]]]:
    """All of them, by table."""
    found = {}
    for table in filter(run.file.tables.layouts.__contains__, TABLES):
        copied = CopiedTable(run.file, table)
        found[table] = copied.next_rows(copied.rows).to_pylist()
        copied.check()
    return found


def erase(
    log: MemoryLog, number: int, content: list[int], who: list[int], *, replaced: bool
) -> None:
    """Record an erasure; with `replaced`, the first version has its own content again instead."""
    at = log.position + 1
    records = {record.position: record for commit in log.commits(0) for record in commit.records}
    erasable = [p for p in content if records[p].kind in NODE_KINDS_BY_NAME and records[p].payload]
    replaced = replaced and bool(erasable)
    ranges = [
        retention_pb2.ErasedRange(
            first_position=position,
            last_position=position,
            content=position in erasable,
            who=position in who,
            replaced_by=at + 1 if replaced and position == erasable[0] else 0,
        )
        for position in {*erasable, *who}
    ]
    stage = retention_pb2.Erasure.REQUESTED
    payload = retention_pb2.Erasure(id=number, stage=stage, ranges=ranges).SerializeToString()
    drafts = [Draft(ERASURE.name, number, None, None, payload)]
    if replaced:
        was = records[erasable[0]]
        assert was.payload is not None
        newest = max(
            p for p, r in records.items() if (r.kind, r.entity_id) == (was.kind, was.entity_id)
        )
        drafts.append(Draft(was.kind, was.entity_id, was.type_id, newest, was.payload))
    log.append(drafts, expected_position=log.position)


@given(
    st.lists(commits_of_drafts(), min_size=1, max_size=8),
    st.lists(
        st.tuples(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.booleans()),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 60),
)
def test_a_patched_run_is_what_is_built(commits: list[Any], erasures: list[Any], end: int) -> None:
    log, model = MemoryLog(), Model()
    for changes in commits:
        model.add(log.append(model.drafts(changes), expected_position=log.position))
    records = log.position
    first, last = 1 + end % records // 2, 1 + end % records
    with TemporaryDirectory() as folder:
        given_ = log, UUID(int=1), Path(folder), first, last, {}, LIMITS
        run = built_run(*given_)
        for number, (content, who, replaced) in enumerate(erasures, 1):
            chosen = [[1 + each % records for each in some] for some in (content, who)]
            erase(log, number, *map(sorted, map(set, chosen)), replaced=replaced)
            erased = ErasedRecords(log)
            run = run_patching.patched_run(log, run, LIMITS, erased, write_named)
            assert run is not None
            found = entries(run)
            built = built_run(*given_, ErasedRecords(log))
            assert found == entries(built)
            assert run.metadata == built.metadata


def test_a_run_of_which_much_was_erased_is_not_patched(tmp_path: Path) -> None:
    log, model = MemoryLog(), Model()
    count = 2 * run_patching._SPANS_MAX + 2
    changes = [("artifact", False, {"type_id": 1})] * count
    model.add(log.append(model.drafts(changes), expected_position=0))
    run = built_run(log, UUID(int=1), tmp_path, 1, count, {}, LIMITS)
    erase(log, 1, [*range(1, count, 2)], [], replaced=False)
    assert len(Spans.of((p, p) for p in range(1, count, 2)).firsts) > run_patching._SPANS_MAX
    assert run_patching.patched_run(log, run, LIMITS, ErasedRecords(log), write_named) is None
