"""Who may call: tokens, stores that are each for somebody, and what is told to others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

import eventstore
from eventstore import MetadataStore
from eventstore.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnimplementedError,
)
from eventstore.metadata_store.served import OWN_SERVICE
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.access import Access
from eventstore.server.caller import Callers
from eventstore.server.configuration import Listening, WebListening
from eventstore.server.principal import DEFAULT_STORE
from eventstore.server.reloading import Reloaded
from eventstore.server.roles import MLMD_SERVICE, NEEDED, Role
from eventstore.server.server import Server
from eventstore.server.token_file import line_of, new_token, read_tokens
from tests.command_line.runner import run
from tests.server.calls_by_hand import Came
from tests.server.serving import client_config
from tests.server.test_serve_command import served
from tests.server.web_calls import asked, connection, framed

Said = Sequence[tuple[str, str | bytes]]
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED


def bearer(token: str, store: str | None = None) -> list[tuple[str, str | bytes]]:
    said: list[tuple[str, str | bytes]] = [("authorization", f"Bearer {token}")]
    return said if store is None else [*said, ("eventstore-store", store)]


class Asker:
    """Calls a server by bytes: an answer, or a status and its message."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __call__(
        self, rpc: str, said: Said = (), request: Any = None
    ) -> bytes | tuple[grpc.StatusCode, str]:
        content = b"" if request is None else request.SerializeToString()
        try:
            answer: bytes = self._channel.unary_unary(f"/{MLMD_SERVICE}/{rpc}")(
                content, metadata=said, timeout=60
            )
        except grpc.RpcError as error:
            return error.code(), error.details()
        return answer

    def code(self, rpc: str, said: Said = (), request: Any = None) -> grpc.StatusCode:
        answer = self(rpc, said, request)
        return grpc.StatusCode.OK if isinstance(answer, bytes) else answer[0]


class WebAsker(Asker):
    """The same over gRPC-Web."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(
        self, rpc: str, said: Said = (), request: Any = None
    ) -> bytes | tuple[grpc.StatusCode, str]:
        content = b"" if request is None else request.SerializeToString()
        with closing(connection(self._port)) as to:
            answered = asked(to, rpc, framed(content), said)
        return answered.messages[0] if answered.code == 0 else (answered.status, answered.message)


@contextmanager
def asking(
    stores: dict[str, MetadataStore], access: Access | None, carrier: str = "gRPC", **listening: Any
) -> Iterator[Asker]:
    server = Server(Listening(port=0, threads=4, **listening), WebListening(0))
    server.start(Callers({name: store._engine for name, store in stores.items()}, access))
    try:
        with grpc.insecure_channel(server.address) as channel:
            assert server.web is not None
            yield Asker(channel) if carrier == "gRPC" else WebAsker(server.web.port)
    finally:
        server.stop(0)


TOKENS = {
    "reader": ["a=read"],
    "writer": ["a=write"],
    "auditor": ["a=audit"],
    "admin": ["a=admin"],
    "both": ["a=write", "b=read"],
    "all": ["*=write"],
    "other": ["b=write"],
    "nowhere": ["c=admin"],
}


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    return {actor: new_token() for actor in TOKENS}


@pytest.fixture(scope="module")
def token_file(tokens: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    lines = [line_of(tokens[actor], actor, grants, None) for actor, grants in TOKENS.items()]
    file.write_text("# who may call\n\n" + "\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module", params=["gRPC", "gRPC-Web"])
def carrier(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def stores(carrier: str) -> Iterator[dict[str, MetadataStore]]:
    with ExitStack() as opened:
        yield {
            name: opened.enter_context(eventstore.open("memory://", actor="home")) for name in "ab"
        }


@pytest.fixture(scope="module")
def ask(stores: dict[str, MetadataStore], token_file: Path, carrier: str) -> Iterator[Asker]:
    tokens = Reloaded([token_file], partial(read_tokens, token_file))
    with asking(stores, Access(tokens), carrier) as asker:
        yield asker


def a_type(name: str) -> service.PutArtifactTypeRequest:
    return service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=name))


@pytest.mark.parametrize("holder", ["reader", "writer", "auditor", "admin"])
def test_each_rpc_needs_its_role(ask: Asker, tokens: dict[str, str], holder: str) -> None:
    for rpc, needed in NEEDED[MLMD_SERVICE].items():
        may = needed is Role.READ or holder in ("writer", "admin")
        assert (ask.code(rpc, bearer(tokens[holder])) is DENIED) is not may, rpc
    assert ask("PutTypes", bearer(tokens["auditor"])) == (
        DENIED,
        "PutTypes needs the role write, and you have read, audit",
    )


@pytest.mark.parametrize("holder", ["reader", "writer", "auditor", "admin"])
def test_each_rpc_of_each_service_needs_its_role(
    stores: dict[str, MetadataStore], tokens: dict[str, str], token_file: Path, holder: str
) -> None:
    access = Access(Reloaded([token_file], partial(read_tokens, token_file)))
    callers = Callers({name: store._engine for name, store in stores.items()}, access)
    mine = {"reader": "", "writer": "write", "auditor": "audit", "admin": "write audit admin"}
    refused = set[Role]()
    for service_name, rpcs in NEEDED.items():
        for rpc, needed in rpcs.items():
            came = Came(bearer(tokens[holder]), rpc=rpc, service=service_name)
            if needed is Role.READ or needed.value in mine[holder].split():
                assert callers.of(came).actor == holder
            else:
                with pytest.raises(PermissionDeniedError, match=f"needs the role {needed.value}"):
                    callers.of(came)
                refused.add(needed)
    assert len(refused) == 3 - len(mine[holder].split())
    for service_name, rpc in ((MLMD_SERVICE, "PutNothing"), ("x", "GetArtifacts")):
        with pytest.raises(UnimplementedError):
            callers.of(Came(bearer(tokens[holder]), rpc=rpc, service=service_name))


@pytest.mark.parametrize(
    "said",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic YTpi")],
        bearer("evs_" + "x" * 43),
        bearer("x" * 20_000),
        bearer("%00 ~"),
        [("authorization-bin", b"Bearer \xff")],
        [("kubeflow-userid", "ana")],
    ],
)
def test_without_a_token_nothing_is_told(ask: Asker, said: Said) -> None:
    for store in (None, "a", "b", "c"):
        named = [*said] if store is None else [*said, ("eventstore-store", store)]
        assert ask.code("GetArtifactTypes", named) is UNAUTHENTICATED


@pytest.mark.parametrize("path", [f"/{MLMD_SERVICE}/GetArtifacts", f"/{OWN_SERVICE}/Follow"])
def test_a_stranger_who_sends_nothing_is_not_waited_for(
    stores: dict[str, MetadataStore], tokens: dict[str, str], token_file: Path, path: str
) -> None:
    access = Access(Reloaded([token_file], partial(read_tokens, token_file)))
    sends, told = threading.Event(), SimpleQueue[int]()

    def nothing() -> Iterator[bytes]:
        sends.wait()
        yield from ()

    server = Server(Listening(port=0, threads=1))
    callers = Callers({name: store._engine for name, store in stores.items()}, access)
    server.start(callers, [lambda _: lambda ended: told.put(ended.code)])
    try:
        with (
            grpc.insecure_channel(server.address) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            channel.stream_unary(path)(nothing(), timeout=60)
        assert refused.value.code() is UNAUTHENTICATED
        assert told.get() == UNAUTHENTICATED.value[0]
    finally:
        sends.set()
        server.stop(0)


def test_a_token_comes_once_and_whole(ask: Asker, tokens: dict[str, str]) -> None:
    good = tokens["writer"]
    assert ask.code("GetArtifactTypes", bearer(good)) is grpc.StatusCode.OK
    assert ask.code("GetArtifactTypes", [("authorization", f"bearer  {good}")]) is (
        grpc.StatusCode.OK
    )
    for wrong in (good[:-1], good + "x", good.upper(), good.removeprefix("evs_")):
        assert ask.code("GetArtifactTypes", bearer(wrong)) is UNAUTHENTICATED
    assert ask.code("GetArtifactTypes", bearer(good) * 2) is UNAUTHENTICATED


def test_the_token_says_who_puts(
    ask: Asker, stores: dict[str, MetadataStore], tokens: dict[str, str]
) -> None:
    said = bearer(tokens["writer"])
    request = a_type("By a token")
    assert ask("PutArtifactType", [*said, ("eventstore-actor", "ana")], request) == (
        DENIED,
        "you are 'writer', and put as nobody else: leave eventstore-actor out",
    )
    assert stores["a"].get_artifact_types() == []
    named = [*said, ("eventstore-actor", "writer"), ("eventstore-reason", "told to")]
    answer = ask("PutArtifactType", named, request)
    assert isinstance(answer, bytes)
    type_id = service.PutArtifactTypeResponse.FromString(answer).type_id
    [version] = stores["a"].history("artifact_type", type_id)
    assert (version.actor, version.reason) == ("writer", "told to")


def test_the_store_is_chosen_by_name_or_by_token(
    ask: Asker, stores: dict[str, MetadataStore], tokens: dict[str, str]
) -> None:
    def put(holder: str, store: str | None) -> str:
        name = f"{holder} {store}"
        ask("PutArtifactType", bearer(tokens[holder], store), a_type(name))
        for place, opened in stores.items():
            if name in {each.name for each in opened.get_artifact_types()}:
                return place
        return ""

    assert put("writer", None) == put("writer", "a") == put("both", "a") == put("all", "a") == "a"
    assert put("other", None) == put("other", "b") == put("all", "b") == "b"
    assert put("writer", "b") == put("both", "b") == put("both", None) == put("nowhere", "c") == ""
    assert ask("GetArtifactTypes", bearer(tokens["both"])) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "say which store with eventstore-store: you may use a, b",
    )


def test_a_store_of_others_is_as_if_it_were_not_there(ask: Asker, tokens: dict[str, str]) -> None:
    for rpc in ("GetArtifactTypes", "PutArtifactType"):
        for holder in ("reader", "writer", "nowhere"):
            said = bearer(tokens[holder], "b")
            there, missing = ask(rpc, said), ask(rpc, bearer(tokens[holder], "x"))
            assert there == (DENIED, "there is no store 'b' that you may use")
            assert missing == (DENIED, "there is no store 'x' that you may use")
            # Whatever else is said.
            moment = [*said, ("eventstore-as-of", "99999")]
            assert ask(rpc, moment) == there
    nowhere = bearer(tokens["nowhere"])
    assert ask("GetArtifactTypes", nowhere) == (DENIED, "there is no store that you may use")
    assert ask("GetArtifactTypes", bearer(tokens["nowhere"], "c"))[0] is DENIED


def test_the_store_without_a_name_is_meant_where_there_are_several(
    stores: dict[str, MetadataStore],
) -> None:
    served = {DEFAULT_STORE: stores["a"], "b": stores["b"]}
    stores["a"].put_artifact_type(mlmd.ArtifactType(name="Default"))
    with asking(served, None) as ask:
        assert b"Default" in ask("GetArtifactTypes")
        assert ask("GetArtifactTypes", [("eventstore-store", "b")]) != ask("GetArtifactTypes")
        assert ask.code("GetArtifactTypes", [("eventstore-store", "a")]) is DENIED


def test_a_token_ends_and_is_taken_back(
    stores: dict[str, MetadataStore], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    made = iter(range(100))

    def written(*lines: str) -> None:
        # By another file in its place, as Kubernetes does it, or in the same.
        target = tmp_path / f"{next(made)}" if next(made) % 3 else file
        target.write_text("\n".join(lines) + "\n")
        target.replace(file)

    past, future, good = (new_token() for _ in range(3))
    now = datetime.now(timezone.utc)
    lines = [
        line_of(past, "past", ["a=read"], now - timedelta(seconds=1)),
        line_of(future, "future", ["a=read"], now + timedelta(days=1)),
        line_of(good, "Ånne of Ghent", ["a=read", "a=write"], None),
    ]
    written(*lines)
    with asking(stores, Access(Reloaded([file], partial(read_tokens, file)))) as ask:

        def codes() -> list[grpc.StatusCode]:
            return [ask.code("GetArtifactTypes", bearer(each)) for each in (past, future, good)]

        ok = grpc.StatusCode.OK
        assert codes() == [UNAUTHENTICATED, ok, ok]
        assert "was good until" in ask("GetArtifactTypes", bearer(past))[1]
        written(*lines[:2])
        assert codes() == [UNAUTHENTICATED, ok, UNAUTHENTICATED]
        written(*lines)
        assert codes() == [UNAUTHENTICATED, ok, ok]
        for broken in ("sha256:abc", lines[0] + "\n" + lines[0], "\xff"):
            caplog.clear()
            written(broken)
            assert codes() == [UNAUTHENTICATED, ok, ok]
            assert codes() == [UNAUTHENTICATED, ok, ok]
            [record] = caplog.records
            assert "WHAT CHANGED IS NOT IN USE" in record.message
            assert good not in record.message
        file.unlink()
        assert codes() == [UNAUTHENTICATED, ok, ok]
        written("")
        assert codes() == [UNAUTHENTICATED] * 3


H = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x", "64 hexadecimal digits"),
        ("sha256:" + "0" * 63 + " a=read ana", "64 hexadecimal digits"),
        (H, "who the actor is"),
        (f"{H} a=read", "who the actor is"),
        (f"{H} a=read until=2027-01-31", "who the actor is"),
        (f"{H} a=rad ana", "'a=rad' grants nothing"),
        (f"{H} a=read, ana", "'' grants nothing"),
        (f"{H} a/b=read ana", "'a/b' is no name of a store"),
        (f"{H} a=read until=soon ana", "'soon' is no time"),
        (f"{H} a=read ana\n{H} a=read bob", "line 2: the token has a line already"),
    ],
)
def test_a_line_that_is_none(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "tokens").write_text(line)
    with pytest.raises(InvalidArgumentError) as raised:
        read_tokens(tmp_path / "tokens")
    assert said in raised.value.message
    assert "line " in raised.value.message


@pytest.mark.parametrize("actor", ["", " ana", "ana ", "a\nb", "until=x", "a\u2028b"])
def test_an_actor_that_a_line_cannot_have(actor: str) -> None:
    with pytest.raises(InvalidArgumentError):
        line_of(new_token(), actor, ["read"], None)


def test_tokens_are_made_by_a_command(tmp_path: Path, stores: dict[str, MetadataStore]) -> None:
    file = tmp_path / "tokens"
    made = [
        run("token", f"actor {n}", "--grant", "a=write", "--grant=b=read", "--file", file)
        for n in range(2)
    ]
    assert [each.code for each in made] == [0, 0]
    assert file.stat().st_mode & 0o777 == 0o600
    held = [each.out.strip() for each in made]
    shown = run("token", "third", "--grant", "*=admin", "--until", "2999-01-31")
    token, line = shown.out.splitlines()
    # An editor may leave the last line without its end.
    file.write_text(file.read_text() + "\n# by hand:\n" + line)
    last = run("token", "fourth", "--grant", "read", "--file", file).out.strip()
    assert all(each not in file.read_text() for each in (*held, token, last))
    known = [entry.principal for entry in read_tokens(file).values()]
    assert [each.actor for each in known] == ["actor 0", "actor 1", "third", "fourth"]
    assert known[0].roles_in("b") == {Role.READ}
    assert known[2].roles_in("x") == {*Role}
    assert known[3].roles_in(DEFAULT_STORE) == {Role.READ}
    assert known[3].roles_in("a") == set()
    with asking(stores, Access(Reloaded([file], partial(read_tokens, file)))) as ask:
        for each in (held[0], held[1], token):
            assert ask.code("GetArtifactTypes", bearer(each, "a")) is grpc.StatusCode.OK
    past = ("--grant", "read", "--until", "2020-01-01")
    for wrong in (("--grant", "x"), ("--grant", "read", "--until", "17"), past, ()):
        done = run("token", "x", *wrong, "--file", tmp_path / "none")
        assert done.code != 0
        assert done.out == ""
    assert not (tmp_path / "none").exists()


def test_the_client_sends_a_token_and_names_a_store(
    stores: dict[str, MetadataStore],
    tokens: dict[str, str],
    token_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = {name: store._engine for name, store in stores.items()}
    server = Server(Listening(port=0, threads=4))
    server.start(Callers(served, Access(Reloaded([token_file], partial(read_tokens, token_file)))))
    config, held = client_config(server.port), tmp_path / "token"

    def named(name: str, **given: Any) -> str:
        """In which store a type is that is put so."""
        with MetadataStore(config, **given) as client:
            client.put_artifact_type(mlmd.ArtifactType(name=name))
        [found] = (
            place
            for place, store in stores.items()
            if name in {each.name for each in store.get_artifact_types()}
        )
        return found

    try:
        assert named("1", token=tokens["other"]) == "b"
        assert named("2", token=tokens["all"], store="a") == "a"
        monkeypatch.setenv("EVENTSTORE_TOKEN_FILE", str(held))
        monkeypatch.setenv("EVENTSTORE_STORE", "b")
        held.write_text(tokens["all"] + "\n")
        assert named("3") == "b"
        assert named("4", store="a") == "a"
        monkeypatch.setenv("EVENTSTORE_TOKEN", tokens["other"])
        assert named("5") == "b"
        # A file has another token after a while.
        with MetadataStore(config, token=held, store="a") as client:
            client.get_artifact_types()
            held.write_text(tokens["other"])
            with pytest.raises(PermissionDeniedError):
                client.get_artifact_types()
            held.unlink()
            with pytest.raises(NotFoundError):
                client.get_artifact_types()
    finally:
        server.stop(0)
    for wrong in ("", "a b", "ä"):
        with pytest.raises(InvalidArgumentError, match="has no token"):
            MetadataStore(config, token=wrong)
    with pytest.raises(ValueError, match="are for a server"):
        MetadataStore(mlmd.ConnectionConfig(), store="a")


def test_a_token_file_without_a_token_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# none yet\n")
    with served("--token-file", tmp_path / "tokens", tmp_path / "s") as (process, _):
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert "Z WARNING The token file has no token, and nothing else says who may call" in err


def test_the_command_asks_for_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = run("token", "ana", "--grant", "write", "--file", file).out.strip()
    with served("--token-file", file, "--grpc_host=0.0.0.0", tmp_path / "s") as (process, port):
        with MetadataStore(client_config(port)) as nobody, pytest.raises(UnauthenticatedError):
            nobody.get_artifact_types()
        with MetadataStore(client_config(port), token=token) as client:
            client.put_artifact_type(mlmd.ArtifactType(name="T"))
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert "Z WARNING Nothing is encrypted, tokens neither: use TLS" in err.splitlines()[0]
    with eventstore.open(tmp_path / "s") as store:
        [version] = store.history("artifact_type", store.get_artifact_type("T").id)
    assert version.actor == "ana"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--store", "default=x", "my-store"), "default is the name of STORE"),
        (("--store", "a=x", "--store", "a=y"), "the store a is named twice"),
        (("--store", "a=x", "--store", "b=y/../x"), "a and b are the same store"),
        (("--store", "a=my-store", "my-store"), "default and a are the same store"),
        (("--read-only",), "is for a store that others write"),
        (("--store", "a/b=x"), "'a/b' is no name of a store"),
        (("--store", "a"), "not of the form NAME=PLACE"),
        (("--store", "a="), "not of the form NAME=PLACE"),
        (("--store", "=x"), "'' is no name of a store"),
        (("--store", "a=ftp://x:secret@y/z"), "ftp"),
        (("--token-file", "missing"), "missing"),
        (("--tls-client-ca", "."), "is a directory"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("serve", "--grpc_port=0", *arguments)
    assert done.code != 0
    assert said in " ".join(done.err.split())
    assert "secret" not in done.err
    assert not [*tmp_path.iterdir()]
