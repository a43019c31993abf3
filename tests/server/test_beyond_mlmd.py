"""What is beyond MLMD, through a server: the same methods, the same answers, the same errors."""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

import eventstore
from eventstore import ListOptions, MetadataStore, errors
from eventstore.audit import Checkpoint, SigningKey
from eventstore.cancellation import check_wanted
from eventstore.metadata_store import remote_calls
from eventstore.metadata_store.passed_values import packed, unpacked
from eventstore.metadata_store.served import OWN_SERVICE
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server import beyond_mlmd
from eventstore.server.beyond_mlmd import _for_roles
from eventstore.server.roles import METHODS, Role
from eventstore.server.server import Server
from tests.command_line.runner import run
from tests.differential.generator import Generator
from tests.server.certificates import Authority
from tests.server.serving import client_config, serving

KEY = SigningKey.generate("auditor")

FILES = {
    "backup": ("copy",),
    "compact": (),
    "copy_to": ("copy",),
    "destroy_keys": ("keys",),
    "publish_tiles": ("tiles", None),
    "segment_files": (),
}
"""Methods that work on files, by what they are given here."""

COMPOSED = {
    *("acting", "as_of", "checkpoint", "close", "downstream", "has_run", "prove", "upstream"),
    *("pipeline_asset", "prove_consistency", "run", "verify", "wait_for"),
    *("log", "max_staleness"),
}
"""Methods that stand on others, and properties."""


def test_every_method_is_served_or_stands_on_others_or_works_on_files() -> None:
    public = {name for name in dir(MetadataStore) if not name.startswith(("_", "get_", "put_"))}
    names = {method.function.__name__ for method in METHODS.values()}
    assert public == {name for name in names if name[0] != "_"} | COMPOSED | {*FILES}


def test_the_service_has_an_rpc_for_every_method() -> None:
    service = own.DESCRIPTOR.services_by_name["EventStoreService"]
    assert service.full_name == OWN_SERVICE
    assert {rpc.name for rpc in service.methods} == {*METHODS}
    assert {Role(method.need) for method in METHODS.values()} == {
        *(Role.READ, Role.AUDIT, Role.ADMIN)
    }


@pytest.mark.parametrize("rpc", METHODS)
def test_the_types_of_all_parameters_are_known(rpc: str) -> None:
    assert {*METHODS[rpc].arguments} == {*METHODS[rpc].signature.parameters} - {
        *("self", "progress", "stop")
    }


@pytest.mark.parametrize("name", FILES)
def test_files_are_worked_on_where_they_are(
    client: MetadataStore, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        errors.UnimplementedError, match=rf"{name} works on files.*eventstore\.open"
    ):
        getattr(client, name)(*FILES[name])
    assert not [*tmp_path.iterdir()]


def test_the_log_itself_is_not_there(client: MetadataStore) -> None:
    with pytest.raises(errors.UnimplementedError, match="open the store itself"):
        client.log.scan(0, 1, [])
    with pytest.raises(errors.UnimplementedError, match="snapshot"):
        client._source.snapshot()
    with pytest.raises(errors.UnimplementedError, match="max_staleness"):
        client.max_staleness = 1.0
    assert client.max_staleness == 0
    with pytest.raises(errors.FailedPreconditionError, match="takes no puts"):
        client.as_of(client.log_position()).put_artifacts([])


def test_it_can_be_looked_at(client: MetadataStore, server: Server) -> None:
    """As notebooks and debuggers do it."""
    for store in (client, client.as_of(client.log_position())):
        assert {name for name, _ in inspect.getmembers(store)} >= {"history", "sql", "_source"}
        html = store._repr_html_()
        assert html is not None
        assert f"127.0.0.1:{server.port}" in html
    assert not hasattr(client.log, "_repr_html_")


# The same answers


@pytest.fixture(scope="module", params=range(2))
def both(request: pytest.FixtureRequest) -> Iterator[tuple[MetadataStore, MetadataStore]]:
    """A store with a random history, and the same through a server."""
    with eventstore.open("memory://", actor="home") as home:
        generator = Generator(random.Random(request.param))
        for _ in range(60):
            put_something(home, generator)
        value = mlmd.Value(double_value=float("nan"))
        data = home.put_artifact_type(mlmd.ArtifactType(name="Sure"))
        kept = mlmd.Artifact(type_id=data, uri="kept", custom_properties={"x": value})
        kept.custom_properties["n"].int_value = 2**63 - 1
        kept.custom_properties["s"].struct_value.update({"a": [1, 2.5, None, {"b": "ü\x00"}]})
        [kept_id, gone_id] = home.put_artifacts([kept, mlmd.Artifact(type_id=data, name="gone")])
        work = home.put_execution_type(mlmd.ExecutionType(name="Work"))
        [execution_id] = home.put_executions(
            [mlmd.Execution(type_id=work, last_known_state=mlmd.Execution.COMPLETE)]
        )
        ends = ((kept_id, mlmd.Event.INPUT), (gone_id, mlmd.Event.OUTPUT))
        home.put_events(
            [
                mlmd.Event(artifact_id=id_, execution_id=execution_id, type=type_)
                for id_, type_ in ends
            ]
        )
        home.put_artifacts([mlmd.Artifact(id=kept_id, type_id=data, uri="changed")])
        home.place_hold(entities=[("artifact", kept_id)], basis="CASE-1")
        home.set_retention_rule(kinds=["event"], keep_at_least=timedelta(days=1), basis="LAW-1")
        home.erase("artifact", gone_id, reason="GDPR-17")
        with serving(home._engine) as server, MetadataStore(client_config(server.port)) as client:
            for store in (home, client):
                store.kept, store.gone = kept_id, gone_id  # type: ignore[attr-defined]
                store.work_inputs = [kept_id]  # type: ignore[attr-defined]
            yield home, client


def put_something(store: MetadataStore, generator: Generator) -> None:
    call = generator.next_call()
    with suppress(errors.StatusError):
        generator.learn(*call, store._engine.call(*call))


def outcome(ask: Callable[[Any], Any], store: Any) -> tuple[type, str]:
    """An answer or error, told apart to the bit: NaN is itself here, and 1 is not 1.0."""
    try:
        answer = ask(store)
    except Exception as error:
        return type(error), str(error)
    return type(answer), repr(answer)


ASKED: dict[str, Callable[[Any], Any]] = {
    "position": lambda s: s.log_position(),
    "changes": lambda s: [*s.changes()],
    "changes of some": lambda s: [*s.changes(3, kinds=["artifact"], actors={"home"})],
    "changes of an unknown kind": lambda s: [*s.changes(kinds=["x"])],
    "changes of swapped moments": lambda s: s.changes(9, 3),
    "changes of the future": lambda s: s.changes(10**9),
    "diff": lambda s: s.diff(10),
    "diff of no moment": lambda s: s.diff(datetime(2026, 1, 1)),
    "diff before all": lambda s: s.diff(datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=5)))),
    "history of another kind": lambda s: s.history("x", 1),
    "history of nothing": lambda s: s.history("artifact", 10**9),
    "event": lambda s: s.history("event", 1),
    "event of an impossible id": lambda s: s.history("event", 2**64 - 1),
    "hold": lambda s: [c for c in s.changes() if c.changes[0].kind in ("hold", "erasure")],
    "graph": lambda s: s.lineage("artifact", 1),
    "upstream": lambda s: s.upstream("execution", 1, max_hops=1, max_nodes=3),
    "lineage of another kind": lambda s: s.lineage("context", 1),
    "context": lambda s: (s.context_graph(1), s.context_history(1)),
    "lineage_diff": lambda s: s.lineage_diff("execution", 1, 10),
    "runs": lambda s: s.find_runs("Work", (id_ for id_ in s.work_inputs), limit=3),
    "runs by key": lambda s: s.has_run("Work", {"": {1}}, properties={"a": 1.0}),
    "runs of no type": lambda s: s.find_runs("Nothing", []),
    "compare": lambda s: s.compare("artifact", s.kept, s.gone),
    "compare unlike": lambda s: s.compare("artifact", 1, 10**9),
    "info": lambda s: s.info(),
    "explain": lambda s: s.explain(ListOptions(filter_query="uri = 'a'", limit=3)),
    "explain nonsense": lambda s: s.explain(ListOptions(filter_query="uri = ")),
    "holds": lambda s: (s.holds(), s.retention_rules(), s.expired()),
    "erasures": lambda s: s.register_of_erasures(),
    "dry run": lambda s: s.erase("artifact", s.kept, reason="R-1", dry_run=True),
    "erase": lambda s: s.erase("artifact", s.kept, reason="R-1"),
    "redact nothing": lambda s: s.erase("artifact", s.kept, reason="R-1", redact=[]),
    "no pairs": lambda s: s.erase_many([("artifact", 1)], reason="two words"),
    "release": lambda s: s.release_hold(17, ticket="T-1"),
    "approve": lambda s: s.approve_erasure(17),
    "withdraw": lambda s: (s.withdraw_erasure(17),),
    "complete": lambda s: s.complete_erasures(),
    "withdraw a rule": lambda s: s.withdraw_retention_rule(17, ticket="T-1"),
    "a scope of nothing": lambda s: s.place_hold(kinds=["x"], basis="B-1"),
    "verify": lambda s: s.verify(),
    "verify some": lambda s: s.verify(since=3, until=9, caches=False),
    "seal": lambda s: (s.seal(), s.rebuild()),
    "wait": lambda s: s.wait_for(3),
    "wait in vain": lambda s: s.wait_for(10**9, timeout=0.01),
    "wait for nothing": lambda s: s.wait_for(-1),
    "follow": lambda s: [commit for _, commit in zip(range(5), s.follow(after=0))],  # noqa: B905
    "follow nothing": lambda s: next(s.follow(after=-1)),
    "sql": lambda s: s.sql("FROM records ORDER BY position").arrow().to_pylist(),
    "sql of all types": lambda s: s.sql("SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?", PARAMETERS).rows(),
    "sql by name": lambda s: s.sql("SELECT $a AS x, $b", {"a": [1, None], "b": True}).arrow(),
    "sql of nothing": lambda s: s.sql("FROM artifacts WHERE false").arrow(),
    "wrong sql": lambda s: s.sql("FROM nothing"),
    "no sql": lambda s: s.sql("FROM artifacts", timeout_seconds=-1.5),
    "no time": lambda s: s.sql("FROM artifacts", as_of=0),
    "a call of nothing": lambda s: s.history("artifact", 1, surplus=1),
    "a call without": lambda s: s.history("artifact"),
    "a call with more": lambda s: s.place_hold(5),
    "as of": lambda s: (s.as_of(20).get_artifacts(), s.as_of(20).history("artifact", 1)),
    "as of: position": lambda s: s.as_of(20).log_position(),
    "as of: graph": lambda s: s.as_of(25).lineage("execution", 1),
    "as of: sql": lambda s: s.as_of(20).sql("FROM artifact_versions").rows(),
    "as of: missing": lambda s: s.as_of(20).get_artifacts_by_type("Nothing"),
    "as of: put": lambda s: s.as_of(20).put_artifacts([]),
    "as of: nothing": lambda s: s.as_of("yesterday"),
    "changes since nothing": lambda s: next(s.changes(since="yesterday")),
    "diff to nothing": lambda s: s.diff(3, True),
    "as of: the future": lambda s: s.as_of(datetime(2100, 1, 1, tzinfo=timezone.utc)),
}
PARAMETERS = [
    *(date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5, 6), Decimal("1.50"), 2**70, b"\0\xff"),
    *(UUID(int=7), timedelta(days=-1, microseconds=1), "2026-01-02", -0.0),
]


@pytest.mark.parametrize("name", ASKED)
def test_answers_and_errors_are_the_same(
    both: tuple[MetadataStore, MetadataStore], name: str
) -> None:
    home, client = (outcome(ASKED[name], store) for store in both)
    assert client == home


def test_all_versions_are_the_same(both: tuple[MetadataStore, MetadataStore]) -> None:
    home, client = both
    seen = {(change.kind, change.id) for commit in home.changes() for change in commit.changes}
    for kind, id_ in sorted(seen)[:60]:
        ask: Callable[[Any], Any] = lambda s: s.history(kind, id_)  # noqa: B023, E731
        assert outcome(ask, client) == outcome(ask, home)


def test_what_is_changed_through_a_server_is_changed(home: MetadataStore, client: Any) -> None:
    data = client.put_artifact_type(mlmd.ArtifactType(name="Changed"))
    [id_] = client.put_artifacts([mlmd.Artifact(type_id=data, uri="secret")])
    with client.acting(actor="ana", reason="court"):
        number = client.place_hold(entities=[("artifact", id_)], basis="CASE-7")
    assert [hold.placed_by for hold in home.holds() if hold.number == number] == ["ana"]
    assert client.release_hold(number, ticket="T-7").stage == "released"
    told = list[tuple[int, int]]()
    report = client.erase("artifact", id_, reason="GDPR-17", progress=lambda *a: told.append(a))
    assert report.stage == "completed"
    [tombstone] = home.get_artifacts_by_id([id_])
    assert tombstone.uri == ""


@pytest.mark.parametrize("is_known", [True, False])
def test_a_change_whose_answer_was_lost_is_made_once(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    monkeypatch.setattr(remote_calls, "_PATIENCE_SECONDS", 60.0)
    lost, place_hold = [1, 2], METHODS["PlaceHold"].function

    def answered(*given: Any, **named: Any) -> Any:
        answer = place_hold(*given, **named)
        if lost:
            raise errors.UnavailableError(f"Socket closed {lost.pop()}")
        return answer

    answer_with(monkeypatch, "PlaceHold", answered)
    with serving(home._engine) as server, MetadataStore(client_config(server.port)) as client:
        if is_known:
            client.holds()
        before = len(home.holds())
        number = client.place_hold(kinds=["context"], basis="CASE-8")
    assert not lost
    assert [hold.number for hold in home.holds()[before:]] == [number]
    assert home.release_hold(number, ticket="T-8").stage == "released"


def test_a_change_that_is_given_up_says_how_to_find_out(
    home: MetadataStore, client: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> Any:
        raise errors.UnavailableError("Socket closed")

    client.holds()
    answer_with(monkeypatch, "Seal", lost)
    with pytest.raises(errors.OutcomeUnknownError, match=r"within store\.acting\(request_id="):
        client.seal()


def test_progress_is_told(home: MetadataStore, client: MetadataStore) -> None:
    told = list[tuple[int, int]]()
    report = client.verify(lambda done, in_all: told.append((done, in_all)))
    assert report.ok
    assert told[-1][0] == told[-1][1] > 0


def answer_with(monkeypatch: pytest.MonkeyPatch, rpc: str, function: Callable[..., Any]) -> None:
    """Have servers answer otherwise."""
    method = METHODS[rpc]
    assert method.required <= method.arguments.keys()
    monkeypatch.setattr(method, "function", function)


# What is signed and proved


def test_who_signs_keeps_the_key_and_looks_at_what_is_signed(
    home: MetadataStore, client: MetadataStore
) -> None:
    first = client.checkpoint(KEY)
    assert Checkpoint.parse(first.text, KEY.verifier_key) == first
    assert replace(first, signed_at=None, text="") == replace(  # type: ignore[arg-type]
        home.checkpoint(KEY), signed_at=None, text=""
    )
    client.put_artifact_type(mlmd.ArtifactType(name=f"After {first.size}"))
    second = client.checkpoint(KEY, previous=first)
    assert client.prove_consistency(first, second) == home.prove_consistency(first, second)
    assert client.prove(1, second) == home.prove(1, second)
    assert client.verify(checkpoints=[first, second]).ok
    elsewhere = replace(first, store_id=UUID(int=1))
    for ask in (
        lambda s: s.prove(1, elsewhere),
        lambda s: s.verify(checkpoints=[elsewhere]),
        lambda s: s.prove(10**6, first),
        lambda s: s.prove_consistency(second, first),
        lambda s: s.checkpoint(KEY, previous=replace(first, root=bytes(32))),
        lambda s: s.verify(checkpoints=[replace(first, root=bytes(32))]),
    ):
        assert outcome(ask, client) == outcome(ask, home)


def test_a_server_that_lies_is_found_out(
    home: MetadataStore, client: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = home.checkpoint(KEY)
    home.put_artifact_type(mlmd.ArtifactType(name=f"Lied about {first.size}"))
    second = home.checkpoint(KEY)
    proof, consistency = home.prove(2, second), home.prove_consistency(first, second)
    other = home.prove(3, second)
    forged = replace(proof, path=(bytes(32), *proof.path[1:]))
    for lie in (forged, other, replace(forged, record=other.record)):
        answer_with(monkeypatch, "Prove", lambda *_, lie=lie, **__: lie)
        with pytest.raises(errors.DataLossError):
            client.prove(2, second)
    wrong = replace(consistency, path=(bytes(32), *consistency.path[1:]))
    answer_with(monkeypatch, "ProveConsistency", lambda *_, **__: wrong)
    for ask in (
        lambda: client.prove_consistency(first, second),
        lambda: client.checkpoint(KEY, previous=first),
    ):
        with pytest.raises(errors.DataLossError, match="does not begin with"):
            ask()


# Streams


def test_a_long_answer_is_read_as_it_is_needed(
    home: MetadataStore, client: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not run ahead of its client, and stops once that is gone."""
    made, ended = [0], threading.Event()

    def endless(*_: Any, **__: Any) -> Iterator[Any]:
        commit = next(home.changes())
        try:
            while True:
                made[0] += 1
                yield replace(commit, reason="x" * 100_000)
        finally:
            ended.set()

    answer_with(monkeypatch, "Changes", endless)
    commits = iter(client.changes())
    for _ in range(3):
        next(commits)
    assert made[0] < 1_000
    commits.close()  # type: ignore[attr-defined]
    assert ended.wait(60)


def test_work_for_nobody_is_given_up(
    client: MetadataStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()

    def endless(*_: Any, **__: Any) -> None:
        began.set()
        try:
            while not ended.wait(0.01):
                check_wanted()
        finally:
            ended.set()

    answer_with(monkeypatch, "Sql", endless)
    with grpc.insecure_channel(server.address) as channel:
        content = own.Arguments(values=packed({"query": "FROM types"})).SerializeToString()
        call = channel.unary_stream(f"/{OWN_SERVICE}/Sql")(content)
        assert began.wait(60)
        call.cancel()
        assert ended.wait(60)


@pytest.mark.parametrize("seconds", [600, 0.01])
def test_results_that_nobody_reads_leave_room_for_others(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Whoever asks for much and reads nothing keeps it in the server, but not without a bound."""
    # Of a result of a few MB all may be on its way already: gRPC lets connections have so much.
    monkeypatch.setattr(beyond_mlmd, "memory_limit_bytes", lambda: 128 * 2**20)
    monkeypatch.setattr(beyond_mlmd, "_READING_SECONDS_MAX", seconds)
    much = "SELECT repeat('x', 1000) FROM range(40000)"
    arguments = own.Arguments(values=packed({"query": much})).SerializeToString()
    with (
        serving(home._engine, threads=2) as server,
        grpc.insecure_channel(server.address) as channel,
        MetadataStore(client_config(server.port)) as client,
    ):
        unread = channel.unary_stream(f"/{OWN_SERVICE}/Sql")(arguments)
        next(unread)
        if seconds > 1:
            with pytest.raises(errors.ResourceExhaustedError, match="too much is on its way"):
                client.sql(much)
            assert client.sql("SELECT 1").rows() == [(1,)]
            unread.cancel()
        else:
            # It is cut off, though its client is still there.
            monkeypatch.setattr(beyond_mlmd, "_READING_SECONDS_MAX", 600)
        # The server lets go of it once it notices.
        while True:
            with suppress(errors.ResourceExhaustedError):
                assert len(client.sql(much)) == 40_000
                break


def test_values_longer_than_a_part_arrive_whole(
    client: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for length in (0, 1, 2**20 - 6, 2**20, 3 * 2**20 + 1):
        text = "ü" * (length // 2)
        answer_with(monkeypatch, "Report", lambda *_, text=text, **__: text)
        assert client.report("artifact", 1) == text
    [version] = client.history("artifact_type", 1)
    lengths = (5, 3 * 2**20, 7, 2**20, 2**20, 0)
    many = [replace(version, reason="x" * length) for length in lengths]
    answer_with(monkeypatch, "History", lambda *_, **__: many)
    assert client.history("artifact_type", 1) == many


def test_following_ends_with_the_client_or_the_server(home: MetadataStore) -> None:
    with serving(home._engine) as server:
        assert server._beyond is not None
        followers = server._beyond._followers
        with MetadataStore(client_config(server.port)) as client:
            stop = threading.Event()
            seen = client.follow(after=0, stop=stop, poll_seconds=0.01)
            assert next(seen).number == 1
            assert followers
            stop.set()
            assert [*seen] == []
            left = client.follow(after=0)
            next(left)
            left.close()  # type: ignore[attr-defined]
            position = client.log_position()
            late = client.follow(after=position)
            home.put_artifact_type(mlmd.ArtifactType(name=f"Followed {position}"))
            assert next(late).first_position == position + 1
            threading.Thread(target=server.stop, args=(60,)).start()
            with pytest.raises(errors.UnavailableError, match="follow on"):
                next(late)
        assert not followers


# What a server does not have, and what it is sent


def test_a_server_that_has_mlmds_service_alone() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with MetadataStore(client_config(port)) as client:
            with pytest.raises(
                errors.UnimplementedError, match=r"MLMD's API alone.*eventstore\.open"
            ):
                client.history("artifact", 1)
            assert client._repr_html_() is None
        server.stop(0).wait()


@pytest.mark.parametrize("rpc", METHODS)
def test_what_signatures_name_can_be_made(rpc: str) -> None:
    method = METHODS[rpc]
    for type_ in (*method.arguments.values(), method.element):
        with suppress(ValueError):
            unpacked(b"\xc1", type_)


def test_no_bytes_bring_a_fault_about(server: Server) -> None:
    rng = random.Random(17)
    arguments = {"kind": "artifact", "entity_id": 1, "node_id": 1, "query": "FROM artifacts"}
    harmless = [
        method for method in METHODS.values() if method.need != "admin" and method.rpc != "Follow"
    ]
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(300):
            method = rng.choice(harmless)
            named = {name: rng.choice(ODD) for name in method.arguments if rng.random() < 0.7}
            values = bytearray(packed(named | arguments if rng.random() < 0.2 else named))
            for _ in range(rng.choice((0, 0, 1, 3))):
                values[rng.randrange(len(values))] = rng.randrange(256)
            content = own.Arguments(values=bytes(values)).SerializeToString()
            if rng.random() < 0.2:
                content = rng.randbytes(rng.randrange(40))
            call = channel.unary_stream(f"/{OWN_SERVICE}/{method.rpc}")(content)
            with suppress(grpc.RpcError):
                for _ in call:
                    pass
            told = (method.rpc, content, call.details())
            assert call.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), told


ODD: list[Any] = [
    *(None, True, -1, 0, 2**63, 1.5, float("nan"), "", "artifact", "\0", b"\xff", [], {}, ["x"]),
    *([[1]], {"a": 1}, [("artifact", 1)], mlmd.Artifact(id=1), datetime.now(timezone.utc)),
]


# By URL


def test_a_server_has_a_url(server: Server, home: MetadataStore) -> None:
    with eventstore.open(f"grpc://127.0.0.1:{server.port}", actor="ana", reason="audit") as store:
        assert store.log_position() == home.log_position()
        store.put_artifact_type(mlmd.ArtifactType(name=f"By URL {home.log_position()}"))
        [*_, last] = home.changes()
        assert (last.actor, last.reason) == ("ana", "audit")
    with pytest.raises(errors.InvalidArgumentError, match="read_only"):
        eventstore.open(f"grpc://127.0.0.1:{server.port}", read_only=True)
    named = eventstore.open(f"grpc://127.0.0.1:{server.port}/team-a")
    with named, pytest.raises(errors.PermissionDeniedError, match="no store 'team-a'"):
        named.log_position()


@pytest.mark.parametrize("rest", ["", ":8080", "h:x", "h:99999", "ana:secret@h", "h?token=secret"])
def test_no_url_of_a_server(rest: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"write grpc://host:port") as raised:
        eventstore.open(f"grpc://{rest}")
    assert "secret" not in raised.value.message


def test_certificates_are_in_files_that_the_environment_names(
    home: MetadataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    tls = mlmd.MetadataStoreServerConfig.SSLConfig(client_verify=True)
    tls.custom_ca = authority.certificate
    tls.server_key, tls.server_cert = authority.pair("server")
    key, certificate = authority.pair("ana")
    for name, text in (("CA", tls.custom_ca), ("KEY", key), ("CERTIFICATE", certificate)):
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(f"EVENTSTORE_TLS_{name}", str(tmp_path / name))
    with (
        serving(home._engine, tls=tls) as server,
        eventstore.open(f"grpcs://localhost:{server.port}") as store,
    ):
        assert store.log_position() == home.log_position()
    monkeypatch.setenv("EVENTSTORE_TLS_CA", str(tmp_path / "missing"))
    with pytest.raises(errors.NotFoundError, match="missing"):
        eventstore.open("grpcs://localhost")


@pytest.fixture(scope="module")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of a store, and the URL of its server."""
    folder = tmp_path_factory.mktemp("served") / "store"
    with eventstore.open(folder, actor="home") as store:
        data = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        for name in ("a", "b", "c"):
            store.put_artifacts([mlmd.Artifact(type_id=data, name=name, uri=name)])
        store.place_hold(entities=[("artifact", 1)], basis="CASE-1")
        with serving(store._engine) as server:
            yield folder, f"grpc://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    "arguments",
    [
        "info STORE --format json",
        "history STORE artifact 1",
        "get STORE artifact 2 --as-of 11",
        "get STORE artifact 2 --as-of 2030-01-01",
        "changes STORE --since 3 --until 12",
        "changes STORE --limit 3 --format json",
        "changes STORE --type Nothing",
        "diff STORE 9 --format csv",
        "lineage STORE artifact 1",
        "sql STORE FROM/**/artifacts --as-of 11",
    ],
)
def test_commands_take_the_url(served_folder: tuple[Path, str], arguments: str) -> None:
    here, there = (
        run(*(place if part == "STORE" else part for part in arguments.split()))
        for place in served_folder
    )
    assert there == here


def test_a_command_that_needs_the_log_says_so(served_folder: tuple[Path, str]) -> None:
    for command, said in (("log", "open the store itself"), ("verify", "run it where the store")):
        done = run(command, served_folder[1])
        assert done.code == 1
        assert said in done.err


def test_what_holds_say_is_told_to_auditors_alone() -> None:
    with eventstore.open("memory://") as store:
        store.place_hold(kinds=["artifact"], basis="CASE-5")
        for roles in ({Role.READ}, {Role.READ, Role.AUDIT}):
            commits = list(_for_roles(METHODS["Changes"], store.changes(), roles))
            [hold] = [one for one in commits[-1].changes if one.kind == "hold"]
            assert (bool(hold.fields), hold.message is not None) == (Role.AUDIT in roles,) * 2
            assert commits[:-1] == [*store.changes()][:-1]
