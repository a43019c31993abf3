"""A part of a large lineage costs as much as that part, and what is left out is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.report import report as reporting
from tests.command_line.runner import run
from tests.pages.stores import Recorder

LENGTH = 120


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each look-up of a key in the index."""
    from eventstore.projections.point_index import PointIndex

    counted: list[int] = []
    entries = PointIndex.entries

    def counting(self: PointIndex, table: int, key: int, upto: int) -> object:
        counted.append(1)
        return entries(self, table, key, upto)

    monkeypatch.setattr(PointIndex, "entries", counting)
    return counted


def chain(recorder: Recorder, made: int, name: str = "day") -> int:
    for number in range(LENGTH):
        (made,) = recorder.step(f"{name}-{number}", [made], f"{name}-increment-{number}")
    return made


def test_a_difference_of_the_nearest_nodes_costs_as_much_as_they_do(looked_up: list[int]) -> None:
    recorder = Recorder()
    store = recorder.store
    middle = chain(recorder, recorder.source("origin"))
    then = store.log_position()
    last = chain(recorder, middle, "night")
    with store.acting(reason="it was bad"):
        (artifact,) = store.get_artifacts_by_id([middle])
        artifact.state = mlmd.Artifact.MARKED_FOR_DELETION
        store.put_artifacts([artifact])
    looked_up.clear()
    near = store.lineage_diff("artifact", middle, then, max_nodes=9)
    assert len(looked_up) < 60
    assert (len(near.after.nodes), near.after.left_out) == (9, 2)
    assert len(near.new_nodes) == 4
    assert [change.id for change in near.changed] == [middle]
    # The way between them runs through nodes that came later.
    assert all(node.key not in near.new_nodes for node in near.before.nodes)
    whole = store.lineage_diff("artifact", middle, then)
    assert (len(whole.new_nodes), whole.after.left_out) == (2 * LENGTH, 0)
    assert store.lineage_diff("artifact", last, then).before.nodes == ()


def test_the_command_says_what_it_left_out(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        made = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        then = store.log_position()
        artifact = None
        for _ in range(8):
            with store.run("Step", inputs=[artifact] if artifact else [], capture=False) as step:
                artifact = step.output("Data")
        assert artifact is not None
        assert artifact.type_id == made
    command = ("diff", tmp_path / "store", then, "--lineage", "artifact", artifact.id)
    done = run(*command, "--limit", 5)
    assert done.err == (
        "5 nodes of the lineage are compared; 1 of the next hop and all after it are left out: "
        "say --limit 0 for all.\n"
    )
    one = run(*command, "--limit", 1)
    assert one.err.startswith(
        "1 node of the lineage is compared; 1 of the next hop and all after it"
    )
    shown = run("lineage", tmp_path / "store", "artifact", artifact.id, "--limit", 1)
    assert shown.err.startswith("1 node is shown; 1 node of the next hop and all beyond it are")
    assert done.out.count("new") < run(*command).out.count("new")
    assert run(*command).err == ""
    assert run("diff", tmp_path / "store", then, "--limit", 5).code == 2


def test_a_report_follows_a_lineage_so_far_and_says_so(
    monkeypatch: pytest.MonkeyPatch, looked_up: list[int]
) -> None:
    recorder = Recorder()
    last = chain(recorder, recorder.source("origin-of-all"))
    whole = recorder.store.report("artifact", last, limit=10)
    assert "all origins are shown (1)" in whole
    assert "origin-of-all" in whole
    assert "goes on beyond" not in whole
    monkeypatch.setattr(reporting, "_FOLLOWED_MAX", 20)
    monkeypatch.setattr(reporting, "_FOLLOWED_PER_SHOWN", 2)
    looked_up.clear()
    bounded = recorder.store.report("artifact", last, limit=10)
    assert len(looked_up) < 150
    assert "The lineage goes on beyond this." in bounded
    assert "all origins that were found are shown (0)" in bounded
    assert "origin-of-all" not in bounded
    assert "origin-of-all" in recorder.store.report("artifact", last, limit=None)


def test_a_report_gives_the_reasons_of_all_nodes_that_it_shows() -> None:
    recorder = Recorder()
    store = recorder.store
    with store.acting(actor="ana", reason="the nightly import <b>"):
        source = recorder.source("sales")
    with store.acting(actor="ben", reason="March was counted twice"):
        (artifact,) = store.get_artifacts_by_id([source])
        artifact.state = mlmd.Artifact.MARKED_FOR_DELETION
        store.put_artifacts([artifact])
    (model,) = recorder.step("train", [source], "model")
    page = recorder.store.report("artifact", model)
    # Of an origin: among the origins, and among all that is shown.
    for reason in ("the nightly import &lt;b&gt;", "March was counted twice"):
        assert page.count(reason) == 2, reason
