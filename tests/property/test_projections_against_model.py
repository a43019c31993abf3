"""State machine: whatever becomes of its files, a log's projections are those of its records."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventstore.log import DirectoryLog
from eventstore.log import record as kind_names
from eventstore.log.compacting import Target
from eventstore.projections import Projections, table_writing
from eventstore.projections.index_tables import TABLES
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.projections.listing import ALL_NODES, InContext
from eventstore.projections.table_changes import NODE_TABLES
from tests.builders import list_ids
from tests.property.projection_model import Model, commits_of_drafts
from tests.shares import is_whole

ORDERS = {
    "id": "id",
    "create_time": "create_time_since_epoch",
    "update_time": "last_update_time_since_epoch",
}
FRACTIONS = st.floats(0, 1)


# Named, since Hypothesis parses the source of a lambda, which CPython 3.11 does wrongly while
# garbage is collected.
def _has_other(machine: Any) -> bool:
    return machine.other is not None


SMALL = Limits(
    index=IndexLimits(
        tail_records_max=9, built_records_max=30, run_records_max=80, closing_records_min=3
    ),
    background_records=7,
)


class ProjectionsAgainstModel(RuleBasedStateMachine):
    @initialize()
    def set_up(self) -> None:
        self.directory = Path(tempfile.mkdtemp()) / "store"
        DirectoryLog.create(self.directory).close()
        self.model = Model()
        self.other: tuple[DirectoryLog, Projections] | None = None
        self.open()

    def open(self) -> None:
        self.log = DirectoryLog.open(self.directory, segment_records_max=20)
        self.projections = Projections(self.log, SMALL)

    def close(self) -> None:
        self.projections.close()
        self.log.close()

    @rule(changes=commits_of_drafts(), is_added=st.booleans())
    def append(self, changes: Any, is_added: bool) -> None:
        commit = self.log.append(self.model.drafts(changes), expected_position=self.log.position)
        self.model.add(commit)
        if is_added:
            self.projections.add(commit)

    @rule()
    def seal(self) -> None:
        self.log.seal()

    @rule(records=st.sampled_from((45, 1_000)))
    def compact(self, records: int) -> None:
        self.log.compact(Target(records))

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @rule()
    def rebuild(self) -> None:
        self.close()
        shutil.rmtree(self.directory / "projections", ignore_errors=True)
        self.open()

    @rule(fraction=FRACTIONS, kept=FRACTIONS)
    def cut_a_run(self, fraction: float, kept: float) -> None:
        self.close()
        runs = sorted((self.directory / "projections" / "index").glob("*"))
        if runs:
            path = runs[int(fraction * (len(runs) - 1))]
            content = path.read_bytes()
            # Another file of the same name: one that is mapped must not shrink.
            path.unlink()
            path.write_bytes(content[: int(kept * (len(content) - 1))])
        self.open()

    @rule(fraction=FRACTIONS)
    def damage_the_tables(self, fraction: float) -> None:
        self.close_another()
        self.close()
        path = self.directory / "projections" / "tables.duckdb"
        if path.exists():
            content = bytearray(path.read_bytes())
            start = int(fraction * (len(content) - 8))
            content[start : start + 8] = bytes(byte ^ 0x5A for byte in content[start : start + 8])
            path.write_bytes(content)
        self.open()

    @rule(is_read_only=st.booleans())
    def open_another(self, is_read_only: bool) -> None:
        self.close_another()
        log = DirectoryLog.open(self.directory, read_only=is_read_only, segment_records_max=20)
        self.other = log, Projections(log, SMALL, read_only=is_read_only)

    @precondition(_has_other)
    @rule()
    def close_another(self) -> None:
        if self.other is not None:
            self.other[1].close()
            self.other[0].close()
            self.other = None

    @precondition(_has_other)
    @rule(fraction=FRACTIONS)
    def ask_another(self, fraction: float) -> None:
        assert self.other is not None
        self.check_index(self.other[1], fraction)
        self.check_tables(self.other[1])

    @rule(fraction=FRACTIONS)
    def look_up(self, fraction: float) -> None:
        self.check_index(self.projections, fraction)

    @rule()
    def read_tables(self) -> None:
        self.check_tables(self.projections)

    @rule(
        kind=st.sampled_from(sorted(NODE_TABLES)),
        order_by=st.sampled_from(sorted(ORDERS)),
        descending=st.booleans(),
        type_id=st.none() | st.integers(1, 3),
        context_id=st.none() | st.integers(1, 6),
        page=st.integers(1, 5),
        fraction=FRACTIONS,
    )
    def list(
        self,
        kind: str,
        order_by: str,
        descending: bool,
        type_id: int | None,
        context_id: int | None,
        page: int,
        fraction: float,
    ) -> None:
        as_of = int(fraction * self.projections.catch_up())
        context_id = None if kind == kind_names.CONTEXT else context_id
        nodes = self.model.nodes(kind, as_of)
        if context_id is not None:
            members = self.model.linked(kind, context_id, as_of)
            nodes = [node for node in nodes if node.id in members]
        expected = sorted(
            (getattr(node, ORDERS[order_by]), node.id)
            for node in nodes
            if type_id in (None, node.type_id)
        )
        if descending:
            expected.reverse()
        listed: list[tuple[int, int]] = []
        while True:
            rows = list_ids(
                self.projections,
                kind,
                as_of=as_of,
                type_id=type_id,
                among=ALL_NODES if context_id is None else InContext(context_id),
                order_by=order_by,
                descending=descending,
                after=listed[-1] if listed else None,
                limit=page,
            )
            listed += [(value, node_id) for node_id, value in rows]
            if len(rows) < page:
                break
        assert listed == expected

    @invariant()
    def reaches_the_newest_position(self) -> None:
        if hasattr(self, "projections"):
            assert self.projections.catch_up() == len(self.model.records)

    def check_index(self, projections: Projections, fraction: float) -> None:
        position = projections.catch_up()
        assert position == len(self.model.records)
        index = projections.index
        for as_of in {position, int(fraction * position)}:
            entries = self.model.entries(as_of)
            for (table, key), expected in entries.items():
                assert index.entries(table, key, as_of) == expected
                assert index.newest(table, key, as_of) == expected[-1]
            for table in TABLES:
                keys = sorted(key for found, key in entries if found == table)
                assert [*index.keys(table, as_of)] == keys
                absent = 1 + max(keys, default=0) if max(keys, default=0) < 2**63 - 1 else 0
                if absent not in keys:
                    assert index.newest(table, absent, as_of) is None
                    assert index.entries(table, absent, as_of) == []
        for sequence, highest in self.model.highest.items():
            assert index.highest_id(sequence) == highest

    def check_tables(self, projections: Projections) -> None:
        position = projections.catch_up()
        folded = projections.opened_tables()
        folded.fold(position)
        for table, expected in self.model.rows().items():
            rows = folded.query(f"FROM {table}", {})
            assert [repr(row) for row in sorted(rows, key=repr)] == [repr(row) for row in expected]

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.close_another()
            self.close()
            shutil.rmtree(self.directory.parent)


@pytest.mark.parametrize("is_folded_in_one", [True, False])
def test_projections_against_model(monkeypatch: pytest.MonkeyPatch, is_folded_in_one: bool) -> None:
    if not is_folded_in_one:
        monkeypatch.setattr(table_writing, "FOLDED_ROWS_MAX", 7)
        monkeypatch.setattr(table_writing, "_BOUND_ROWS_MAX", 0)
    run = settings(
        stateful_step_count=30, max_examples=settings().max_examples // (2 if is_whole() else 3)
    )
    run_state_machine_as_test(ProjectionsAgainstModel, settings=run)
