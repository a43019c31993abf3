"""Random damage to every file of a store, before it is opened and while it is open.

No read may answer wrongly: it answers what it did before, or raises one of the documented errors.
What lies below `projections`, and the files that are only there to save time, may not even make a
read fail. A put after it must leave in the log what it would have without the damage.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

import eventstore
from eventstore import errors
from eventstore.audit import SigningKey
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import open_with
from tests.faults.part import Outcome, Report

CASES = int(os.environ.get("EVENTSTORE_DAMAGE_CASES", "3000"))

_KEY = SigningKey.generate("tests")
_ARTIFACTS = 140
_HELPS = ("commit-ends", "acknowledged", "lock", "sealing.lock")
"""Files of which a store has no need to answer."""


def make_store(path: Path) -> None:
    """A store with every kind of file: sealed segments, an active one, runs, tables, heads."""
    with open_with(path, tail_records_max=250, closing_records_min=1) as store:
        made = mlmd.ArtifactType(name="Made", properties={"n": mlmd.INT, "text": mlmd.STRING})
        type_id = store.put_artifact_type(made)
        step_id = store.put_execution_type(mlmd.ExecutionType(name="Step"))
        round_id = store.put_context_type(mlmd.ContextType(name="Round", external_id="round"))
        rounds = store.put_contexts(
            [mlmd.Context(type_id=round_id, name=f"r{n}") for n in range(4)]
        )
        store.put_parent_contexts(
            [mlmd.ParentContext(child_id=rounds[n], parent_id=rounds[0]) for n in (1, 2)]
        )
        for number in range(_ARTIFACTS):
            artifact = mlmd.Artifact(
                type_id=type_id, name=f"a{number}", uri=f"u{number % 9}", external_id=f"x{number}"
            )
            artifact.properties["n"].int_value = number % 10
            artifact.properties["text"].string_value = f"text {number} " * 5
            execution = mlmd.Execution(type_id=step_id, name=f"e{number}")
            store.put_execution(
                execution,
                [(artifact, mlmd.Event(type=mlmd.Event.OUTPUT))],
                [mlmd.Context(id=rounds[number % 4], type_id=round_id, name=f"r{number % 4}")],
            )
            if number % 3 == 2:
                _touch(store, number - 1)
            if number in (20, 60):
                store.seal()
        for number in range(270):
            _touch(store, number % _ARTIFACTS)
        checkpoint = store.checkpoint(_KEY)
        store.prove(5, checkpoint)
        READS["filter"](store)


def _touch(store: eventstore.MetadataStore, number: int) -> None:
    """A masked update: all but one property is copied from what is stored."""
    known = store.get_artifact_by_type_and_name("Made", f"a{number}")
    assert known is not None
    changed = mlmd.Artifact(id=known.id, type_id=known.type_id)
    changed.properties["n"].int_value = known.properties["n"].int_value + 1
    store.put_artifacts([changed], ["properties.n"])


def _listed(order: Any = None, where: str | None = None, limit: int | None = None) -> Any:
    options = eventstore.ListOptions(limit, order, filter_query=where)
    return lambda store: [str(artifact) for artifact in store.get_artifacts(options)]


def _sql(query: str) -> Any:
    return lambda store: store.sql(query).rows()


def _by_name(store: Any) -> list[str]:
    names = [f"a{number}" for number in (*range(0, _ARTIFACTS, 9), 1_000)]
    return [str(store.get_artifact_by_type_and_name("Made", name)) for name in names]


def _moments(store: Any) -> list[Any]:
    times = [version.recorded_at for version in store.history("artifact", 3)]
    found = []
    for moment in times:
        assert isinstance(moment, datetime)
        of_then = store.as_of(moment)
        found.append((of_then.log_position(), str(of_then.get_artifacts_by_id([3, 9]))))
    return found


_IDS = list(range(1, _ARTIFACTS + 3))

READS: dict[str, Callable[[Any], Any]] = {
    "by id": lambda store: [str(store.get_artifacts_by_id([n])) for n in _IDS],
    "by ids": lambda store: str(store.get_artifacts_by_id(_IDS)),
    "executions": lambda store: str(store.get_executions_by_id(_IDS)),
    "contexts": lambda store: str(store.get_contexts()),
    "by name": _by_name,
    "by uri": lambda store: [str(store.get_artifacts_by_uri(f"u{n}")) for n in range(11)],
    "by external id": lambda store: str(store.get_artifacts_by_external_ids(["x3", "x77", "x"])),
    "types": lambda store: str(store.get_artifact_types()) + str(store.get_context_types()),
    "type": lambda store: str(store.get_execution_type("Step")),
    "events": lambda store: str(store.get_events_by_artifact_ids(_IDS)),
    "events of executions": lambda store: str(store.get_events_by_execution_ids(_IDS[::7])),
    "of a context": lambda store: [str(store.get_artifacts_by_context(n)) for n in range(1, 6)],
    "contexts of": lambda store: [str(store.get_contexts_by_artifact(n)) for n in _IDS[:-2:5]],
    "parents": lambda store: str(store.get_parent_contexts_by_context(2)),
    "children": lambda store: str(store.get_children_contexts_by_context(1)),
    "all": _listed(),
    "ordered": _listed(eventstore.OrderByField.UPDATE_TIME, limit=20),
    "by type": lambda store: str(store.get_artifacts_by_type("Made")),
    "filter": _listed(where="properties.n.int_value > 6 AND uri LIKE 'u%'"),
    "filter by name": _listed(where="name = 'a77'"),
    "sql": _sql("SELECT id, name, uri FROM artifacts ORDER BY id"),
    "sql of properties": _sql(
        "SELECT node_id, name, int_value, string_value, position FROM property_versions "
        "ORDER BY ALL"
    ),
    "sql of links": _sql("SELECT * FROM links ORDER BY ALL"),
    "sql of records": _sql("SELECT position, kind, entity_id, previous FROM records ORDER BY 1"),
    "info": lambda store: store.info().counts,
    "as of": lambda store: str(store.as_of(300).get_artifacts_by_id(_IDS)),
    "as of, listed": lambda store: _listed(where="uri = 'u3'")(store.as_of(420)),
    "moments": _moments,
    "lineage": lambda store: str(
        store.get_lineage_subgraph(
            eventstore.proto.metadata_store_pb2.LineageSubgraphQueryOptions(
                starting_artifacts=mlmd.LineageSubgraphQueryOptions.StartingNodes(
                    filter_query="id IN (5, 9)"
                )
            )
        )
    ),
    "history": lambda store: str(store.history("artifact", 2)),
    "changes": lambda store: str([*store.changes(since=500)]),
    "diff": lambda store: str(store.diff(400, 500)),
    "proof": lambda store: store.prove(7, store.as_of(500).checkpoint(_KEY)).path,
}


def asked(store: Any, name: str) -> Any:
    """What a read answers; an error of the documented ones is given back."""
    try:
        answer = READS[name](store)
    except errors.StatusError as error:
        return error
    return answer.to_pylist() if isinstance(answer, pa.Table) else answer


def files_of(store: Path) -> list[Path]:
    """The files of a store, relative to it."""
    return sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file())


def is_cache(path: Path) -> bool:
    return path.parts[0] == "projections" or path.name in _HELPS


def damage(path: Path, rng: random.Random, older: bytes | None) -> str:
    """Damage a file in place, or swap it for an older copy of it; what was done."""
    content = path.read_bytes()
    size = len(content)
    ways = ["remove", "garbage"]
    if size:
        ways += ["flip"] * 8 + ["zeros"] * 4 + ["cut"] * 3 + ["shift"]
    if older is not None and older != content:
        ways += ["older in place", "older instead"] * 2
    way = rng.choice(ways)
    at = rng.randrange(size) if size else 0
    if way == "remove":
        path.unlink()
    elif way == "garbage":
        path.write_bytes(rng.randbytes(rng.randrange(1, 5_000)))
    elif way == "flip":
        _overwrite(path, at, bytes([content[at] ^ 1 << rng.randrange(8)]))
    elif way == "zeros":
        length = min(rng.choice([1, 8, 64, 512, 4096, 65536]), size - at)
        _overwrite(path, at, bytes(length))
    elif way == "cut":
        os.truncate(path, at)
    elif way == "shift":
        start = rng.randrange(size)
        _overwrite(path, at, content[start : start + min(4096, size - at)])
    elif way == "older in place":
        assert older is not None
        _overwrite(path, 0, older)
        os.truncate(path, len(older))
    elif way == "older instead":
        assert older is not None
        beside = path.with_name(path.name + ".older")
        beside.write_bytes(older)
        os.replace(beside, path)
    return f"{way} at {at} of {size}"


def _overwrite(path: Path, at: int, part: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(part)


class Bench:
    """A store to damage copies of, and what it answers."""

    def __init__(self, root: Path, reads: int) -> None:
        self.root, self.reads = root, reads
        self.template, older = root / "template", root / "older"
        make_store(self.template)
        shutil.copytree(self.template, older)
        with open_with(self.template, closing_records_min=1) as store:
            for number in range(30):
                _touch(store, number)
            READS["filter"](store)
        self.older = {path: (older / path).read_bytes() for path in files_of(older)}
        self.files = files_of(self.template)
        copy = self.copied("sound")
        with eventstore.open(copy) as store:
            self.expected = {name: asked(store, name) for name in READS}
            self.after_put = _after_put(store)
        raised = {n: a for n, a in self.expected.items() if isinstance(a, errors.StatusError)}
        assert not raised, raised

    def copied(self, name: str) -> Path:
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.template, path)
        return path

    def complaints(self, seed: int, outcome: Outcome) -> Iterator[str]:
        """What is wrong after the damage that a number stands for."""
        rng = random.Random(seed)
        # As often a cache as all else, of which there are more files.
        caches = [path for path in self.files if is_cache(path)]
        others = [path for path in self.files if not is_cache(path)]
        file = rng.choice(rng.choice([caches, caches, others]))
        is_open = rng.random() < 0.6
        path = self.copied("case")
        # Every other one as if its files were long ones.
        limits = {} if seed % 2 else {"copied_bytes_max": 0}
        names = list(READS)
        rng.shuffle(names)
        outcome.count("damaged while open" if is_open else "damaged before opening")
        story = f"case {seed}: {file}"
        store: Any = None
        try:
            if is_open:
                store = open_with(path, **limits)
                for name in names[: rng.choice([0, 3, len(names)])]:
                    asked(store, name)
                rng.shuffle(names)
            story += f", {damage(path / file, rng, self.older.get(file))}"
            story += " while open" if is_open else " before opening"
            if not is_open:
                try:
                    store = open_with(path, **limits)
                except errors.StatusError as error:
                    outcome.count("openings refused")
                    if is_cache(file) and not _may_alarm(file):
                        yield f"{story}: opening raised {error!r}"
                    return
            for name in names[: self.reads]:
                answer = asked(store, name)
                outcome.count("reads")
                if isinstance(answer, errors.StatusError):
                    outcome.count("reads refused")
                    if is_cache(file) and not _may_alarm(file):
                        yield f"{story}: {name} raised {answer!r}"
                elif answer != self.expected[name]:
                    yield f"{story}: {name} answered wrongly"
            if is_cache(file) and not _may_alarm(file):
                if _after_put(store) != self.after_put:
                    yield f"{story}: a put left something else in the log"
                if not store.log.verify().ok:
                    yield f"{story}: a put left a log that is not sound"
        except Exception as error:
            yield f"{story}: {type(error).__name__}: {error}"
        finally:
            if store is not None:
                store.close()


def _may_alarm(file: Path) -> bool:
    """Whether what is damaged there may be the only witness of a commit that is gone."""
    return file.name == "acknowledged"


def _after_put(store: Any) -> list[str]:
    """Change a property of some artifacts; all of them as they are then, times apart."""
    for number in (1, 50, 100):
        _touch(store, number)
    found = store.get_artifacts_by_id(_IDS)
    for artifact in found:
        artifact.ClearField("last_update_time_since_epoch")
    return [str(artifact) for artifact in found]


def run(seeds: range, reads: int, tell: Report = lambda line: None) -> Outcome:
    """Damage a store once for each number, and read it in so many ways."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="eventstore-damage-") as root:
        bench = Bench(Path(root), reads)
        for seed in seeds:
            outcome.count("damages")
            outcome.complaints += bench.complaints(seed, outcome)
            if seed % 100 == 99:
                tell(f"{seed + 1} of {seeds.stop}, {len(outcome.complaints)} complaints")
    return outcome


def part(tell: Report) -> Outcome:
    return run(range(CASES), len(READS), tell)
