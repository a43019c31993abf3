"""The projections as a whole: catching up, rebuilding, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore.errors import FailedPreconditionError
from eventstore.log import DirectoryLog, MemoryLog
from eventstore.log import record as kind_names
from eventstore.projections import Projections
from eventstore.projections.filter import compile_filter
from eventstore.projections.listing import NodeIds
from tests.builders import ARTIFACTS, append, draft, list_ids


def filled(directory: Path) -> DirectoryLog:
    log = DirectoryLog.create(directory)
    append(log, *(draft(number) for number in range(1, 1_501)))
    append(log, draft(1, name="renamed", previous=1))
    return log


def test_a_new_store_has_empty_projections(tmp_path: Path) -> None:
    for log in (MemoryLog(), DirectoryLog.create(tmp_path / "store")):
        projections = Projections(log)
        assert projections.catch_up() == 0
        assert list_ids(projections, kind_names.ARTIFACT, as_of=0) == []
        assert projections.index.position == 0
        assert projections.opened_tables().folded_position() == 0
        projections.rebuild()
        projections.close()


def test_progress_is_told_of_folding(tmp_path: Path) -> None:
    projections = Projections(filled(tmp_path / "store"))
    told: list[tuple[int, int]] = []
    projections._fold(projections.index, lambda done, of: told.append((done, of)))
    assert told == [(1_500, 1_501), (1_501, 1_501)]
    projections._fold(projections.index, lambda done, of: told.append((done, of)))
    assert len(told) == 2
    projections.close()


def test_rebuilding_folds_the_whole_log_again(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    projections = Projections(log)
    projections.catch_up()
    projections.index._tail._tables[ARTIFACTS].clear()
    assert projections.index.newest(ARTIFACTS, 7, 1_501) is None
    told: list[tuple[int, int]] = []
    projections.rebuild(lambda done, of: told.append((done, of)))
    assert told[-1] == (3_002, 3_002)
    assert told == sorted(told)
    assert projections.index.newest(ARTIFACTS, 7, 1_501) is not None
    assert len(list_ids(projections, kind_names.ARTIFACT, as_of=1_501)) == 1_500
    append(log, draft(1_501))
    assert projections.catch_up() == 1_502
    assert len(list_ids(projections, kind_names.ARTIFACT, as_of=1_502)) == 1_501
    projections.close()


def test_a_rebuilding_that_is_interrupted_can_be_repeated(tmp_path: Path) -> None:
    projections = Projections(filled(tmp_path / "store"))
    position = projections.catch_up()
    before = list_ids(projections, kind_names.ARTIFACT, as_of=position)

    def interrupted(_done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        projections.rebuild(interrupted)
    assert list_ids(projections, kind_names.ARTIFACT, as_of=position) == before
    projections.rebuild()
    assert list_ids(projections, kind_names.ARTIFACT, as_of=position) == before
    assert projections.index.newest(ARTIFACTS, 7, position) is not None
    projections.close()


def test_rebuilding_repairs_tables_that_lost_rows(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    projections = Projections(log)
    assert len(list_ids(projections, kind_names.ARTIFACT, as_of=projections.catch_up())) == 1_500
    assert projections._tables is not None
    projections._tables.query("DELETE FROM artifacts", {})
    assert list_ids(projections, kind_names.ARTIFACT, as_of=1_501) == []
    projections.rebuild()
    assert len(list_ids(projections, kind_names.ARTIFACT, as_of=1_501)) == 1_500
    projections.close()


def test_what_was_folded_is_kept(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    projections = Projections(log)
    list_ids(projections, kind_names.ARTIFACT, as_of=projections.catch_up())
    projections.close()
    for is_read_only in (True, False):
        log = DirectoryLog.open(tmp_path / "store", read_only=is_read_only)
        projections = Projections(log, read_only=is_read_only)
        assert projections.index.position == projections.index.last_stored_position == 1_501
        assert projections.opened_tables().folded_position() == 1_501
        projections.close()
        log.close()


def test_a_read_only_one_is_not_rebuilt(tmp_path: Path) -> None:
    filled(tmp_path / "store").close()
    log = DirectoryLog.open(tmp_path / "store", read_only=True)
    with pytest.raises(FailedPreconditionError, match="open the store for writing"):
        Projections(log, read_only=True).rebuild()


def test_given_nodes_that_match_a_filter(tmp_path: Path) -> None:
    projections = Projections(filled(tmp_path / "store"))
    position = projections.catch_up()

    def matching(node_ids: list[int], query: str, as_of: int) -> list[int]:
        where = compile_filter(query, "artifact")
        rows = list_ids(projections, "artifact", as_of=as_of, among=NodeIds(node_ids), where=where)
        return [node_id for node_id, _ in rows]

    given = [3, 1_495, 1_490, 1_495, 9_999]
    assert matching(given, "custom_properties.n.int_value > 1490", position) == [1_495]
    assert matching([1, 2], "name = 'renamed'", position) == [1]
    assert matching([1, 2], "name = 'renamed'", position - 1) == []
    assert matching([], "name = 'renamed'", position) == []
    projections.close()


def test_a_planner_is_given_though_another_thread_gives_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    projections, kept = Projections(MemoryLog()), ["planner"]
    # As if the other thread came after each look at it.
    forgetful = property(lambda _: kept.pop() if kept else None, lambda _, made: kept.append(made))
    monkeypatch.setattr(Projections, "_planner", forgetful, raising=False)
    assert projections.planner == "planner"
    assert projections.planner == kept.pop() != "planner"
