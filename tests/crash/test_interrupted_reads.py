"""An interrupt (Ctrl-C) at any line of what takes notice of commits leaves the store right."""

from __future__ import annotations

import contextlib
import linecache
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import eventstore
from eventstore.log import DirectoryLog
from eventstore.metadata_store.opening import engine_of
from eventstore.projections.held_values import TOUCHED_MAX
from eventstore.projections.tables import Tables
from eventstore.proto import metadata_store_pb2 as mlmd

CASES_MAX = int(os.environ.get("EVENTSTORE_INTERRUPTS", "0"))
"""How many lines of each kind of use are interrupted, at even distances, if not a few."""

_WATCHED = (
    "eventstore/log/active_segment.py",
    "eventstore/log/followed_segment.py",
    "eventstore/log/commit_ends.py",
    "eventstore/log/directory.py",
    "eventstore/log/directory_reader.py",
    "eventstore/log/directory_writer.py",
    "eventstore/log/followed_directory.py",
    "eventstore/log/manifest.py",
    "eventstore/log/writers_lock.py",
    "projections/held_values.py",
    "projections/index_tail.py",
    "projections/kept_runs.py",
    "projections/planning.py",
    "projections/point_index.py",
    "projections/projections.py",
    "projections/recent_records.py",
)


class _Interrupting:
    """Raises KeyboardInterrupt at the n-th line that is run in what is watched."""

    def __init__(self, at: int) -> None:
        self.at, self.lines = at, 0
        self.place = ""

    def __enter__(self) -> _Interrupting:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, _event: str, _arg: object) -> Any:
        path = frame.f_code.co_filename
        is_watched = path.endswith(_WATCHED)
        # What is opened again is no state of what was open.
        return self._line if is_watched and frame.f_code.co_name != "__init__" else None

    def _line(self, frame: FrameType, event: str, _arg: object) -> Any:
        # A line of `with` is traced again before the lock is given back, where no signal comes.
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not source.lstrip().startswith("with "):
            self.lines += 1
            if self.lines == self.at:
                self.place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._line


def _opened(path: Path) -> eventstore.MetadataStore:
    log = DirectoryLog.open(path, segment_records_max=20)
    log._seal_closed_in_background = lambda: None  # type: ignore[method-assign]
    return eventstore.MetadataStore._of(engine_of(log))


def _put(store: eventstore.MetadataStore, number: int) -> None:
    (context_id,) = store.put_contexts([mlmd.Context(type_id=12, name=f"c{number}")])
    node = mlmd.Artifact(type_id=10, name=f"a{number}", uri=f"u{number % 3}")
    node.custom_properties["n"].int_value = number
    latest = mlmd.Artifact(type_id=10, name="latest", uri=f"at {number}")
    known = store.get_artifact_by_type_and_name("T", "latest")
    if known is not None:
        latest.id = known.id
    first, second = store.put_artifacts([node, latest])
    store.put_attributions_and_associations(
        [mlmd.Attribution(artifact_id=n, context_id=context_id) for n in (first, second)], []
    )


def _reads(store: eventstore.MetadataStore) -> list[object]:
    contexts = store.get_contexts()
    return [
        store.log_position(),
        [str(a) for a in store.get_artifacts()],
        [a.id for a in store.get_artifacts_by_uri("u1")],
        [str(c) for c in contexts],
        [[a.id for a in store.get_artifacts_by_context(c.id)] for c in contexts],
        [str(store.get_artifact_by_type_and_name("T", f"a{n}")) for n in range(6)],
        [(c.number, c.recorded_at, len(c.records)) for c in store.log.commits()],
        store.log.commit_number,
        [store.log.recorded_at(p) for p in range(1, store.log_position() + 1)],
        [store.log.commit_end(p) for p in range(1, store.log_position() + 1)],
    ]


def _refresh(store: eventstore.MetadataStore) -> object:
    return len(store.get_artifacts_by_id([1]))


def _filter(store: eventstore.MetadataStore) -> object:
    options = eventstore.ListOptions(filter_query="uri LIKE 'u%' OR uri LIKE 'at%'")
    return [artifact.id for artifact in store.get_artifacts(options)]


def _property(store: eventstore.MetadataStore) -> object:
    options = eventstore.ListOptions(filter_query="custom_properties.n.int_value >= 0 AND id > 0")
    equal = eventstore.ListOptions(filter_query="custom_properties.n.int_value = 3")
    asked = [store.get_artifacts(each) for each in (options, equal, equal)]
    return [artifact.id for found in asked for artifact in found]


def _put_another(store: eventstore.MetadataStore) -> object:
    return store.put_contexts([mlmd.Context(type_id=12, name="another")]) and None


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A store that rotates with the next puts."""
    path = tmp_path / "prepared"
    DirectoryLog.create(path, segment_records_max=20).close()
    with _opened(path) as store:
        assert store.put_artifact_type(mlmd.ArtifactType(name="T")) == 10
        store.put_execution_type(mlmd.ExecutionType(name="E"))
        assert store.put_context_type(mlmd.ContextType(name="C")) == 12
        _put(store, 0)
    return path


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("act", "cases_max"),
    [(_refresh, 40), (_filter, 12), (_property, 6), (_put_another, 15)],
)
def test_an_interrupt_leaves_all_reads_right(
    prepared: Path, act: Callable[[eventstore.MetadataStore], object], cases_max: int
) -> None:
    path = prepared.with_name("store")

    def case(at: int) -> int:
        """How many lines there were; one of them is interrupted."""
        shutil.copytree(prepared, path)
        interrupting = _Interrupting(at)
        with _opened(path) as store, _opened(path) as other:
            act_before = None if act is _put_another else act(store)
            for number in (1, 2, 3):
                _put(other, number)
            with contextlib.suppress(KeyboardInterrupt), interrupting:
                act(store)
            with _opened(path) as fresh:
                assert _reads(store) == _reads(fresh), interrupting.place
                if act is not _put_another:
                    assert act(store) == act(fresh) != act_before or act is _refresh
            _put(store, 4)
            assert [c.number for c in store.log.commits()] == [
                *range(1, store.log.commit_number + 1)
            ], interrupting.place
            if not at:
                assert store.log.verify().ok
            # As puts find it: they believe nothing that was noticed before.
            expected = store.log._recomputed_frontier().head()  # type: ignore[attr-defined]
            assert store.log._newest_head() == expected, interrupting.place  # type: ignore[attr-defined]
        shutil.rmtree(path)
        return interrupting.lines

    lines = case(0)
    assert lines > 100
    for at in range(1, lines + 1, max(1, lines // (CASES_MAX or cases_max))):
        case(at)


@pytest.mark.parametrize("uses_before", [2, 3])
def test_an_interrupt_as_values_are_held_leaves_queries_right(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, uses_before: int
) -> None:
    options = eventstore.ListOptions(filter_query="custom_properties.n.int_value = 7")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with _opened(prepared) as store:
        assert [len(store.get_artifacts(options)) for _ in range(uses_before)] == [0] * uses_before
        nodes = [mlmd.Artifact(type_id=10) for _ in range(TOUCHED_MAX + 1)]
        for node in nodes:
            node.custom_properties["n"].int_value = 7
        store.put_artifacts(nodes)
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "fold", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.get_artifacts(options)
        for _ in range(2):
            assert len(store.get_artifacts(options)) == len(nodes)
