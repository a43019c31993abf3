"""gRPC-Web: what it carries, whom it lets in, and that nobody waits for a client that stalls."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import grpc
import pytest

from eventstore import MetadataStore, errors
from eventstore.metadata_store.passed_values import packed
from eventstore.metadata_store.served import OWN_SERVICE
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server import web_exchange, web_server
from eventstore.server.caller import Caller, Callers
from eventstore.server.configuration import Listening, WebListening
from eventstore.server.incoming import Incoming
from eventstore.server.principal import DEFAULT_STORE
from eventstore.server.roles import MLMD_SERVICE
from eventstore.server.server import Server
from eventstore.server.web_origins import checked_origin
from eventstore.store import Engine
from tests.server.certificates import Authority
from tests.server.serving import serving, started
from tests.server.web_calls import BINARY, TEXT, answer_of, asked, called, connection, framed

PAGE = "https://ui.example.com"
SOON = web_server._HEAD_SECONDS / 2
"""Before a silent connection ends by itself, in seconds."""


@pytest.fixture(scope="module")
def web(home: MetadataStore) -> Iterator[Server]:
    origins = frozenset({PAGE})
    with serving(home._engine, web=WebListening(0, origins), message_bytes_max=100_000) as server:
        yield server


@pytest.fixture
def line(web: Server) -> Iterator[http.client.HTTPConnection]:
    """A connection to it."""
    assert web.web is not None
    with closing(connection(web.web.port)) as opened:
        yield opened


@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_it_answers_as_grpc_does(
    line: http.client.HTTPConnection, home: MetadataStore, kind: str
) -> None:
    request = service.PutArtifactTypeRequest()
    request.artifact_type.name = f"of {kind}"
    type_id = called(line, "PutArtifactType", request, kind=kind).type_id
    assert home.get_artifact_type(f"of {kind}").id == type_id
    # The connection is kept.
    socket_before = line.sock
    asked_again = service.GetArtifactTypeRequest(type_name=f"of {kind}")
    assert called(line, "GetArtifactType", asked_again, kind=kind).artifact_type.id == type_id
    missing = service.GetArtifactTypeRequest(type_name="Häuser 100%\n")
    answered = asked(line, "GetArtifactType", framed(missing.SerializeToString()), kind=kind)
    with pytest.raises(errors.NotFoundError) as raised:
        home.get_artifact_type("Häuser 100%\n")
    assert answered == ([], errors.NOT_FOUND, raised.value.message)
    assert line.sock is socket_before


@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_long_answers_come_whole(
    line: http.client.HTTPConnection, home: MetadataStore, kind: str
) -> None:
    type_id = home.put_artifact_type(mlmd.ArtifactType(name="long"))
    made = home.put_artifacts([mlmd.Artifact(type_id=type_id, uri="x" * 90_000)])
    request = service.GetArtifactsByIDRequest(artifact_ids=made)
    [artifact] = called(line, "GetArtifactsByID", request, kind=kind).artifacts
    assert artifact == home.get_artifacts_by_id(made)[0]
    twice = home.put_artifacts([mlmd.Artifact(type_id=type_id, uri="x" * 90_000)])
    request.artifact_ids.extend(twice)
    answered = asked(line, "GetArtifactsByID", framed(request.SerializeToString()), kind=kind)
    assert answered.code == errors.RESOURCE_EXHAUSTED
    assert "ask in pages" in answered.message


def test_answers_come_in_parts_as_over_grpc(home: MetadataStore) -> None:
    type_id = home.put_artifact_type(mlmd.ArtifactType(name="in parts"))
    for _ in range(20):
        home.put_artifacts([mlmd.Artifact(type_id=type_id, uri="x" * 40_000)])
    with (
        serving(home._engine, web=WebListening(0)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        assert server.web is not None
        for rpc, given, parts in (
            ("Changes", {"since": 0}, 4),
            ("Sql", {"query": "SELECT id FROM artifacts ORDER BY id"}, 1),
            ("History", {"kind": "artifact_type", "entity_id": 99}, 0),
            ("History", {"kind": "nonsense", "entity_id": 1}, 0),
            ("History", {"wrong": 1}, 0),
            ("Nothing", {}, 0),
        ):
            content = own.Arguments(values=packed(given)).SerializeToString()
            call = channel.unary_stream(f"/{OWN_SERVICE}/{rpc}")(content, timeout=60)
            expected = list[bytes]()
            with contextlib.suppress(grpc.RpcError):
                expected += call
            assert len(expected) >= parts
            for kind in (BINARY, TEXT):
                with closing(connection(server.web.port)) as to:
                    answered = asked(to, rpc, framed(content), kind=kind, of=OWN_SERVICE)
                assert answered.status is call.code(), rpc
                assert answered.message == call.details()
                assert answered.messages == expected


def test_whoever_follows_may_leave(home: MetadataStore) -> None:
    with serving(home._engine, web=WebListening(0)) as server:
        assert server.web is not None
        with closing(connection(server.web.port)) as to:
            content = own.Arguments(values=packed({})).SerializeToString()
            path, headers = f"/{OWN_SERVICE}/Follow", {"Content-Type": BINARY}
            to.request("POST", path, framed(content), headers)
            response = to.getresponse()
            home.put_artifact_type(mlmd.ArtifactType(name="followed"))
            assert response.read(5)[0] == 0
            assert server._gate._inside == 1
        # It is not waited for.
        while server._gate._inside:
            threading.Event().wait(0.01)


def test_whoever_follows_is_told_of_the_end(home: MetadataStore) -> None:
    server = started(home._engine, web=WebListening(0))
    assert server.web is not None
    with closing(connection(server.web.port)) as to:
        content = own.Arguments(values=packed({})).SerializeToString()
        to.request("POST", f"/{OWN_SERVICE}/Follow", framed(content), {"Content-Type": BINARY})
        response = to.getresponse()
        server.stop(60)
        assert answer_of(response).code == errors.UNAVAILABLE


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (b"", errors.INVALID_ARGUMENT, "no message"),
        (b"\0\0\0", errors.INVALID_ARGUMENT, "no message"),
        (b"\0\0\0\0\5ab", errors.INVALID_ARGUMENT, "5 bytes by its start, and 2 follow"),
        (framed(b"") + framed(b""), errors.INVALID_ARGUMENT, "a request is one message"),
        (framed(b"", flags=1), errors.UNIMPLEMENTED, "compressed"),
        (framed(b"", flags=0x80), errors.INVALID_ARGUMENT, "0x80"),
        (framed(b"\xff"), errors.INVALID_ARGUMENT, "Could not parse proto"),
        (framed(b"x" * 100_001), errors.RESOURCE_EXHAUSTED, "--max-message-mib"),
    ],
)
@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_bodies_that_are_no_request(
    line: http.client.HTTPConnection, kind: str, body: bytes, code: int, told: str
) -> None:
    answered = asked(line, "GetArtifactTypes", body, kind=kind)
    assert answered.code == code
    assert told in answered.message
    assert answered.messages == []
    called(line, "GetArtifactTypes", service.GetArtifactTypesRequest())


def test_what_is_no_base64(line: http.client.HTTPConnection) -> None:
    line.request("POST", f"/{MLMD_SERVICE}/GetArtifactTypes", b"!!!!", {"Content-Type": TEXT})
    assert answer_of(line.getresponse(), TEXT).code == errors.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("headers", "code", "told"),
    [
        ({"grpc-timeout": "soon"}, errors.INVALID_ARGUMENT, "grpc-timeout is 'soon'"),
        ({"grpc-timeout": "123456789S"}, errors.INVALID_ARGUMENT, "eight digits"),
        ({"grpc-encoding": "gzip"}, errors.UNIMPLEMENTED, "'gzip' is not read"),
        ({"x-bin": "!"}, errors.INVALID_ARGUMENT, "x-bin is no base64"),
        ({"x": "Häuser"}, errors.INVALID_ARGUMENT, "other characters"),
        ({"grpc-timeout": "1H", "grpc-encoding": "identity", "x-bin": "YQ"}, 0, ""),
    ],
)
def test_headers(
    line: http.client.HTTPConnection, headers: dict[str, str], code: int, told: str
) -> None:
    answered = asked(line, "GetArtifactTypes", framed(b""), headers.items())
    assert answered.code == code
    assert told in answered.message


@pytest.mark.parametrize(
    "path",
    ["/", "/x", f"/{MLMD_SERVICE}/", f"/{MLMD_SERVICE}/Get", "/a.B/GetContexts", "/a/b/c"],
)
def test_methods_that_are_not_there(line: http.client.HTTPConnection, path: str) -> None:
    line.request("POST", path, framed(b""), {"Content-Type": BINARY})
    assert answer_of(line.getresponse()).code == errors.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Content-Type": BINARY}, 405),
        ("HEAD", {"Content-Type": BINARY}, 405),
        ("PUT", {"Content-Type": BINARY}, 405),
        ("POST", {}, 415),
        ("POST", {"Content-Type": "text/plain"}, 415),
        ("POST", {"Content-Type": "application/grpc"}, 415),
        ("POST", {"Content-Type": f"{BINARY}x"}, 415),
        # A page whose own name leads here all of a sudden.
        ("POST", {"Content-Type": BINARY, "Host": "evil.example.com"}, 403),
        ("OPTIONS", {"Host": "evil.example.com:9090"}, 403),
    ],
)
def test_requests_that_are_no_calls(
    line: http.client.HTTPConnection, method: str, headers: dict[str, str], status: int
) -> None:
    line.request(method, f"/{MLMD_SERVICE}/GetArtifactTypes", framed(b""), headers)
    response = line.getresponse()
    assert response.status == status
    response.read()


def test_pages_of_other_sites_are_let_in_by_name(
    line: http.client.HTTPConnection, home: MetadataStore
) -> None:
    wished = "content-type,x-grpc-web,x-user-agent,grpc-timeout,custom-header-1,authorization"
    for origin in (PAGE, "https://evil.example.com", f"{PAGE}.evil.com", "null"):
        line.request(
            "OPTIONS",
            f"/{MLMD_SERVICE}/GetArtifactTypes",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": wished,
            },
        )
        response = line.getresponse()
        assert response.read() == b""
        assert response.status == 204
        assert response.headers["vary"] == "origin"
        is_allowed = origin == PAGE
        assert response.headers["access-control-allow-origin"] == (PAGE if is_allowed else None)
        allowed = response.headers["access-control-allow-headers"].split(", ")
        assert {*wished.split(",")} <= {*allowed}
        assert response.headers["access-control-allow-credentials"] is None
        line.request(
            "POST",
            f"/{MLMD_SERVICE}/GetArtifactTypes",
            framed(b""),
            {"Content-Type": BINARY, "Origin": origin},
        )
        response = line.getresponse()
        assert response.headers["access-control-allow-origin"] == (PAGE if is_allowed else None)
        if is_allowed:
            exposed = response.headers["access-control-expose-headers"]
            assert exposed == "custom-header-1, grpc-status, grpc-message, eventstore-position"
        assert answer_of(response).code == 0


@pytest.mark.parametrize("text", ["*", "https://a.b", "HTTP://a:3000", "http://[::1]:80"])
def test_origins(text: str) -> None:
    assert checked_origin(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "https://a/", "https://a/b", "null", "https://u@a", "https://*.a", "ftp://a"],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="is not of the form"):
        checked_origin(text)


class _Noting(Callers):
    """Keeps what came with each call."""

    def __init__(self, engine: Engine) -> None:
        super().__init__({DEFAULT_STORE: engine})
        self.seen = list[Incoming]()

    def of(self, incoming: Incoming) -> Caller:
        self.seen.append(incoming)
        return super().of(incoming)


def test_a_certificate_and_metadata_reach_it_as_over_grpc(home: MetadataStore) -> None:
    authority = Authority()
    tls = mlmd.MetadataStoreServerConfig.SSLConfig(
        custom_ca=authority.certificate, client_verify=True
    )
    tls.server_key, tls.server_cert = authority.pair("server")
    server = Server(Listening(port=0, threads=2, tls=tls), WebListening(0))
    callers = _Noting(home._engine)
    server.start(callers)
    key, certificate = authority.pair("ana")
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.encode(), key.encode(), certificate.encode()
    )
    try:
        with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
            call = channel.unary_unary(f"/{MLMD_SERVICE}/GetArtifactTypes")
            call(b"", metadata=[("eventstore-actor", "ana"), ("x-bin", b"\0a")], timeout=60)
        assert server.web is not None
        context = ssl.create_default_context(cadata=authority.certificate)
        unknown, plain = connection(server.web.port, context), connection(server.web.port)
        with closing(unknown), pytest.raises((ssl.SSLError, ConnectionError)):
            asked(unknown, "GetArtifactTypes", framed(b""))
        with closing(plain), pytest.raises((http.client.HTTPException, ConnectionError)):
            asked(plain, "GetArtifactTypes", framed(b""))
        _with_pair(context, key, certificate)
        with closing(connection(server.web.port, context)) as known:
            headers = {"eventstore-actor": "ana", "x-bin": "AGE=", "grpc-timeout": "1M"}
            assert asked(known, "GetArtifactTypes", framed(b""), headers.items()).code == 0
    finally:
        server.stop(0)
    by_grpc, by_web = callers.seen
    assert by_web.peer() == by_grpc.peer()
    assert by_web.peer().name
    assert (by_web.service, by_web.rpc) == (by_grpc.service, by_grpc.rpc)
    for name in ("eventstore-actor", "x-bin"):
        assert dict(by_web.metadata())[name] == dict(by_grpc.metadata())[name]
    left = by_web.seconds_left()
    assert left is not None
    assert 0 < left <= 60
    assert not by_web.is_wanted()


def _with_pair(context: ssl.SSLContext, key: str, certificate: str) -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(key + certificate)
        file.flush()
        context.load_cert_chain(file.name)


class _Waiting(Callers):
    """Keeps each call until it is let go."""

    def __init__(self, engine: Engine) -> None:
        super().__init__({DEFAULT_STORE: engine})
        self.came, self.may_go = threading.Semaphore(0), threading.Event()
        self.seen = list[Incoming]()

    def of(self, incoming: Incoming) -> Caller:
        self.seen.append(incoming)
        self.came.release()
        assert self.may_go.wait(60)
        return super().of(incoming)


@pytest.fixture
def waiting(home: MetadataStore) -> Iterator[tuple[Server, _Waiting]]:
    server = Server(Listening(port=0, threads=2, calls_max=3), WebListening(0))
    callers = _Waiting(home._engine)
    server.start(callers)
    yield server, callers
    callers.may_go.set()
    server.stop(60)


def test_a_deadline_is_kept(waiting: tuple[Server, _Waiting]) -> None:
    server, callers = waiting
    assert server.web is not None
    with closing(connection(server.web.port)) as to:
        answered = asked(to, "GetArtifactTypes", framed(b""), [("grpc-timeout", "50m")])
        assert answered.code == errors.DEADLINE_EXCEEDED
        assert not callers.seen[0].is_wanted()


def test_who_has_gone_is_not_wanted(waiting: tuple[Server, _Waiting]) -> None:
    server, callers = waiting
    assert server.web is not None
    with closing(connection(server.web.port)) as to:
        to.request("POST", f"/{MLMD_SERVICE}/GetContexts", framed(b""), {"Content-Type": BINARY})
        assert callers.came.acquire(timeout=60)
        assert callers.seen[0].is_wanted()
        ended = threading.Event()
        assert callers.seen[0].when_ended(ended.set)
    assert ended.wait(60)
    assert not callers.seen[0].is_wanted()
    assert not callers.seen[0].when_ended(ended.set)


def test_more_than_so_many_are_refused(waiting: tuple[Server, _Waiting]) -> None:
    server, callers = waiting
    assert server.web is not None
    path, headers = f"/{MLMD_SERVICE}/GetContexts", {"Content-Type": BINARY}
    with ExitStack() as opened:
        *calls, beyond = (
            opened.enter_context(closing(connection(server.web.port))) for _ in range(3)
        )
        for call in calls:
            call.request("POST", path, framed(b""), headers)
            assert callers.came.acquire(timeout=60)
        beyond.request("POST", path, framed(b""), headers)
        assert beyond.getresponse().status == 503
        callers.may_go.set()
        assert [answer_of(call.getresponse()).code for call in calls] == [0, 0]


def test_who_asks_for_nothing_makes_room(waiting: tuple[Server, _Waiting]) -> None:
    server, _ = waiting
    assert server.web is not None
    address = ("127.0.0.1", server.web.port)
    with ExitStack() as opened:
        silent = [opened.enter_context(socket.create_connection(address)) for _ in range(3)]
        silent[0].settimeout(SOON)
        assert ended(silent[0])
        for other in silent[1:]:
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(1)


def ended(of: socket.socket) -> bool:
    """Whether a connection ends; what comes before is passed over."""
    try:
        while of.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_calls_in_flight_are_answered_when_it_stops(waiting: tuple[Server, _Waiting]) -> None:
    server, callers = waiting
    assert server.web is not None
    with closing(connection(server.web.port)) as to:
        to.request("POST", f"/{MLMD_SERVICE}/GetContexts", framed(b""), {"Content-Type": BINARY})
        assert callers.came.acquire(timeout=60)
        stopping = threading.Thread(target=server.stop, args=(60,))
        stopping.start()
        callers.may_go.set()
        assert answer_of(to.getresponse()).code == 0
        stopping.join()


HEAD = (
    f"POST /{MLMD_SERVICE}/GetArtifactTypes HTTP/1.1\r\nHost: localhost\r\n"
    f"Content-Type: {BINARY}\r\n"
).encode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEAD,
        HEAD + b"Content-Length: 50\r\n\r\n\0\0",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n\0\0\r\n",
        HEAD + b"Content-Length: 5\r\n\r\n\0\0\0\0\0" + HEAD,
    ],
    ids=["nothing", "half a head", "half a body", "half a chunked body", "one and a half"],
)
def test_who_stops_in_the_middle_is_not_waited_for(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(web_exchange, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(web_server, "_HEAD_SECONDS", 0.05)
    # What is left of a request after another one counts as idle.
    monkeypatch.setattr(web_server, "_IDLE_SECONDS", 0.05)
    with serving(home._engine, web=WebListening(0)) as server:
        assert server.web is not None
        with socket.create_connection(("127.0.0.1", server.web.port)) as stalling:
            stalling.settimeout(60)
            stalling.sendall(sent)
            with closing(connection(server.web.port)) as other:
                called(other, "GetArtifactTypes", service.GetArtifactTypesRequest())
            assert ended(stalling)


@pytest.mark.parametrize(
    "sent",
    [
        b"no HTTP\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\n\0\0\0\0\0no HTTP\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n",
        HEAD.replace(b"localhost", b"elsewhere") + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        HEAD + b"a: " + b"x" * 100_000,
    ],
)
def test_what_is_no_http_ends_its_connection(
    web: Server, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    assert web.web is not None
    with socket.create_connection(("127.0.0.1", web.web.port)) as stranger:
        stranger.settimeout(60)
        stranger.sendall(sent)
        assert ended(stranger)
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_a_slow_request_is_told_so(home: MetadataStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_exchange, "_PATIENCE_SECONDS", 0.05)
    with serving(home._engine, web=WebListening(0)) as server:
        assert server.web is not None
        with closing(connection(server.web.port)) as to:
            to.putrequest("POST", f"/{MLMD_SERVICE}/GetArtifactTypes")
            to.putheader("Content-Type", BINARY)
            to.putheader("Content-Length", "50")
            to.endheaders(b"\0\0")
            answered = answer_of(to.getresponse())
    assert answered.code == errors.DEADLINE_EXCEEDED
    assert "2 bytes of it came" in answered.message


def test_who_was_fast_before_is_not_waited_for_longer(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then buys no time, nor do those that came before."""
    monkeypatch.setattr(web_exchange, "_PATIENCE_SECONDS", 0.2)
    with serving(home._engine, web=WebListening(0)) as server:
        assert server.web is not None
        address = ("127.0.0.1", server.web.port)
        with socket.create_connection(address) as stalling, pytest.raises(ConnectionError):
            drip(stalling, HEAD + b"Content-Length: 5000000\r\n\r\n" + b"\0" * 4_000_000)


def drip(to: socket.socket, content: bytes) -> None:
    """Send something at once, and then a byte now and then, for ever."""
    to.sendall(content)
    to.settimeout(0.05)
    while True:
        to.send(b"\0")
        with contextlib.suppress(TimeoutError):
            to.recv(65536)


def test_who_takes_no_answer_is_not_waited_for(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_exchange, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(web_exchange, "_SLOWEST_BYTES_A_SECOND", 2**40)
    type_id = home.put_artifact_type(mlmd.ArtifactType(name="huge"))
    made = home.put_artifacts([mlmd.Artifact(type_id=type_id, uri="x" * 20_000_000)])
    request = framed(service.GetArtifactsByIDRequest(artifact_ids=made).SerializeToString())
    with serving(home._engine, web=WebListening(0)) as server:
        assert server.web is not None
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(60)
            deaf.connect(("127.0.0.1", server.web.port))
            head = HEAD.replace(b"ArtifactTypes", b"ArtifactsByID")
            deaf.sendall(head + b"Content-Length: %d\r\n\r\n" % len(request) + request)
            # No call is left, though nobody has read the answer.
            while server.web._server.server_state.connections:
                threading.Event().wait(0.01)
            assert ended(deaf)


def test_memory_for_messages_is_bounded(home: MetadataStore) -> None:
    """Four of the longest may be on their way; a fifth is refused, and room comes back."""
    most = 100_000
    half = HEAD + b"Content-Length: %d\r\n\r\n" % (most + 5) + b"\0" * most
    with serving(home._engine, web=WebListening(0), message_bytes_max=most) as server:
        assert server.web is not None
        address = ("127.0.0.1", server.web.port)
        sending = [socket.create_connection(address) for _ in range(4)]
        for each in sending:
            each.sendall(half)
        with closing(connection(server.web.port)) as to:
            while asked(to, "GetArtifactTypes", framed(b"x" * 1_000)).code != 8:
                pass
            for each in sending:
                each.close()
            while asked(to, "GetArtifactTypes", framed(b"x" * 1_000)).code == 8:
                pass


def test_it_needs_a_port_of_its_own(web: Server, home: MetadataStore) -> None:
    assert web.web is not None
    with pytest.raises(errors.UnavailableError, match=f"127.0.0.1:{web.web.port}"):
        started(home._engine, web=WebListening(web.web.port))


def test_what_stops_before_it_starts(home: MetadataStore) -> None:
    server = Server(Listening(port=0), WebListening(0))
    server.stop(0)
