"""Caches of a log that has no directory of its own lie in a folder of the user's."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import eventstore
from eventstore.log import Commit, Log
from eventstore.log.user_cache import UserCaches, open_user_caches, user_cache_folder
from eventstore.metadata_store import opening
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.projections.point_index import PointIndex
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import wait_until_written
from tests.elsewhere import LogElsewhere
from tests.own_process import assert_runs


def opened(log: Log, *, read_only: bool = False) -> eventstore.MetadataStore:
    limits = Limits(index=IndexLimits(tail_records_max=4))
    engine = opening.engine_of(log, read_only=read_only, saves_caches=True, limits=limits)
    return eventstore.MetadataStore._of(engine)


STORE_ID = UUID(int=7)
NEVER_ASKED: dict[int, bytes] = {}


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTSTORE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    usual = user_cache_folder(STORE_ID, "here")
    assert usual is not None
    assert usual.is_relative_to(tmp_path)
    assert usual.parts[-2] == "eventstore"
    assert usual.name.startswith(f"{STORE_ID}-")
    monkeypatch.setenv("EVENTSTORE_CACHE", str(tmp_path / "named"))
    assert user_cache_folder(STORE_ID, "here") == tmp_path / "named" / usual.name
    assert user_cache_folder(STORE_ID, "here", tmp_path / "a") == tmp_path / "a" / usual.name
    monkeypatch.chdir(tmp_path)
    assert user_cache_folder(STORE_ID, "here", Path("a")) == tmp_path / "a" / usual.name
    monkeypatch.setenv("EVENTSTORE_CACHE", "")
    assert user_cache_folder(STORE_ID, "here") == usual
    assert user_cache_folder(STORE_ID, "there") != usual
    assert user_cache_folder(UUID(int=8), "here") != usual
    assert os.listdir() == []


def test_a_user_without_a_home_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTSTORE_CACHE", raising=False)
    monkeypatch.setattr(
        "platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/eventstore")
    )
    assert user_cache_folder(STORE_ID, "here") is None
    assert open_user_caches(STORE_ID, "here", NEVER_ASKED.get) is None


def test_nobody_else_reads_it_and_nobody_elses_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "new" / "caches"
    for _ in range(2):
        caches = open_user_caches(STORE_ID, "here", NEVER_ASKED.get, chosen)
        assert caches is not None
    folder = caches.folder.parent
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, caches.folder)} == {0o700}
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert open_user_caches(STORE_ID, "here", NEVER_ASKED.get, chosen) is None
    (tmp_path / "file").touch()
    assert open_user_caches(STORE_ID, "here", NEVER_ASKED.get, tmp_path / "file") is None


def test_caches_of_another_history_are_thrown_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heads = {number: bytes([number]) * 32 for number in range(1, 9)}

    def again() -> UserCaches:
        return UserCaches(tmp_path / "caches", "here", heads.get)

    first = again()
    first.note(5, heads[5])
    first.note(3, heads[3])
    (first.folder / "folded").touch()
    second = again()
    assert second.folder == first.folder
    assert (second.folder / "folded").exists()
    assert not caplog.records

    for change in ({5: b"other"}, {5: None}):
        heads |= change
        anew = again()
        (told,) = caplog.records
        assert "here no longer has commit 5" in told.getMessage()
        caplog.clear()
        assert os.listdir(anew.folder) == []
        assert not second.folder.exists()
        with pytest.raises(FileNotFoundError, match="thrown away"):
            second.note(8, heads[8])
        assert not second.folder.exists()
        heads[5] = b"\5" * 32
        anew.note(5, heads[5])
        assert again().folder == anew.folder
        second = anew

    for content in (b"", b"{", b'{"place":"here","caches":"../../elsewhere"}'):
        (tmp_path / "caches" / "history.json").write_bytes(content)
        assert again().folder.parent == tmp_path / "caches"
        assert not second.folder.exists()


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVENTSTORE_CACHE", str(tmp_path / "caches"))
    return tmp_path / "caches"


def read_without_folding(path: Path) -> None:
    """Read a store of twenty artifacts whose caches are whole."""
    folded: list[int] = []
    add = PointIndex.add

    def noted(self: PointIndex, commit: Commit, *more: Any) -> None:
        folded.append(commit.last_position)
        add(self, commit, *more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PointIndex, "add", noted)
        with opened(LogElsewhere.open(path, read_only=True), read_only=True) as reader:
            assert reader.get_artifacts_by_id([20])[0].uri == "19"
            assert len(reader.get_artifacts()) == 20
    assert not folded


def test_it_outlives_the_process_and_is_shared(tmp_path: Path, caches: Path) -> None:
    path = tmp_path / "store"
    with opened(LogElsewhere.create(path)) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=str(n)) for n in range(20)])
        wait_until_written(store._engine.projections.index)
        assert [*caches.glob(f"{store.log.store_id}-*/*/index/*.run")]
        assert not (path / "projections").exists()
        assert_runs(
            "import sys; from pathlib import Path\n"
            "from tests.projections.test_caches_elsewhere import read_without_folding\n"
            "read_without_folding(Path(sys.argv[1]))",
            path,
        )
    read_without_folding(path)


def test_a_reader_that_may_not_write_to_the_log_keeps_what_it_folds(
    tmp_path: Path, caches: Path
) -> None:
    path = tmp_path / "store"
    with eventstore.open(path) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id) for n in range(20)])
    with opened(LogElsewhere.open(path, read_only=True), read_only=True) as reader:
        assert len(reader.get_artifacts()) == 20
        assert len(reader.get_artifacts(eventstore.ListOptions(filter_query="id > 3"))) == 17
        wait_until_written(reader._engine.projections.index)
    assert [*caches.glob("*/*/index/*.run")]
    assert [*caches.glob("*/*/tables.duckdb")]


def test_where_none_can_be_made_all_is_answered_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVENTSTORE_CACHE", str(tmp_path / "file" / "below"))
    with opened(LogElsewhere.create(tmp_path / "store")) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id) for n in range(20)])
        assert len(store.get_artifacts(eventstore.ListOptions(filter_query="id > 3"))) == 17
