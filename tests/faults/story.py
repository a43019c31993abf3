"""What a store is put through, in chapters, and what must be true of it at any time.

Put number n of a story is one commit: an execution that reads the artifact `latest`, on which it
leaves its number, and makes the artifact `a<n>`, in a context that is new. It is seen whole or not
at all, and if it was acknowledged it is seen.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

import eventstore
from eventstore import errors
from eventstore.audit import SigningKey, subtree_heads
from eventstore.importing import import_mlmd_database
from eventstore.log import DirectoryLog, recorded
from eventstore.metadata_store.opening import engine_of
from eventstore.projections.limits import LIMITS
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.faults.layer import REPOSITORY
from tests.stored_bytes import files_with

_DATABASE = REPOSITORY / "tests" / "data" / "mlmd-v10.db"
_BULK = 40

SUBJECT = "somebody.0123456789@example.com"
"""What is erased: in no file any more once the store has been opened after that."""


@dataclass
class Life:
    """One run of a chapter: where its store is, what was put, what was found wrong."""

    root: Path
    tell: Callable[[int], None] = lambda number: None
    """Called with the number of each put that was acknowledged."""
    complaints: list[str] = field(default_factory=list)
    refused: list[errors.StatusError] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Of the puts that were tried."""

    @property
    def path(self) -> Path:
        return self.root / "store"

    def config(self) -> mlmd.ConnectionConfig:
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(self.path)
        return config

    def attempt(self, what: str, step: Callable[[], object]) -> bool:
        """Whether a step succeeded; one may fail, but only as the documentation says."""
        try:
            step()
        except errors.StatusError as error:
            self.refused.append(error)
            return False
        except RuntimeError as error:
            # As ml-metadata raises them at the opening and in downgrade_schema.
            if not isinstance(error.__cause__, errors.StatusError):
                self.complaints.append(f"{what} raised {error!r}")
                return False
            self.refused.append(error.__cause__)
            return False
        except Exception as error:
            self.complaints.append(f"{what} raised {type(error).__name__}: {error}")
            return False
        return True

    def opened(self, *, upgrade: bool = False) -> eventstore.MetadataStore | None:
        found: list[eventstore.MetadataStore] = []
        self.attempt(
            "opening", lambda: found.append(eventstore.MetadataStore(self.config(), upgrade))
        )
        return found[0] if found else None

    def put(self, store: eventstore.MetadataStore, number: int) -> bool:
        self.numbers.append(number)
        if not self.attempt(f"put {number}", lambda: put(store, number)):
            return False
        self.tell(number)
        return True

    def close(self, store: eventstore.MetadataStore) -> None:
        self.attempt("closing", store.close)


def put(store: eventstore.MetadataStore, number: int) -> None:
    """Put the n-th commit of a story."""
    types = (
        store.get_artifact_type("Made"),
        store.get_execution_type("Step"),
        store.get_context_type("Round"),
    )
    made = mlmd.Artifact(type_id=types[0].id, name=f"a{number}", uri=f"file:///{number}")
    made.custom_properties["number"].int_value = number
    made.custom_properties["text"].string_value = "made " * 40
    latest = mlmd.Artifact(type_id=types[0].id, name="latest")
    known = store.get_artifact_by_type_and_name("Made", "latest")
    if known is not None:
        latest.id = known.id
    latest.custom_properties["number"].int_value = number
    step = mlmd.Execution(type_id=types[1].id, name=f"e{number}")
    store.put_execution(
        step,
        [
            (latest, mlmd.Event(type=mlmd.Event.INPUT)),
            (made, mlmd.Event(type=mlmd.Event.OUTPUT)),
        ],
        [mlmd.Context(type_id=types[2].id, name=f"c{number}")],
    )


def put_types(store: eventstore.MetadataStore) -> None:
    store.put_artifact_type(mlmd.ArtifactType(name="Made"))
    store.put_execution_type(mlmd.ExecutionType(name="Step"))
    store.put_context_type(mlmd.ContextType(name="Round"))


def _filtered(store: eventstore.MetadataStore) -> set[str]:
    options = eventstore.ListOptions(
        filter_query="uri LIKE 'file:///%' AND custom_properties.number.int_value > 0"
    )
    return {artifact.name for artifact in store.get_artifacts(options)}


def observed(
    store: eventstore.MetadataStore, numbers: Iterable[int], *, by_tables: bool = True
) -> tuple[set[int], list[str]]:
    """Which puts a store shows, and what is wrong with how it shows them."""
    seen: set[int] = set()
    wrong: list[str] = []
    for number in numbers:
        artifact = store.get_artifact_by_type_and_name("Made", f"a{number}")
        execution = store.get_execution_by_type_and_name("Step", f"e{number}")
        context = store.get_context_by_type_and_name("Round", f"c{number}")
        parts = [artifact is not None, execution is not None, context is not None]
        if any(parts) != all(parts):
            wrong.append(f"put {number} is half-seen: {parts}")
        if not all(parts):
            continue
        seen.add(number)
        events = store.get_events_by_execution_ids([execution.id])
        if [event.type for event in events] != [mlmd.Event.INPUT, mlmd.Event.OUTPUT]:
            wrong.append(f"put {number} has the events {events}")
        if artifact.custom_properties["number"].int_value != number:
            wrong.append(f"artifact a{number} is another: {artifact}")
        of_context = [found.name for found in store.get_artifacts_by_context(context.id)]
        if sorted(of_context) != sorted([f"a{number}", "latest"]):
            wrong.append(f"context c{number} has {of_context}")
    latest = store.get_artifact_by_type_and_name("Made", "latest")
    known = latest.custom_properties["number"].int_value if latest is not None else 0
    if known != max(seen, default=0):
        wrong.append(f"the artifact `latest` is of put {known}, the newest seen is {max(seen)}")
    expected = {f"a{number}" for number in seen}
    listed = {artifact.name for artifact in store.get_artifacts() if artifact.uri}
    if (found := listed & _asked(numbers)) != expected:
        wrong.append(f"listed are {sorted(found)}, not {sorted(expected)}")
    if not by_tables:
        return seen, wrong
    if (found := _filtered(store) & _asked(numbers)) != expected:
        wrong.append(f"a filter finds {sorted(found)}, not {sorted(expected)}")
    ((counted,),) = store.sql("SELECT count(*) FROM events").rows()
    total = len(store.get_events_by_execution_ids([e.id for e in store.get_executions()]))
    if counted != total:
        wrong.append(f"SQL counts {counted} events of {total}")
    return seen, wrong


def _asked(numbers: Iterable[int]) -> set[str]:
    return {f"a{number}" for number in numbers}


# The chapters


@dataclass(frozen=True)
class Chapter:
    """`prepare` leaves a store to begin with, `act` is run under faults.

    `puts` are those that are there when it begins.
    """

    name: str
    act: Callable[[Life], None]
    prepare: Callable[[Path], None] | None = None
    puts: tuple[int, ...] = ()


def _configured(path: Path) -> eventstore.MetadataStore:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    return eventstore.MetadataStore(config)


def _prepared(path: Path) -> None:
    with _configured(path) as store:
        put_types(store)
        put(store, 1)
        put(store, 2)


def _prepared_long(path: Path) -> None:
    """A store whose first segment is sealed, and which has caches of all kinds."""
    with _configured(path) as store:
        put_types(store)
        put(store, 1)
        made = store.get_artifact_type("Made").id
        store.put_artifacts([mlmd.Artifact(type_id=made, name=f"b{n}") for n in range(_BULK)])
        store.seal()
        put(store, 2)
        store.get_artifacts(eventstore.ListOptions(filter_query="uri LIKE '%1'"))


def _prepared_almost_a_block(path: Path) -> None:
    """The next commits but one fills a block of `commit-ends`."""
    _prepared(path)
    log = DirectoryLog.open(path)
    missing = 254 - log.commit_number
    log.close()
    with _configured(path) as store:
        made = store.get_artifact_type("Made").id
        for number in range(missing):
            store.put_artifacts([mlmd.Artifact(type_id=made, name=f"b{number}")])


def _prepared_to_erase(path: Path) -> None:
    """What is to be erased is in a sealed segment, the active one, an index and tables."""
    with small_runs():
        _prepared_long(path)
        with _configured(path) as store:
            subject = store.get_artifact_by_type_and_name("Made", "b7")
            for position in range(3):
                subject.custom_properties["subject"].string_value = SUBJECT
                subject.custom_properties["position"].int_value = position
                with store.acting(actor=SUBJECT):
                    store.put_artifacts([subject])
                if position == 1:
                    store.seal()
                    _filtered(store)


def _prepared_with_small_runs(path: Path) -> None:
    with small_runs():
        _prepared_long(path)


def _prepared_to_compact(path: Path) -> None:
    """Several sealed segments, and caches of all kinds."""
    with small_runs():
        _prepared_long(path)
        with _configured(path) as store:
            for number in (3, 4, 5):
                put(store, number)
                store.seal()
            _filtered(store)


class small_runs:  # noqa: N801
    """Limits so low that a short story reaches them."""

    _limits: ClassVar[tuple[tuple[Any, str, int], ...]] = (
        (LIMITS.index, "tail_records_max", 8),
        (LIMITS.index, "closing_records_min", 4),
        (LIMITS.index, "built_records_max", 16),
        (subtree_heads, "BLOCK_LEAVES", 16),
    )

    def __enter__(self) -> None:
        self._before = [(of, name, getattr(of, name)) for of, name, _ in self._limits]
        self._set(self._limits)

    def __exit__(self, *_: object) -> None:
        self._set(self._before)

    def _set(self, limits: Iterable[tuple[Any, str, int]]) -> None:
        for of, name, value in limits:
            if isinstance(of, msgspec.Struct):
                # Frozen, and what all that is opened without limits of its own has.
                msgspec.structs.force_setattr(of, name, value)
            else:
                setattr(of, name, value)


def _create(life: Life) -> None:
    for _ in range(2):
        store = life.opened()
        if store is None:
            continue
        if life.attempt("putting types", lambda opened=store: put_types(opened)):  # type: ignore[misc]
            life.put(store, 1)
        life.close(store)
        return


def _put(life: Life) -> None:
    store = life.opened()
    if store is None:
        return
    for number in (3, 4, 5):
        life.put(store, number)
    life.close(store)


def _together(life: Life) -> None:
    store = life.opened()
    if store is not None:
        life.put(store, 3)
        put_together(life, store, range(4, 8))
        life.put(store, 8)
        life.close(store)


def put_together(life: Life, store: eventstore.MetadataStore, numbers: Iterable[int]) -> None:
    """Put from a thread each, when all of them wait: they are appended together."""
    engine: Any = store._engine
    # As if another put were under way.
    engine._leading["leader"] = None
    threads: list[threading.Thread] = []
    for number in numbers:
        before = len(engine._waiting)
        threads.append(threading.Thread(target=life.put, args=(store, number)))
        threads[-1].start()
        # One by one, so that all operations come in the same order in each run.
        while len(engine._waiting) == before and threads[-1].is_alive():
            time.sleep(0.001)
    engine._leading.clear()
    if engine._waiting:
        engine._waiting[0].wake()
    for thread in threads:
        thread.join()


def _rotate(life: Life) -> None:
    opened: list[eventstore.MetadataStore] = []

    def open_small() -> None:
        log = DirectoryLog.open(life.path, segment_records_max=16)
        opened.append(eventstore.MetadataStore._of(engine_of(log)))

    if not life.attempt("opening", open_small):
        return
    for number in (3, 4, 5, 6):
        life.put(opened[0], number)
    life.close(opened[0])


def _seal(life: Life) -> None:
    store = life.opened()
    if store is None:
        return
    life.attempt("sealing", store.seal)
    life.put(store, 3)
    life.attempt("sealing", store.seal)
    life.close(store)


def _query(life: Life) -> None:
    store = life.opened()
    if store is None:
        return
    life.attempt("a filter", lambda: _filtered(store))
    life.put(store, 3)
    life.attempt("a filter", lambda: _filtered(store))
    life.attempt("SQL", lambda: store.sql("SELECT count(*) FROM events"))
    life.close(store)


def _rebuild(life: Life) -> None:
    with small_runs():
        store = life.opened()
        if store is None:
            return
        for number in (3, 4):
            life.put(store, number)
        life.attempt("rebuilding", store.rebuild)
        life.put(store, 5)
        life.attempt("a filter", lambda: _filtered(store))
        life.close(store)


def _sign(life: Life) -> None:
    with small_runs():
        store = life.opened()
        if store is None:
            return
        key = SigningKey.generate("ana@example.com")

        def proved() -> None:
            checkpoint = store.checkpoint(key)
            store.prove(1, checkpoint)

        life.attempt("signing", proved)
        life.put(store, 3)
        life.attempt("signing", proved)
        life.close(store)


def _erase(life: Life) -> None:
    with small_runs():
        store = life.opened()
        if store is None:
            return

        def erase() -> None:
            subject = store.get_artifact_by_type_and_name("Made", "b7")
            store.erase("artifact", subject.id, reason="GDPR-17", redact=["subject"], who=True)

        life.attempt("a filter", lambda: _filtered(store))
        life.attempt("erasing", erase)
        life.put(store, 3)
        life.attempt("a filter", lambda: _filtered(store))
        life.close(store)


def _compact(life: Life) -> None:
    with small_runs():
        store = life.opened()
        if store is None:
            return
        life.attempt("compacting", lambda: store.compact(target_records=60))
        life.put(store, 6)
        life.attempt("a filter", lambda: _filtered(store))
        life.attempt("sealing", store.seal)
        life.attempt("compacting", lambda: store.compact(target_records=1_000))
        life.put(store, 7)
        life.attempt("a filter", lambda: _filtered(store))
        life.close(store)


def _import(life: Life) -> None:
    life.attempt("importing", lambda: import_mlmd_database(_DATABASE, life.path))
    store = life.opened()
    if store is None:
        return
    if life.attempt("putting types", lambda: put_types(store)):
        life.put(store, 1)
    life.close(store)


def _copy(life: Life) -> None:
    with eventstore.open("memory://") as source:
        put_types(source)
        # As a segment, and then as commits.
        for numbers, few in (((1, 2), 0), ((3,), 100)):
            for number in numbers:
                put(source, number)
                life.numbers.append(number)
            recorded._FEW_COMMITS = few  # type: ignore[misc]
            if life.attempt("copying", lambda: source.copy_to(life.path)):
                for number in numbers:
                    life.tell(number)


def _pack(life: Life) -> None:
    life.attempt("packing", lambda: eventstore.downgrade_schema(life.config(), 0))
    store = life.opened(upgrade=True)
    if store is None:
        return
    life.put(store, 3)
    life.close(store)


CHAPTERS = (
    Chapter("create", _create),
    Chapter("put", _put, _prepared_almost_a_block, (1, 2)),
    Chapter("together", _together, _prepared, (1, 2)),
    Chapter("rotate", _rotate, _prepared, (1, 2)),
    Chapter("seal", _seal, _prepared, (1, 2)),
    Chapter("query", _query, _prepared_long, (1, 2)),
    Chapter("rebuild", _rebuild, _prepared_with_small_runs, (1, 2)),
    Chapter("sign", _sign, _prepared_with_small_runs, (1, 2)),
    Chapter("erase", _erase, _prepared_to_erase, (1, 2)),
    Chapter("compact", _compact, _prepared_to_compact, (1, 2, 3, 4, 5)),
    Chapter("import", _import),
    Chapter("copy", _copy),
    Chapter("pack", _pack, _prepared_long, (1, 2)),
)


def aftermath(life: Life, acknowledged: set[int]) -> None:
    """Compare a store with what was promised: opened again, then after more puts and sealing.

    Complaints go to the life.
    """
    store = life.opened(upgrade=True)
    if store is None:
        life.complaints.append(f"the store does not open again: {life.refused[-1:]}")
        return
    life.attempt("putting types", lambda: put_types(store))
    next_number = max(life.numbers, default=0) + 1
    try:
        report = eventstore_verify(life)
        life.complaints += [f"verify: {finding}" for finding in report]
        _hold(life, store, acknowledged)
        if not life.put(store, next_number):
            life.complaints.append(f"no put afterwards: {life.refused[-1]!r}")
        _hold(life, store, {*acknowledged, next_number}, by_tables=False)
        store.seal()
        _hold(life, store, {*acknowledged, next_number})
        life.complaints += _erasing_left(store)
        store.close()
        life.complaints += _said_of_subject(life, store)
        life.complaints += [f"verify at the end: {finding}" for finding in eventstore_verify(life)]
    except Exception as error:
        life.complaints.append(f"afterwards: {type(error).__name__}: {error}")
    life.complaints += [f"left behind: {path}" for path in leftovers(life.root)]


def _erasing_left(store: eventstore.MetadataStore) -> list[str]:
    erasures = store._engine.projections.index.erasures
    found = [f"erasure {number} is not complete" for number in erasures.pending]
    subject = store.get_artifact_by_type_and_name("Made", "b7")
    if subject is None or "position" not in subject.custom_properties:
        return found
    if ("subject" in subject.custom_properties) == bool(erasures):
        found.append(f"with erasures {erasures} the subject is answered as {subject}")
    return found


def _said_of_subject(life: Life, store: eventstore.MetadataStore) -> list[str]:
    if not store._engine.projections.index.erasures:
        return []
    return [f"{name} has what was erased" for name in files_with(life.path, SUBJECT.encode())]


def eventstore_verify(life: Life) -> list[str]:
    from eventstore.log.verification import verify_directory

    return [finding.what for finding in verify_directory(life.path).findings]


def _hold(
    life: Life,
    store: eventstore.MetadataStore,
    acknowledged: set[int],
    *,
    by_tables: bool = True,
) -> None:
    numbers = sorted({*life.numbers, *acknowledged})
    seen, wrong = observed(store, numbers, by_tables=by_tables)
    life.complaints += wrong
    if lost := acknowledged - seen:
        life.complaints.append(f"acknowledged puts are lost: {sorted(lost)}")


def leftovers(root: Path) -> list[str]:
    """Files that nobody needs any more."""
    found = []
    for folder, _folders, files in os.walk(root):
        for name in files:
            path = Path(folder, name).relative_to(root)
            if name.endswith(".tmp") or path.parts[0] != "store":
                found.append(str(path))
    names = [entry.name for entry in root.iterdir() if entry.name != "store"]
    return sorted({*found, *names})


def copied(prepared: Path | None, root: Path) -> None:
    """Lay out a prepared store below a root."""
    root.mkdir(parents=True)
    if prepared is not None:
        shutil.copytree(prepared, root / "store")
