"""Certificates in files: they change while they are served, and their names are actors."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import click
import pytest

import eventstore
from eventstore import MetadataStore, errors
from eventstore.cli.access_options import admission
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.access import Access
from eventstore.server.caller import Callers
from eventstore.server.configuration import Listening, WebListening
from eventstore.server.reloading import Reloaded
from eventstore.server.rules import read_rules
from eventstore.server.server import Server
from eventstore.server.tls import TlsFiles, read_tls
from tests.server.certificates import Authority, Pair
from tests.server.serving import client_config
from tests.server.test_serve_command import served


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def write(folder: Path, pair: Pair, ca: str | None = None) -> TlsFiles:
    files = TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt" if ca else None)
    files.key.write_text(pair.key)
    files.certificate.write_text(pair.certificate)
    if files.client_ca is not None and ca is not None:
        files.client_ca.write_text(ca)
    return files


@contextmanager
def serving(
    files: TlsFiles, *stores: str, access: Access | None = None
) -> Iterator[tuple[Server, dict[str, MetadataStore]]]:
    tls = Reloaded(files.paths(), partial(read_tls, files))
    listening = Listening(port=0, threads=4, tls=tls.now(), tls_now=tls)
    opened = {name: eventstore.open("memory://") for name in stores}
    server = Server(listening, WebListening(0))
    server.start(Callers({name: store._engine for name, store in opened.items()}, access))
    try:
        yield server, opened
    finally:
        server.stop(0)
        for store in opened.values():
            store.close()


def client_of(server: Server, authority: Authority, pair: Pair | None = None) -> MetadataStore:
    config = client_config(server.port, "localhost")
    config.ssl_config.custom_ca = authority.certificate
    if pair is not None:
        config.ssl_config.client_key, config.ssl_config.server_cert = pair
    return MetadataStore(config)


def refuses(client: MetadataStore) -> None:
    with client, pytest.raises(errors.UnavailableError):
        client.get_artifact_types()


def served_certificate(port: int, authority: Authority, protocol: str) -> str:
    context = ssl.create_default_context(cadata=authority.certificate)
    context.set_alpn_protocols([protocol])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        binary = secured.getpeercert(binary_form=True)
        assert binary is not None
        return ssl.DER_cert_to_PEM_cert(binary)


def test_a_new_certificate_is_served_without_a_restart(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [authority.pair(f"server {number}") for number in range(3)]
    files = write(tmp_path, pairs[0])
    with serving(files, "default") as (server, _), client_of(server, authority) as client:
        assert server.web is not None
        ports = (server.port, "h2"), (server.web.port, "http/1.1")

        def serves(pair: Pair) -> bool:
            found = {served_certificate(port, authority, alpn) for port, alpn in ports}
            return found == {pair.certificate}

        client.get_artifact_types()
        assert serves(pairs[0])
        write(tmp_path, pairs[1])
        assert serves(pairs[1])
        # A certificate without its key, as it is while one file is there and the other is not.
        files.certificate.write_text(pairs[2].certificate)
        assert serves(pairs[1])
        assert serves(pairs[1])
        assert caplog.text.count("WHAT CHANGED IS NOT IN USE") == 1
        files.key.unlink()
        assert serves(pairs[1])
        files.key.write_text(pairs[2].key)
        assert serves(pairs[2])
        assert pairs[2].key not in caplog.text
        # Who is connected stays so.
        client.get_artifact_types()


def test_plain_text_and_other_authorities_are_refused(authority: Authority, tmp_path: Path) -> None:
    ana = authority.pair("ana")
    files = write(tmp_path, authority.pair("server"), authority.certificate)
    with serving(files, "default") as (server, _):
        refuses(MetadataStore(client_config(server.port)))
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"\0" * 10_000)
            with suppress(ConnectionError):
                assert b"HTTP" not in stranger.recv(4096)
        for pair in (None, Authority().pair("ana")):
            refuses(client_of(server, authority, pair))
        with client_of(server, authority, ana) as client:
            client.get_artifact_types()
        # Another authority from now on.
        successor = Authority()
        assert files.client_ca is not None
        files.client_ca.write_text(successor.certificate)
        refuses(client_of(server, authority, ana))
        with client_of(server, authority, successor.pair("ana")) as client:
            client.get_artifact_types()


def test_the_name_of_a_certificate_is_the_actor(authority: Authority, tmp_path: Path) -> None:
    files = write(tmp_path, authority.pair("server"), authority.certificate)
    with serving(files, "default") as (server, stores):
        with client_of(server, authority, authority.pair("ana")) as client:
            type_id = client.put_artifact_type(mlmd.ArtifactType(name="By a certificate"))
            refused = pytest.raises(errors.PermissionDeniedError, match="you are 'ana'")
            with refused, client.acting(actor="bob"):
                client.put_artifact_type(mlmd.ArtifactType(name="Never"))
        [version] = stores["default"].history("artifact_type", type_id)
        assert version.actor == "ana"


def test_certificates_are_granted_roles(authority: Authority, tmp_path: Path) -> None:
    files = write(tmp_path, authority.pair("server"), authority.certificate)
    file = tmp_path / "access.toml"

    def grant(role: str) -> None:
        file.write_text(f'[[grants]]\nstore = "a"\nrole = "{role}"\ncertificates = ["ana"]\n')

    grant("read")
    access = Access(None, Reloaded([file], partial(read_rules, file)))
    with serving(files, "a", "b", access=access) as (server, _):
        with client_of(server, authority, authority.pair("ana")) as ana:
            assert ana.get_artifact_types() == []
            with pytest.raises(errors.PermissionDeniedError, match="needs the role write"):
                ana.put_artifact_type(mlmd.ArtifactType(name="T"))
            grant("write")
            assert ana.put_artifact_type(mlmd.ArtifactType(name="T"))
        refused = pytest.raises(errors.PermissionDeniedError, match="no store that you may use")
        with client_of(server, authority, authority.pair("bob")) as bob, refused:
            bob.get_artifact_types()


def test_files_that_cannot_be_used(authority: Authority, tmp_path: Path) -> None:
    files = write(tmp_path, authority.pair("server"), "no certificate")
    with pytest.raises(errors.InvalidArgumentError, match="cannot be used"):
        read_tls(files)
    files.certificate.write_text(authority.pair("another").certificate)
    with pytest.raises(errors.InvalidArgumentError, match=r"tls\.crt.*tls\.key.*cannot be used"):
        read_tls(TlsFiles(files.certificate, files.key))
    for given in (
        (files.certificate, None, None),
        (None, files.key, None),
        (None, None, files.certificate),
    ):
        with pytest.raises(click.UsageError):
            admission((), None, None, *given)


def test_the_command_serves_stores_to_who_may_use_them(
    authority: Authority, tmp_path: Path
) -> None:
    files = write(tmp_path, authority.pair("server"), authority.certificate)
    grants = tmp_path / "access.toml"
    grants.write_text(
        '[stores]\nb = "b"\n[[grants]]\nstore = "b"\nrole = "write"\ncertificates = ["ana"]\n'
    )
    arguments = (
        *("--store", f"a={tmp_path}/a", "--access-file", grants, "--grpc_host=0.0.0.0"),
        *("--tls-certificate", files.certificate, "--tls-key", files.key),
        *("--tls-client-ca", files.client_ca),
    )
    with served(*arguments) as (process, port):
        config = client_config(port, "localhost")
        config.ssl_config.custom_ca = authority.certificate
        config.ssl_config.client_key, config.ssl_config.server_cert = authority.pair("ana")
        with MetadataStore(config) as client:
            client.put_artifact_type(mlmd.ArtifactType(name="T"))
        process.terminate()
        try:
            _, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end") from None
        assert all(" INFO " in line for line in err.splitlines()), err
    for name, found in (("a", []), ("b", ["T"])):
        with eventstore.open(tmp_path / name) as store:
            assert [each.name for each in store.get_artifact_types()] == found
