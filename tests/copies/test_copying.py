"""A copy has what its source has: the same records, heads and proofs, wherever both are kept."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventstore
from eventstore import errors
from eventstore.audit import SigningKey
from eventstore.copies import copying
from eventstore.log import (
    DirectoryLog,
    Log,
    MemoryLog,
    Position,
    PositionConflictError,
    recorded,
)
from eventstore.log.copying import copy_commits
from eventstore.log.erased import Erased
from eventstore.log.objects import connecting
from eventstore.log.objects.opening import open_bucket
from eventstore.log.places import StoreUrl
from eventstore.log.sql.opening import open_database
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.testing.drafts import append, append_erasure, draft, erased_of
from tests.command_line.runner import run
from tests.contract.sql_logs import database_of
from tests.object_servers import ObjectServer
from tests.sql_servers import Server
from tests.stored_bytes import files_with

MARKER = "ana.example-51c9"
KINDS = ("memory", "directory", "postgresql", "mariadb", "s3")
SERVERS = ("directory", "postgresql", "mariadb", "directory")
Make = Callable[..., Log]


@pytest.fixture
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    """Makes an empty log of a kind, with the id of another one if it is to be its copy."""
    numbers = itertools.count()
    with ExitStack() as opened:

        def made(kind: str, of: Log | None = None) -> Log:
            store_id = None if of is None else of.store_id
            if kind == "memory":
                log: Log = MemoryLog(store_id)
            elif kind == "directory":
                path = tmp_path / f"log-{next(numbers)}"
                log = DirectoryLog.create(path, store_id=store_id, segment_records_max=4)
            elif kind == "s3":
                objects: ObjectServer = request.getfixturevalue(kind)
                for name, value in objects.environment.items():
                    monkeypatch.setenv(name, value)
                bucket = connecting.of_url(objects.url(objects.new_prefix()))
                log = open_bucket(bucket, new_id=store_id, segment_records_max=4)
            else:
                server: Server = request.getfixturevalue(kind)
                database = database_of(server, server.new_database())
                log = open_database(database, new_id=store_id, segment_records_max=4)
            return opened.enter_context(closing(log))

        yield made


def _copy(source: Log, target: Log) -> None:
    left = copy_commits(source, target)
    if left:
        target.destroy(left)


def _assert_alike(source: Log, target: Log) -> None:
    assert list(target.commits()) == list(source.commits())
    ours, theirs = ([row for b in log.scan() for row in b.to_pylist()] for log in (source, target))
    assert ours == theirs
    for position in range(source.position + 2):
        assert target.commit_end(position) == source.commit_end(position)
    report = target.verify()
    assert report.findings == []
    assert report.tree_head == source.verify().tree_head


def _sealed_rows(log: Log) -> list[dict[str, Any]]:
    """The records in the Parquet files of a log."""
    log.seal()
    tables = [parquet.read_table(file.path) for file in log.sealed_files()]
    return pa.concat_tables(tables).to_pylist() if tables else []


@pytest.mark.share(2)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.integers(1, 5),
            st.sampled_from(["seal", "copy"]),
            st.tuples(st.booleans(), st.integers(1, 12)),
        ),
        min_size=3,
        max_size=8,
    ),
)
@pytest.mark.parametrize(("few", "kinds"), [(1, SERVERS), (100, SERVERS), (1, ("s3", "directory"))])
def test_copies_from_log_to_log_are_alike_and_go_on(
    make: Make, few: int, kinds: tuple[str, ...], steps: list[Any]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recorded, "_FEW_COMMITS", few)
        _assert_copies_alike(make, kinds, steps)


def _assert_copies_alike(make: Make, kinds: Sequence[str], steps: list[Any]) -> None:
    source = make("memory")
    chain = [source, *(make(kind, source) for kind in kinds)]
    numbers, puts, erased = itertools.count(1), set[int](), Erased()

    def copy_all() -> None:
        for ours, theirs in itertools.pairwise(chain):
            _copy(ours, theirs)

    for step in steps:
        if isinstance(step, int):
            first = source.position + 1
            append(source, *(draft(first + n) for n in range(step)))
            puts |= {*range(first, first + step)}
        elif step == "seal":
            for log in chain[1:]:
                log.seal()
        elif step == "copy":
            copy_all()
        elif step[1] in puts:
            is_destroyed, position = step
            puts.remove(position)
            one = erased_of([position], [position] if is_destroyed else [])
            append_erasure(source, one, number=next(numbers))
            erased = erased.union(one)
            if is_destroyed:
                source.destroy(one)
    append(source, draft(source.position + 1))
    copy_all()
    # What is pending is left in the source alone.
    source.destroy(erased)
    for log in chain[1:]:
        _assert_alike(source, log)
    # Those of object storage have URLs, which Arrow would look for in the cloud.
    rows = [_sealed_rows(log) for kind, log in zip(kinds, chain[1:], strict=True) if kind != "s3"]
    assert all(found == rows[0] for found in rows)
    assert [row["position"] for row in rows[0]] == [*range(1, source.position + 1)]
    # Each can be put to.
    for log in chain[1:]:
        append(log, draft(1_000))
        assert log.verify().ok


def test_a_store_goes_from_place_to_place(
    tmp_path: Path, postgresql: Server, mariadb: Server
) -> None:
    places = [
        tmp_path / "one",
        postgresql.url(postgresql.new_database()),
        mariadb.url(mariadb.new_database()),
        tmp_path / "two",
    ]
    with eventstore.open("memory://") as first:
        _fill(first)
        first.erase("artifact", 1, reason="GDPR-17(1)(b)")
        checkpoint = first.checkpoint(SigningKey.generate("ana@example.com"))
        proofs = [first.prove(p, checkpoint) for p in range(1, first.log_position() + 1)]
        artifacts = first.get_artifacts()
        first.copy_to(places[0])
    for source, target in itertools.pairwise(places):
        assert run("copy", str(source), str(target)).code == 0
    exports = []
    for number, place in enumerate(places):
        with eventstore.open(place, read_only=True) as store:
            assert store.verify(checkpoints=[checkpoint]).ok
            assert [store.prove(p, checkpoint) for p in range(1, len(proofs) + 1)] == proofs
            assert store.get_artifacts() == artifacts
        run("export", str(place), str(tmp_path / f"{number}.jsonl"))
        exports.append((tmp_path / f"{number}.jsonl").read_text())
    assert len({*exports}) == 1
    assert MARKER not in exports[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_erased_is_not_copied_and_leaves_the_copy(make: Make, kind: str) -> None:
    source, erased = MemoryLog(), erased_of([2], [3])
    for number in range(1, 4):
        append(source, draft(number))
    target = make(kind, source)
    _copy(source, target)
    append_erasure(source, erased)
    append(source, draft(4))
    fresh = make(kind, source)
    for log in (target, fresh):
        _copy(source, log)
        found = [record for commit in log.commits() for record in commit.records]
        assert [record.payload is None for record in found] == [False, True, *[False] * 3]
        assert [record.actor is None for record in found] == [False, False, True, False, False]
        assert log.verify().findings == []


def test_what_is_erased_while_it_is_copied_comes_with_its_erasure() -> None:
    source = MemoryLog()
    target = MemoryLog(source.store_id)
    for number in range(1, 4):
        append(source, draft(number))

    def erase(*_: int) -> None:
        if source.position == 3:
            append_erasure(source, erased_of([2]))
            source.destroy(erased_of([2]))

    assert not copy_commits(source, target, tell=erase)
    assert target.position == source.position == 4
    _assert_alike(source, target)


def test_other_targets_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    source = MemoryLog()
    append(source, draft(1), draft(2))
    for number in range(3, 7):
        append(source, draft(number))
    copying.copy_log(source, tmp_path / "behind")
    for name, commits in (("copy", 3), ("early", 1), ("late", 5)):
        with closing(DirectoryLog.create(tmp_path / name, store_id=source.store_id)) as fork:
            fork.append_recorded([*source.commits()][:commits], expected_position=Position(0))
            append(fork, draft(50))
            append(fork, draft(51))
    with closing(DirectoryLog.create(tmp_path / "other")) as other:
        append(other, draft(1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    for name, reason in (
        ("copy", "they part at position 5,"),
        ("early", "they part at position 3,"),
        ("late", "they part at position 7,"),
        ("other", "has another store"),
        ("full", "neither empty nor a store"),
        ("full/notes", "is a file, and a store is a directory"),
    ):
        before = _files(tmp_path / name)
        with pytest.raises(errors.FailedPreconditionError, match=reason):
            copying.copy_log(source, tmp_path / name)
        assert _files(tmp_path / name) == before
    with pytest.raises(errors.InvalidArgumentError, match="would be gone"):
        eventstore.copy(tmp_path / "copy", "memory://")
    with pytest.raises(errors.InvalidArgumentError, match="inside of it"):
        eventstore.copy(tmp_path / "copy", tmp_path / "copy" / "copy")
    with pytest.raises(errors.NotFoundError):
        eventstore.copy(tmp_path / "nothing", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_that_is_killed_at_any_step_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target has what is erased by then, and somebody reads it all the time."""
    monkeypatch.setattr(recorded, "_GROUP_RECORDS", 4)
    source = DirectoryLog.create(tmp_path / "source", segment_records_max=4)
    append(source, draft(1, name=MARKER), draft(2))
    copying.copy_log(source, tmp_path / "before")
    for number in range(2, 5):
        append(source, draft(2 * number), draft(2 * number + 1))
    append_erasure(source, erased_of([1, 6]))
    source.destroy(erased_of([1, 6]))
    heads = [commit.tree_head for commit in source.commits()]
    kills = 0
    for at in itertools.count(0, 2):
        target = tmp_path / f"target-{at}"
        shutil.copytree(tmp_path / "before", target)
        with closing(DirectoryLog.open(target, read_only=True)) as reader:
            is_killed = _is_killed(lambda: _kill_in_folder(target, at), source, target)  # noqa: B023
            reader.refresh()
            found = [commit.tree_head for commit in reader.commits()]
            assert found == heads[: len(found)]
            assert copying.copy_log(source, target).tree_head == heads[-1].hex()
            reader.refresh()
            assert [commit.tree_head for commit in reader.commits()] == heads
            if at % 10 == 0:
                assert reader.verify().findings == []
        assert files_with(target, MARKER.encode()) == []
        kills += is_killed
        if not is_killed:
            break
    assert kills > 10
    source.close()


@pytest.mark.share(2)
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_copy_into_a_database_that_is_killed_at_any_statement_goes_on(
    request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "_GROUP_RECORDS", 2)
    monkeypatch.setattr(recorded, "_FEW_COMMITS", 0)
    server: Server = request.getfixturevalue(kind)
    source = MemoryLog()
    for number in range(1, 4):
        append(source, draft(2 * number), draft(2 * number + 1))
    heads = [commit.tree_head for commit in source.commits()]
    for at in itertools.count(0, 2):
        url = StoreUrl(server.url(server.new_database()))
        is_killed = _is_killed(lambda: _kill_at_statement(at), source, url)  # noqa: B023
        report = copying.copy_log(source, url)
        assert report.tree_head == heads[-1].hex()
        if not is_killed:
            assert report.copied == 0
            break
    assert at > 8
    with closing(open_database(database_of(server, str(url).rpartition("/")[2]))) as log:
        _assert_alike(source, log)


def _is_killed(strike: Callable[[], None], source: Log, target: Path | StoreUrl) -> bool:
    """Whether a process that copies is killed by what it meets there, and not done before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            strike()
            copying.copy_log(source, target)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return bool(status)


def _kill_in_folder(folder: Path, at: int) -> None:
    """Kill this process before a step that changes what a folder has."""
    count = itertools.count()

    def patched(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(given: Any, *arguments: Any, **named: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{given}") if isinstance(given, int) else str(given)
            is_counted = path.startswith(str(folder)) and path.endswith(_STEPPED)
            if is_counted and next(count) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(given, *arguments, **named)

        return step

    for module, name in ((os, "replace"), (os, "ftruncate"), (os, "fsync"), (Path, "unlink")):
        setattr(module, name, patched(getattr(module, name)))


_STEPPED = (".tmp", ".arrows", ".parquet", "log", "manifest.json")


def _kill_at_statement(at: int) -> None:
    """Kill this process before a statement or the end of a transaction."""
    count = itertools.count()

    def strike(*_: Any) -> None:
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def strike_at_insert(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith(("INSERT", "CREATE")):
            strike()

    sa.event.listen(sa.Engine, "before_cursor_execute", strike_at_insert)
    sa.event.listen(sa.Engine, "commit", strike)


def test_of_two_copies_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemoryLog()
    for number in range(1, 9):
        append(source, draft(number))
    monkeypatch.setattr(recorded, "_GROUP_RECORDS", 4)
    append_recorded, refused = DirectoryLog.append_recorded, []

    def overtaken(log: DirectoryLog, *arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(DirectoryLog, "append_recorded", append_recorded)
        copying.copy_log(source, tmp_path / "copy")
        try:
            append_recorded(log, *arguments, **named)
        except PositionConflictError:
            refused.append(True)
            raise

    monkeypatch.setattr(DirectoryLog, "append_recorded", overtaken)
    with pytest.raises(errors.AbortedError, match="somebody else appended"):
        copying.copy_log(source, tmp_path / "copy")
    assert refused == [True]
    with closing(DirectoryLog.open(tmp_path / "copy")) as copy:
        _assert_alike(source, copy)


def test_a_copy_ends_where_the_source_was_as_it_began(tmp_path: Path) -> None:
    source = MemoryLog()
    append(source, draft(1))
    told: list[tuple[int, int]] = []

    def put(done: int, of: int) -> None:
        told.append((done, of))
        append(source, draft(source.position + 1))

    assert copying.copy_log(source, tmp_path / "copy", put).records == 1
    assert told == [(0, 1), (1, 1)]


def test_what_comes_before_damage_is_copied(tmp_path: Path) -> None:
    with closing(DirectoryLog.create(tmp_path / "store")) as log:
        for number in range(1, 5):
            append(log, draft(number))
            if number % 2 == 0:
                log.seal()
        path = log.sealed_files()[-1].path
    assert isinstance(path, Path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(errors.DataLossError, match=r"further than to position 2: .*2\.parquet"):
        eventstore.copy(tmp_path / "store", tmp_path / "copy")
    with closing(DirectoryLog.open(tmp_path / "copy")) as copy:
        assert (copy.position, copy.verify().ok) == (2, True)
    path.write_bytes(whole)
    assert eventstore.copy(tmp_path / "store", tmp_path / "copy").copied == 2


def test_what_comes_before_a_forged_commit_is_copied(tmp_path: Path) -> None:
    source = MemoryLog()
    for number in range(1, 6):
        append(source, draft(number))
    other = MemoryLog(source.store_id)
    for number in range(1, 6):
        append(other, draft(number))
    source._commits[3] = other._commits[3]
    with pytest.raises(errors.DataLossError, match=r"position 3: .* commit 4"):
        copying.copy_log(source, tmp_path / "copy")
    with closing(DirectoryLog.open(tmp_path / "copy")) as copy:
        assert (copy.position, copy.verify().ok) == (3, True)


def test_what_is_erased_without_an_erasure_is_not_copied(tmp_path: Path) -> None:
    source = MemoryLog()
    append(source, draft(1))
    append(source, draft(2))
    source.destroy(erased_of([2]))
    with pytest.raises(errors.DataLossError, match="after position 1 some are erased"):
        copying.copy_log(source, tmp_path / "copy")


def _fill(store: MetadataStore) -> None:
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    store.put_artifacts([mlmd.Artifact(type_id=type_id, name=f"{MARKER}-name")])
    store.put_artifacts([mlmd.Artifact(type_id=type_id, name="other")])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetadataStore]:
    with eventstore.open(tmp_path / "store", actor="operator") as store:
        _fill(store)
        yield store


def test_a_copy_with_caches_loses_what_is_erased(store: MetadataStore, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    assert store.copy_to(target).records == store.log_position()
    with eventstore.open(target, read_only=True) as copy:
        assert copy.get_artifacts() == store.get_artifacts()
    run("rebuild", str(target))
    assert files_with(target, MARKER.encode())
    store.erase("artifact", 1, reason="GDPR-17(1)(b)")
    assert eventstore.copy(tmp_path / "store", target).copied > 0
    assert files_with(target, MARKER.encode()) == []
    with eventstore.open(target, read_only=True) as copy:
        assert copy.get_artifacts() == store.get_artifacts()
        assert copy.verify().ok


def test_what_was_read_of_a_copy_that_was_broken_off_does_not_stay(
    store: MetadataStore, tmp_path: Path
) -> None:
    """Its caches were folded before the erasure was there, and what takes the place of a record."""
    store.erase("artifact", 1, reason="GDPR-17(1)(b)", redact=["name"])
    commits = [*store.log.commits()]
    erased = next(n for n, c in enumerate(commits, 1) if any(r.salt is None for r in c.records))
    for number in (erased, len(commits) - 1):
        target = tmp_path / f"copy-{number}"
        with closing(DirectoryLog.create(target, store_id=store.log.store_id)) as log:
            log.append_recorded(commits[:number], expected_position=Position(0))
            if number == erased:
                assert "where a copy was broken off" in log.verify().findings[0].what
        assert run("rebuild", str(target)).code == 0
        store.copy_to(target)
        with eventstore.open(target, read_only=True) as copy:
            assert copy.get_artifacts() == store.get_artifacts()
            assert copy.verify().ok


def test_what_is_held_is_not_destroyed_by_a_forged_erasure(
    store: MetadataStore, tmp_path: Path
) -> None:
    store.place_hold(basis="CASE-7", entities=[("artifact", 1)])
    store.copy_to(tmp_path / "copy")
    position = store.history("artifact", 1)[0].position
    append_erasure(store._engine.log, erased_of([position]))
    before = _files(tmp_path / "copy" / "log")
    with pytest.raises(errors.FailedPreconditionError, match="must not be erased"):
        store.copy_to(tmp_path / "copy")
    assert _files(tmp_path / "copy" / "log") == before


@pytest.mark.parametrize("kind", KINDS[1:3])
def test_what_was_erased_since_a_backup_does_not_come_back(
    store: MetadataStore,
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVENTSTORE_CACHE", str(tmp_path / "copy" / "caches"))
    store.backup(tmp_path / "backup")
    store.erase("artifact", 1, reason="GDPR-17(1)(b)", who=True)
    register = tmp_path / "register"
    register.write_text(store.register_of_erasures())
    target = str(tmp_path / "copy")
    if kind == "postgresql":
        server: Server = request.getfixturevalue(kind)
        target = server.url(server.new_database())
    names = (str(tmp_path / "backup"), target)
    done = run("copy", *names, "--erasures", str(register), "--json")
    said = json.loads(done.out)
    assert (said["erasures_repeated"], said["copied"]) == (1, said["records"] - 2)
    assert "Recorded again: 1 erasure" in done.err
    if kind == "postgresql":
        # With all that the database has.
        eventstore.copy(target, tmp_path / "copy" / "of it")
    assert files_with(tmp_path / "copy", MARKER.encode()) == []
    with eventstore.open(target, read_only=True) as copy:
        assert [artifact.name for artifact in copy.get_artifacts()] == ["", "other"]
        assert copy.verify().ok
    # Once more, as after a break.
    again = json.loads(run("copy", *names, "--erasures", str(register), "--json").out)
    assert (again["erasures_repeated"], again["copied"]) == (0, 0)
    assert again["tree_head"] == said["tree_head"]
    assert run("copy", *names).code == 1


def test_the_command(store: MetadataStore, tmp_path: Path) -> None:
    names = (str(tmp_path / "store"), str(tmp_path / "copy"))
    said = json.loads(run("copy", *names, "--json").out)
    assert said["copied"] == said["records"] == store.log_position()
    store.set_retention_rule(basis="AI-ACT-19", keep_at_least=timedelta(days=1), kinds=["artifact"])
    again = run("copy", *names)
    assert ": 1 record more" in again.out
    assert again.err == ""
    fresh = run("copy", names[0], str(tmp_path / "fresh"))
    assert "If this was a backup" in fresh.err
