"""The access file: JSON Web Tokens, a trusted proxy's header, certificates, and what they grant."""

from __future__ import annotations

import base64
import http.server
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eventstore.errors import (
    StatusError,
    UnauthenticatedError,
    UnavailableError,
)
from eventstore.server import jwks
from eventstore.server.access import Access
from eventstore.server.incoming import Metadata, Peer
from eventstore.server.principal import Principal
from eventstore.server.reloading import Reloaded
from eventstore.server.roles import Role
from eventstore.server.rules import read_rules
from eventstore.server.token_file import line_of, new_token, read_tokens
from tests.server.calls_by_hand import Came
from tests.server.certificates import Authority

RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
ISSUER, AUDIENCE = "https://id.example.com", "eventstore"

JWT_RULES = """
[jwt]
issuer = "https://id.example.com"
audience = "eventstore"
jwks = "jwks.json"
actor = "email"

[[grants]]
store = "a"
role = "write"
claims = { groups = "team-a" }

[[grants]]
store = "*"
role = "audit"
claims = { "realm.roles" = "auditor", email_verified = "yes" }
"""


def public_key(key: Any, key_id: str | None, algorithm: str, **others: Any) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, **others} if key_id is None else {**made, "kid": key_id, **others}


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        # Some are made as the module is imported, long before they are used.
        "exp": now + 86_400,
        "email": "ana@example.com",
        "groups": ["team-a", "team-x"],
    }
    return {name: value for name, value in {**base, **changed}.items() if value is not None}


def signed(
    said: Mapping[str, Any], key: Any = RSA, algorithm: str = "RS256", key_id: str | None = "one"
) -> str:
    headers = {} if key_id is None else {"kid": key_id}
    return jwt.encode(dict(said), key, algorithm, headers)


def access_of(folder: Path, text: str, *keys: Mapping[str, Any]) -> Access:
    (folder / "jwks.json").write_text(json.dumps({"keys": keys}))
    file = folder / "access.toml"
    file.write_text(text)
    return Access(None, Reloaded([file], partial(read_rules, file)))


def known(access: Access, token: str) -> Principal:
    return access.principal(Came([("authorization", f"Bearer {token}")]))


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Access:
    keys = (
        public_key(RSA, "one", "RS256", use="sig"),
        public_key(EC, "two", "ES256"),
        public_key(OTHER_RSA, "encrypts", "RS256", use="enc"),
        public_key(OTHER_RSA, "only-512", "RS512", alg="RS512"),
    )
    return access_of(tmp_path_factory.mktemp("jwt"), JWT_RULES, *keys)


def test_a_token_says_who_and_its_claims_what_is_granted(access: Access) -> None:
    ana = known(access, signed(claims()))
    assert ana.actor == "ana@example.com"
    assert ana.grants == {"a": {Role.READ, Role.WRITE}}
    assert known(access, signed(claims(), EC, "ES256", "two")) == ana
    # One key fits.
    assert known(access, signed(claims(), EC, "ES256", None)) == ana
    assert known(access, signed(claims(groups="team-a"))) == ana
    assert known(access, signed(claims(aud=["x", AUDIENCE]))) == ana
    auditor = claims(groups=None, realm={"roles": ["auditor"]}, email_verified="yes")
    assert known(access, signed(auditor)).grants == {"*": {Role.READ, Role.AUDIT}}
    for nothing in (
        claims(groups=["team-b"]),
        claims(groups=None, realm={"roles": ["auditor"]}),
        claims(groups={"team-a": True}),
        claims(groups=[["team-a"]]),
        claims(groups="team-a team-b"),
        claims(groups=None, realm=["roles"], email_verified="yes"),
    ):
        assert known(access, signed(nothing)).grants == {}


def unsigned(header: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    parts = (
        base64.urlsafe_b64encode(json.dumps(dict(each)).encode()).rstrip(b"=").decode()
        for each in (header, said)
    )
    return ".".join((*parts, ""))


def with_key_of_hmac(secret: bytes) -> str:
    """Signed by what everybody knows: PyJWT itself refuses to do it."""
    import hashlib
    import hmac

    content = unsigned({"alg": "HS256", "kid": "one", "typ": "JWT"}, claims())[:-1]
    mac = hmac.new(secret, content.encode(), hashlib.sha256).digest()
    return f"{content}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
GOOD = signed(claims())
WRONG = {
    "expired": signed(claims(exp=int(time.time()) - 61)),
    "no end": signed(claims(exp=None)),
    "not yet": signed(claims(nbf=int(time.time()) + 43_200)),
    "end is no time": signed(claims(exp="soon")),
    "another issuer": signed(claims(iss="https://evil.example.com")),
    "no issuer": signed(claims(iss=None)),
    "another audience": signed(claims(aud="other")),
    "no audience": signed(claims(aud=None)),
    "no actor": signed(claims(email=None)),
    "an actor that is no text": signed(claims(email=["ana@example.com"])),
    "an empty actor": signed(claims(email="")),
    "another key": signed(claims(), OTHER_RSA),
    "an unknown key": signed(claims(), key_id="three"),
    "a key for encryption": signed(claims(), OTHER_RSA, key_id="encrypts"),
    "a key for another algorithm": signed(claims(), OTHER_RSA, key_id="only-512"),
    "a key of another kind": signed(claims(), RSA, "RS256", "two"),
    "an algorithm that is not taken": signed(claims(), RSA, "RS512"),
    "none": unsigned({"alg": "none", "kid": "one"}, claims()),
    "None": unsigned({"alg": "None", "kid": "one"}, claims()),
    "no algorithm": unsigned({"kid": "one"}, claims()),
    "an algorithm that is a list": unsigned({"alg": ["RS256"], "kid": "one"}, claims()),
    "a public key as a secret": with_key_of_hmac(PEM),
    "no signature": GOOD.rpartition(".")[0] + ".",
    "a cut signature": GOOD[:-6],
    "changed": GOOD.replace(".", ".e30", 1),
    "a critical header": jwt.encode(claims(), RSA, "RS256", {"kid": "one", "crit": ["exp"]}),
    "two parts": GOOD.rpartition(".")[0],
    "no JWT": "a.b.c",
    "dots": "..",
    "nothing": "",
    "the secret of a token file": new_token(),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_token_that_is_not_good(access: Access, what: str) -> None:
    with pytest.raises(UnauthenticatedError) as raised:
        known(access, WRONG[what])
    assert len(raised.value.message) < 300
    assert known(access, GOOD).actor


def test_clocks_may_differ_by_a_minute(access: Access) -> None:
    now = int(time.time())
    assert known(access, signed(claims(exp=now - 30, nbf=now + 30))).actor


def test_the_keys_in_a_file_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access = access_of(tmp_path, JWT_RULES, public_key(RSA, "one", "RS256"))
    old, new = signed(claims()), signed(claims(), OTHER_RSA, key_id="new")
    assert known(access, old).actor
    both = [public_key(RSA, "one", "RS256"), public_key(OTHER_RSA, "new", "RS256")]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": both}))
    assert known(access, old) == known(access, new)
    (tmp_path / "jwks.json").write_text("no keys")
    assert known(access, old) == known(access, new)
    assert "NOT IN USE" in caplog.text
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": both[1:]}))
    assert known(access, new).actor
    with pytest.raises(UnauthenticatedError):
        known(access, old)


CUT, GARBLED = 201, 0


class Issuer:
    """Answers with keys over TLS, counts how often, and fails when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.keys = list[Any]()
        self.asked = 0
        self.status = 200
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                if issuer.status == GARBLED:
                    self.wfile.write(b"no HTTP")
                    return
                content = json.dumps({"keys": issuer.keys}).encode()
                self.send_response(issuer.status)
                self.send_header("Location", "/elsewhere")
                missing = 9 if issuer.status == CUT else 0
                self.send_header("Content-Length", str(len(content) + missing))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        authority = Authority()
        pair = authority.pair("issuer")
        (folder / "ca.pem").write_text(authority.certificate)
        (folder / "pair.pem").write_text(pair.key + pair.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pair.pem")
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"https://127.0.0.1:{self.server.server_address[1]}/jwks"


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    made = Issuer(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("no_proxy", "*")
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


class Clock:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        patch.setattr(jwks, "_now", lambda: self.now)


def test_the_keys_at_an_address_change(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    access = access_of(tmp_path, JWT_RULES.replace("jwks.json", issuer.address))
    old, new = signed(claims()), signed(claims(), OTHER_RSA, key_id="new")
    issuer.status = 500
    for _ in range(3):
        with pytest.raises(UnavailableError, match="keys of the issuer"):
            known(access, old)
    assert issuer.asked == 1
    clock.now += 15
    issuer.status, issuer.keys = 200, [public_key(RSA, "one", "RS256")]
    for _ in range(3):
        assert known(access, old).actor
    # Tokens of unknown keys do not make it ask all the time.
    for _ in range(3):
        with pytest.raises(UnauthenticatedError):
            known(access, new)
    assert issuer.asked == 2
    issuer.keys = [public_key(OTHER_RSA, "new", "RS256")]
    clock.now += 15
    assert known(access, new).actor
    assert issuer.asked == 3
    with pytest.raises(UnauthenticatedError):
        known(access, old)
    # An issuer that is gone, or whose keys are elsewhere, leaves those that were there.
    for status in (500, 302, CUT, GARBLED):
        issuer.status = status
        clock.now += 300
        assert known(access, new).actor
    assert issuer.asked == 7


@pytest.mark.parametrize("user", ["ana@example.com", "accounts.google.com:ana"])
def test_a_trusted_proxy_says_who_the_user_is(tmp_path: Path, user: str) -> None:
    access = access_of(
        tmp_path,
        """
        [header]
        name = "Kubeflow-UserID"
        addresses = ["10.1.0.0/16", "2001:db8::1"]
        certificates = ["gateway"]

        [[grants]]
        store = "a"
        role = "write"
        users = ["ana@example.com", "accounts.google.com:ana"]

        [[grants]]
        store = "public"
        role = "read"
        users = ["*"]

        [[grants]]
        store = "b"
        role = "read"
        certificates = ["gateway"]
        """,
    )
    said: Metadata = [("kubeflow-userid", user)]
    trusted = (
        Peer("10.1.2.3"),
        Peer("::ffff:10.1.2.3"),
        Peer("2001:db8::1"),
        Peer("192.0.2.1", "gateway"),
    )
    for peer in trusted:
        ana = access.principal(Came(said, peer))
        assert ana.actor == user
        assert ana.grants == {"a": {Role.READ, Role.WRITE}, "public": {Role.READ}}
        bob = access.principal(Came([("kubeflow-userid", "bob")], peer))
        assert bob == Principal("bob", {"public": frozenset({Role.READ})})
        for wrong in ([*said, *said], [("kubeflow-userid", "")], [("kubeflow-userid", b"ana")]):
            with pytest.raises(UnauthenticatedError, match="one user"):
                access.principal(Came(wrong, peer))
    for peer in (Peer(), Peer("10.2.0.1"), Peer("192.0.2.1", "ana"), Peer("fe80::1%eth0")):
        with pytest.raises(UnauthenticatedError, match="trusted proxy alone"):
            access.principal(Came(said, peer))
    # Without the header the proxy is itself, and others are nobody.
    gateway = access.principal(Came((), Peer("10.9.9.9", "gateway")))
    assert gateway == Principal("gateway", {"b": frozenset({Role.READ})})
    for peer in trusted[:3]:
        with pytest.raises(UnauthenticatedError, match="asks who calls"):
            access.principal(Came((), peer))
    # Where no tokens are taken, one that was meant for the proxy says nothing.
    assert access.principal(Came([*said, ("authorization", "Bearer x")], trusted[0])).actor == user


def test_a_token_comes_before_a_header_and_that_before_a_certificate(tmp_path: Path) -> None:
    token = new_token()
    file = tmp_path / "tokens"
    file.write_text(line_of(token, "by token", ["a=read"], None))
    rules = access_of(
        tmp_path,
        JWT_RULES + '[header]\nname = "x-user"\ncertificates = ["gateway"]\n',
        public_key(RSA, "one", "RS256"),
    ).rules
    access = Access(Reloaded([file], partial(read_tokens, file)), rules)
    user, peer = ("x-user", "by header"), Peer("", "gateway")

    def actor(*said: tuple[str, str | bytes]) -> str | None:
        return access.principal(Came(said, peer)).actor

    assert actor() == "gateway"
    assert actor(user) == "by header"
    assert actor(user, ("authorization", f"Bearer {token}")) == "by token"
    assert actor(user, ("authorization", f"Bearer {GOOD}")) == "ana@example.com"
    for wrong in (new_token(), "x", "a.b.c"):
        with pytest.raises(UnauthenticatedError):
            actor(user, ("authorization", f"Bearer {wrong}"))


GRANT = '[[grants]]\nstore = "a"\nrole = "read"\n'
HEADER = '[header]\nname = "x"\ncertificates = ["g"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "access.toml"),
        ("grant = 1", "unknown field `grant`"),
        ("[stores]\n'a/b' = 'x'", "'a/b' is no name of a store"),
        (GRANT, "say one of users, certificates and claims"),
        (GRANT + 'users = ["a"]', "no [header]"),
        (GRANT + 'claims = { a = "b" }', "no [jwt]"),
        (HEADER + GRANT + 'users = ["a"]\ncertificates = ["b"]', "say one of"),
        (GRANT.replace("read", "rad") + 'certificates = ["b"]', "'rad' is no role"),
        (GRANT.replace('"a"', '"a b"') + 'certificates = ["b"]', "no name of a store"),
        (GRANT + 'certificates = "b"', "Expected `array`"),
        ('[header]\nname = "x"', "trusts nobody"),
        ('[header]\nname = "x"\naddresses = ["10.0.0.1/8"]', "no IP address and no network"),
        (JWT_RULES.replace("[jwt]", '[jwt]\nalgorithms = ["HS256"]'), "algorithms are HS256"),
        (JWT_RULES.replace("[jwt]", '[jwt]\nalgorithms = ["none"]'), "algorithms are none"),
        (JWT_RULES.replace("[jwt]", "[jwt]\nleeway_seconds = 100000"), "from 0 to 600"),
        (JWT_RULES.replace("jwks.json", "http://id.example.com/jwks"), "with https, or a file"),
        (JWT_RULES.replace("jwks.json", "missing.json"), "missing.json"),
        (JWT_RULES.replace('audience = "eventstore"', ""), "missing required field `audience`"),
        ('[jwt]\nissuer = "x"', "access.toml: [jwt]: missing required field `audience`"),
        ('[[grants]]\nstore = "a"', "access.toml: grant 1: missing required field `role`"),
        ("[jwt", "is no TOML"),
    ],
)
def test_what_is_no_access_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StatusError) as raised:
        access_of(tmp_path, text)
    assert said in raised.value.message


def test_stores_are_beside_the_file(tmp_path: Path) -> None:
    access = access_of(tmp_path, '[stores]\na = "stores/a"\nb = "memory://"\nc = "/c"')
    assert access.rules is not None
    places = access.rules.now().stores
    assert [*map(str, places.values())] == [str(tmp_path / "stores/a"), "memory://", "/c"]


def test_the_example_of_the_document_is_one(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
    [text] = re.findall(r"```\n(\[jwt\].*?)```", document, re.DOTALL)
    access = access_of(tmp_path, text)
    assert access.rules is not None
    assert [*access.rules.now().stores] == ["team-a"]
    ana = access.principal(Came([("kubeflow-userid", "ana@example.com")], Peer("10.1.0.7")))
    assert ana.grants == {"team-a": {Role.READ}}
