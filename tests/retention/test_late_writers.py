"""What is erased gets into no file any more, whoever was about to write it and however he ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import directory_writer
from eventstore.projections import late_writing
from tests.builders import open_with
from tests.retention.actors import Actor
from tests.stored_bytes import files_with

_MARKER = "somebody.0123456789@example.com"

_OPEN = "store = open_with(Path({path!r}), tail_records_max=4, closing_records_min=1)"
_OPEN_TO_READ = "store = open_with(Path({path!r}), read_only=True, tail_records_max=4)"
_PUT_TYPE = "type_id = store.put_artifact_type(mlmd.ArtifactType(name='Data'))"
_PUT = "store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f'u{n}') for n in range(4)])"
_PUT_MARKED = f"""\
node = mlmd.Artifact(type_id=type_id, name="{_MARKER}"); \
node.custom_properties["owner"].string_value = "{_MARKER}"; \
store.put_artifacts([node])"""
_SEE = f"assert [n.name for n in store.get_artifacts()].count('{_MARKER}') == 1"
_SEE_NO_MORE = f"assert '{_MARKER}' not in str(store.get_artifacts())"
_ASK = "rows = store.sql('SELECT name FROM artifacts').rows()"
_TOLD_NO_MORE = f"assert '{_MARKER}' not in str(rows)"


class Stage:
    """A store that a process writes to, others read, and this process erases from."""

    def __init__(self, root: Path, entered: ExitStack) -> None:
        self.root, self.store, self._entered = root, root / "store", entered
        self.temporary = root / "temporary"
        self.temporary.mkdir()
        self.writer = self.actor(_OPEN, _PUT_TYPE)

    def actor(self, *lines: str) -> Actor:
        """Another process, which has run these lines."""
        made = self._entered.enter_context(Actor(self.temporary))
        made.do(*(line.format(path=str(self.store)) for line in lines))
        return made

    def eraser(self) -> eventstore.MetadataStore:
        return self._entered.enter_context(open_with(self.store, tail_records_max=4))

    def left(self) -> list[str]:
        """The files of the store, its caches and the temporary directory that have the marker."""
        return files_with(self.root, _MARKER.encode())


def erase(store: eventstore.MetadataStore) -> None:
    [node] = [node for node in store.get_artifacts() if node.name == _MARKER]
    assert store.erase("artifact", node.id, reason="GDPR-17(1)(b)").stage == "completed"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as entered:
        yield Stage(tmp_path, entered)


def test_what_a_reader_folds_for_itself_is_in_no_file_that_has_a_name(stage: Stage) -> None:
    stage.writer.do(_PUT_MARKED, _PUT, "store.seal()", _PUT, "store.close()")
    shutil.rmtree(stage.store / "projections")
    # The log itself has it still.
    kept = stage.left()
    reader = stage.actor(
        "tables_file.IN_MEMORY_RECORDS_MAX = 0", "folded_tables._IN_MEMORY_ROWS_MAX = 1"
    )
    reader.do(_OPEN_TO_READ.format(path=str(stage.store)), _SEE, _ASK, "assert len(rows) == 9")
    reader.do("index = store._engine.projections.index", "wait_until_written()")
    reader.do("assert index._temporary is not None and len(index._runs()) > 0")
    assert [path.name for path in stage.temporary.rglob("*.duckdb*")] == []
    assert stage.left() == kept
    erase(stage.eraser())
    assert stage.left() == []
    reader.do(_SEE_NO_MORE, _ASK, _TOLD_NO_MORE, "wait_until_written()")
    assert stage.left() == []
    reader.kill()
    assert stage.left() == []


def go_on(writer: Actor) -> None:
    writer.go_on()
    writer.do("wait_until_written()")


def ask(writer: Actor) -> None:
    writer.go_on()
    writer.end()


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("point", "end"),
    [
        # Before a run is begun, before it is named, before runs are merged.
        ("stop_at(point_index.PointIndex, '_write_run')", go_on),
        ("stop_at(cache_file.os, 'fsync')", go_on),
        ("stop_at(cache_file.os, 'fsync')", Actor.kill),
        ("stop_at(kept_runs, 'merge_runs')", go_on),
        # Before tables are written to, before their file is locked.
        ("stop_at(folded_tables.FoldedTables, '_fold_in_transaction')", ask),
        ("stop_at(folded_tables.FoldedTables, '_writing_in_time')", ask),
        ("stop_at(folded_tables.FoldedTables, '_writing_in_time')", Actor.kill),
    ],
)
def test_what_is_being_written_when_others_erase_it_is_not_kept(
    stage: Stage, point: str, end: Callable[[Actor], None]
) -> None:
    writer, eraser = stage.writer, stage.eraser()
    reader = stage.actor(_OPEN_TO_READ) if end is go_on else None
    if "tables" in point:
        writer.do(_PUT_MARKED, point)
        writer.begin(_ASK)
    else:
        writer.do(_PUT_MARKED, point, f"{_PUT}; {_PUT}")
    writer.await_stop()
    if reader is not None:
        reader.do(_SEE)
    erase(eraser)
    assert stage.left() == []
    end(writer)
    assert stage.left() == []
    if reader is not None:
        reader.do(_SEE_NO_MORE)
    if end is not Actor.kill:
        writer.do(_SEE_NO_MORE, _ASK, _TOLD_NO_MORE, "wait_until_written()", "store.close()")
        assert stage.left() == []
    assert eraser.verify().ok


@pytest.mark.parametrize(
    ("point", "end"),
    [
        ("stop_at(cache_file, '_take_place')", Actor.go_on),
        ("stop_at(cache_file, '_take_place')", Actor.kill),
        ("stop_at(folded_tables, 'writing_in', is_after=True)", Actor.go_on),
    ],
)
def test_who_is_stopped_amid_writing_keeps_an_erasure_from_being_complete(
    stage: Stage, point: str, end: Callable[[Actor], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, eraser = stage.writer, stage.eraser()
    writer.do(_PUT_MARKED, point)
    if "tables" in point:
        writer.begin(_ASK)
    else:
        writer.do(_PUT)
    writer.await_stop()
    with monkeypatch.context() as patched:
        patched.setattr(late_writing, "WAITED_SECONDS_MAX", 0.1)
        with pytest.raises(errors.UnavailableError, match=f"process {writer.number} has been"):
            erase(eraser)
    assert [node.name for node in eraser.get_artifacts() if node.name == _MARKER] == []
    end(writer)
    assert eraser.complete_erasures() == [1]
    assert stage.left() == []


def test_who_is_stopped_amid_sealing_keeps_an_erasure_from_being_complete(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, eraser = stage.writer, stage.eraser()
    writer.do(_PUT_MARKED, "stop_at(sealing, 'write_parquet')")
    writer.begin("store.seal()")
    writer.await_stop()
    with monkeypatch.context() as patched:
        patched.setattr(directory_writer, "SEALING_SECONDS_MAX", 0.1)
        with pytest.raises(errors.UnavailableError, match=f"process {writer.number} has been seal"):
            erase(eraser)
    assert [node.name for node in eraser.get_artifacts() if node.name == _MARKER] == []
    writer.go_on()
    writer.end()
    assert eraser.complete_erasures() == [1]
    assert stage.left() == []
