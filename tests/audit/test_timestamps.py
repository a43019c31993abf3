"""Timestamps of an authority that is made here, with openssl."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from eventstore import errors
from eventstore.audit import Checkpoint, CosigningKey, Policy, SigningKey
from eventstore.audit.timestamp import Timestamp, requested, signed_part
from eventstore.audit.timestamp_answer import with_ordered_certificates
from tests.audit.filled_store import KEY, fill
from tests.builders import memory_store
from tests.command_line.runner import run

TRUST = KEY.verifier_key
CONFIG = """\
[ tsa ]
default_tsa = own
[ own ]
serial = serial
crypto_device = builtin
signer_cert = tsa.pem
certs = ca.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
ess_cert_id_alg = sha256
"""


def why_not() -> str | None:
    if shutil.which("openssl") is None:
        return "openssl is not installed: apt-get install openssl"
    try:
        import rfc3161_client  # noqa: F401
    except ImportError:
        return "rfc3161-client is not installed: pip install 'mlmd-eventstore[timestamp]'"
    return None


NEEDS_AUTHORITY = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(
    folder: Path, usage: str = "critical,timeStamping", name: str = "Authority"
) -> Path:
    folder.mkdir()
    (folder / "tsa.cnf").write_text(CONFIG)
    (folder / "serial").write_text("01\n")
    (folder / "extensions").write_text(f"extendedKeyUsage={usage}\n")
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-sha256")
    ca = ("-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Root", "-days", "30")
    openssl(folder, *new, *ca)
    openssl(folder, *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", f"/CN={name}")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2", "-days", "30", "-sha256")
    extended = ("-extfile", "extensions")
    openssl(folder, "x509", "-req", "-in", "tsa.csr", *signing, *extended, "-out", "tsa.pem")
    return folder


def reply(folder: Path, query: bytes, *options: str) -> bytes:
    (folder / "query").write_bytes(query)
    replying = ("-queryfile", "query", "-config", "tsa.cnf", "-out", "reply", *options)
    openssl(folder, "ts", "-reply", *replying)
    return (folder / "reply").read_bytes()


class Handler(BaseHTTPRequestHandler):
    """Answers as `answer` says: with the authority's reply, another one's, or none."""

    answer = "reply"
    kept = b""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/timestamp-query"
        query = self.rfile.read(int(self.headers["Content-Length"]))
        if self.answer == "error":
            self.send_error(500)
            return
        content = reply(self.folder, query) if self.answer == "reply" else self.kept
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("authority") / "own")


@pytest.fixture
def address(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, authority))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/tsr"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def checkpoints() -> list[Checkpoint]:
    store = memory_store()
    fill(store)
    return [store.as_of(store.log_position() - 3).checkpoint(KEY), store.checkpoint(KEY)]


@NEEDS_AUTHORITY
def test_a_checkpoint_is_timestamped(
    authority: Path,
    address: str,
    checkpoints: list[Checkpoint],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, roots = checkpoints[0].text, (authority / "ca.pem").read_bytes()
    stamped = requested(address, text, TRUST, roots)
    assert stamped.checkpoint == checkpoints[0]
    assert abs(datetime.now(timezone.utc) - stamped.at) < timedelta(minutes=5)
    assert Timestamp.check(stamped.token, text, TRUST, roots) == stamped
    # Of the checkpoint as it was signed: cosignatures may come later, and openssl reads it, too.
    witness = CosigningKey.generate("north.example")
    cosigned = witness.cosigned(text, 1)
    policy = Policy.parse(f"log {TRUST}\nwitness n {witness.verifier_key}\nquorum n\n")
    assert Timestamp.check(stamped.token, cosigned, policy, roots).at == stamped.at
    assert signed_part(cosigned, policy) == text.encode()
    (tmp_path / "data").write_text(text)
    (tmp_path / "token").write_bytes(stamped.token)
    trusting = ("-CAfile", str(authority / "ca.pem"))
    openssl(tmp_path, "ts", "-verify", "-in", "token", "-data", "data", *trusting)
    # An answer to an earlier question is none to this one.
    monkeypatch.setattr(Handler, "answer", "kept")
    monkeypatch.setattr(Handler, "kept", stamped.token)
    with pytest.raises(errors.InvalidArgumentError, match="Nonce"):
        requested(address, text, TRUST, roots)
    monkeypatch.setattr(Handler, "kept", bytes(2**20 + 1))
    with pytest.raises(errors.InvalidArgumentError, match="answers more than"):
        requested(address, text, TRUST, roots)
    monkeypatch.setattr(Handler, "answer", "error")
    with pytest.raises(errors.UnavailableError, match="answers 500"):
        requested(address, text, TRUST, roots)
    with pytest.raises(errors.UnavailableError, match="cannot be read"):
        requested("http://127.0.0.1:1/", text, TRUST, roots)
    with pytest.raises(errors.InvalidArgumentError, match="no address"):
        requested("file:///etc/passwd", text, TRUST, roots)


@NEEDS_AUTHORITY
def test_what_is_no_timestamp_of_it_is_refused(
    authority: Path, address: str, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    text, roots = checkpoints[0].text, (authority / "ca.pem").read_bytes()
    token = requested(address, text, TRUST, roots).token
    for place in range(0, len(token), 97):
        changed = token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]
        try:
            found = Timestamp.check(changed, text, TRUST, roots)
        except errors.InvalidArgumentError:
            continue
        # Certificates that came along and are not needed are not signed.
        assert found.at == Timestamp.check(token, text, TRUST, roots).at
    for wrong in (b"", b"x", token[:-1], token[: len(token) // 2], token + b"\x00", b"\x30\x80"):
        with pytest.raises(errors.InvalidArgumentError, match="not a timestamp"):
            Timestamp.check(wrong, text, TRUST, roots)
    with pytest.raises(errors.InvalidArgumentError, match="not a timestamp of this checkpoint"):
        Timestamp.check(token, checkpoints[1].text, TRUST, roots)
    with pytest.raises(errors.InvalidArgumentError, match="no signature by"):
        Timestamp.check(token, text, SigningKey.generate("ana@example.com").verifier_key, roots)
    other = make_authority(tmp_path / "other")
    with pytest.raises(errors.InvalidArgumentError, match="not a timestamp"):
        Timestamp.check(token, text, TRUST, (other / "ca.pem").read_bytes())
    for wrong in (b"", b"x", token):
        with pytest.raises(errors.InvalidArgumentError, match="not PEM"):
            Timestamp.check(token, text, TRUST, wrong)
    rejected = bytes.fromhex("30053003020102")
    with pytest.raises(errors.InvalidArgumentError, match="gave no timestamp: status 2"):
        Timestamp.check(rejected, text, TRUST, roots)


@NEEDS_AUTHORITY
def test_certificates_may_come_in_any_order(checkpoints: list[Checkpoint], tmp_path: Path) -> None:
    """OpenSSL writes them as the chain has them: that of the signer first, whatever its size."""
    text = checkpoints[0].text
    (tmp_path / "data").write_text(text)
    orders = set()
    for name in ("A", "An authority with a name that makes its certificate longer"):
        folder = make_authority(tmp_path / name[:2].strip(), name=name)
        roots = (folder / "ca.pem").read_bytes()
        openssl(tmp_path, "ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "query")
        token = reply(folder, (tmp_path / "query").read_bytes(), "-chain", "ca.pem")
        orders.add(with_ordered_certificates(token) == token)
        stamped = Timestamp.check(token, text, TRUST, roots)
        assert stamped.token == token
        for cut in range(0, len(token), 53):
            assert len(with_ordered_certificates(token[:cut])) == cut
    assert orders == {True, False}


@NEEDS_AUTHORITY
def test_it_is_said_what_is_wrong_with_an_answer(
    authority: Path, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    text, roots = checkpoints[0].text, (authority / "ca.pem").read_bytes()
    (tmp_path / "data").write_text(text)
    asking = ("ts", "-query", "-data", "data", "-sha256", "-out", "query")

    def answered(folder: Path, *options: str) -> bytes:
        openssl(tmp_path, *asking, *options)
        return reply(folder, (tmp_path / "query").read_bytes())

    whole = answered(authority, "-cert")
    openssl(authority, "ts", "-reply", "-in", "reply", "-token_out", "-out", "bare")
    other = make_authority(tmp_path / "other")
    for token, root, words in (
        (answered(authority), roots, "has no certificate of who signed it"),
        (answered(authority, "-cert", "-no_nonce"), other / "ca.pem", "do not lead to one"),
        ((authority / "bare").read_bytes(), roots, "a token alone"),
        (whole[:-1], roots, "or not all of one"),
        (b"<!DOCTYPE html>", roots, "no answer of an authority in DER"),
        (whole[:-20] + bytes(20), roots, "not what was signed"),
    ):
        trusted = root if isinstance(root, bytes) else root.read_bytes()
        with pytest.raises(errors.InvalidArgumentError, match=words) as refused:
            Timestamp.check(token, text, TRUST, trusted)
        assert "ErrorStack" not in str(refused.value)
        assert "ParseError" not in str(refused.value)
    with pytest.raises(errors.InvalidArgumentError, match="it is of another text"):
        Timestamp.check(whole, checkpoints[1].text, TRUST, roots)


@NEEDS_AUTHORITY
def test_the_command(
    authority: Path,
    address: str,
    checkpoints: list[Checkpoint],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("signed").write_text(checkpoints[0].text)
    Path("other").write_text(checkpoints[1].text)
    Path("pub").write_text(str(TRUST))
    how = ("--root", authority / "ca.pem", "--key", "pub")
    asked = run("timestamp", "signed", "token", "--authority", address, *how)
    assert (asked.code, asked.err) == (0, "")
    assert "ana@example.com signed, by its own clock on" in asked.out
    assert run("timestamp", "signed", "token", *how).out == asked.out
    assert run("timestamp", "signed", "token", "--authority", address, *how).code == 1
    refused = run("timestamp", "other", "token", *how)
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith("eventstore: token: not a timestamp of this checkpoint")
    Path("page").write_text("<!DOCTYPE html>")
    for checked, code in ((("signed", "page"), 3), (("page", "token"), 3), (("signed", "no"), 1)):
        assert run("timestamp", *checked, *how).code == code
    not_pem = run("timestamp", "signed", "token", "--root", "page", "--key", "pub")
    assert (not_pem.code, "page: " in not_pem.err) == (1, True)
    again = run("timestamp", "signed", "token", "--authority", address, *how, "--force")
    assert again.err == (
        "eventstore: token exists: timestamps are never overwritten, choose another file\n"
    )
    assert run("timestamp", "signed", "missing", *how).code == 1
    assert run("timestamp", "signed", "new", "--authority", "http://127.0.0.1:1/", *how).code == 1
    assert not Path("new").exists()


@pytest.mark.parametrize("version", [None, "0.9", "1.0.3", "1.0.8"])
def test_without_the_package_it_is_said_what_to_install(
    checkpoints: list[Checkpoint], monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    """And where it is a version that accepts the answer of any authority."""
    module = None if version is None else ModuleType("rfc3161_client")
    monkeypatch.setitem(sys.modules, "rfc3161_client", module)
    monkeypatch.setattr(importlib.metadata, "version", {"rfc3161-client": version}.get)
    for ask in (
        lambda: Timestamp.check(b"", checkpoints[0].text, TRUST, b""),
        lambda: requested("http://127.0.0.1:1/", checkpoints[0].text, TRUST, b""),
    ):
        with pytest.raises(errors.FailedPreconditionError, match=r"\[timestamp\]"):
            ask()
