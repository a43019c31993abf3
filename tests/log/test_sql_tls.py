"""Connections to SQL servers by TLS: certificates of the server and of the user are checked."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from eventstore import errors
from eventstore.log.sql import connecting
from eventstore.log.sql.opening import open_database
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft
from tests.contract.sql_logs import config_of
from tests.sql_servers import Server, running


class Authority:
    """Issues certificates; `pem` is its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = folder / f"{name}.pem"
        certificate = self._signed(self._name, self._key.public_key(), is_authority=True)
        self.pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *hosts: str) -> tuple[str, str]:
        """The paths of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), hosts=hosts)
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        paths[1].chmod(0o600)
        return str(paths[0]), str(paths[1])

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        hosts: tuple[str, ...] = (),
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if is_authority:
            made = made.add_extension(
                x509.KeyUsage(
                    **dict.fromkeys(
                        (
                            *("content_commitment", "key_encipherment", "data_encipherment"),
                            *("key_agreement", "encipher_only", "decipher_only"),
                        ),
                        False,
                    ),
                    digital_signature=True,
                    key_cert_sign=True,
                    crl_sign=True,
                ),
                critical=True,
            )
        if hosts:
            names = [x509.IPAddress(ipaddress.ip_address(host)) for host in hosts]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return made.sign(self._key, hashes.SHA256())


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Authority, Authority]]:
    """A server that takes TLS alone, the authority of its certificate, and another one."""
    folder = tmp_path_factory.mktemp("tls")
    authority, another = Authority(folder, "authority"), Authority(folder, "another")
    certificate, key = authority.issue("server", "127.0.0.1")

    def prepare(server: Server) -> list[str]:
        placed = []
        for path in (authority.pem, certificate, key):
            target = server.folder / Path(path).name
            target.write_bytes(Path(path).read_bytes())
            target.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(target, *server.system_ids())
            placed.append(str(target))
        if server.scheme == "mysql":
            names = ("ssl-ca", "ssl-cert", "ssl-key")
            return [f"--{n}={p}" for n, p in zip(names, placed, strict=True)]
        (server.data / "pg_hba.conf").write_text(
            "hostssl all certified 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        names = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
        return ["ssl=on", *(f"{n}={p}" for n, p in zip(names, placed, strict=True))]

    with running(request.param, prepare=prepare) as server:
        if server.scheme == "mysql":
            server.execute(
                "SET GLOBAL require_secure_transport = ON",
                "CREATE USER certified IDENTIFIED BY 'p' REQUIRE X509",
                "GRANT ALL ON *.* TO certified",
            )
        else:
            server.execute("CREATE USER certified SUPERUSER PASSWORD 'p'")
        yield server, authority, another


def opens(config: mlmd.ConnectionConfig) -> None:
    config.retry_options.max_num_retries = 0
    with contextlib.closing(open_database(connecting.of_config(config))) as log:
        append(log, draft(log.position + 1))


def test_the_server_is_who_the_authority_says(
    secured: tuple[Server, Authority, Authority],
) -> None:
    server, authority, another = secured
    name = server.new_database()
    for verifies in (False, True):
        opens(_config(server, name, authority.pem, verifies=verifies))
        with pytest.raises(errors.PermissionDeniedError, match=r"certificate.*options of TLS"):
            opens(_config(server, name, another.pem, verifies=verifies))
    if server.scheme == "mysql":
        url = f"?ssl_ca={authority.pem}&ssl_verify_server_cert=true"
    else:
        url = f"?sslmode=verify-full&sslrootcert={authority.pem}"
    with contextlib.closing(open_database(connecting.of_url(server.url(name, options=url)))) as log:
        assert log.position == 2


def test_a_name_that_is_not_in_the_certificate_is_refused(
    secured: tuple[Server, Authority, Authority],
) -> None:
    server, authority, _ = secured
    name = server.new_database()
    config = _config(server, name, authority.pem, verifies=True, host="localhost")
    with pytest.raises(errors.PermissionDeniedError, match="TLS"):
        opens(config)
    opens(_config(server, name, authority.pem, verifies=False, host="localhost"))


def test_a_connection_without_tls_is_refused_where_the_server_wants_it(
    secured: tuple[Server, Authority, Authority],
) -> None:
    server, _, _ = secured
    if server.scheme == "mysql":
        # Without options PyMySQL takes TLS where the server offers it.
        opens(config_of(server, server.new_database()))
        return
    config = config_of(server, server.new_database())
    config.postgresql.ssloption.sslmode = "disable"
    with pytest.raises(errors.StatusError, match="no encryption"):
        opens(config)


def test_a_user_shows_a_certificate(secured: tuple[Server, Authority, Authority]) -> None:
    server, authority, _ = secured
    name = server.new_database()
    certificate, key = authority.issue("certified")
    config = _config(server, name, authority.pem, verifies=True)
    chosen = config.mysql if server.scheme == "mysql" else config.postgresql
    chosen.user, chosen.password = "certified", "p"
    with pytest.raises((errors.UnauthenticatedError, errors.PermissionDeniedError)):
        opens(config)
    if server.scheme == "mysql":
        config.mysql.ssl_options.cert, config.mysql.ssl_options.key = certificate, key
    else:
        config.postgresql.ssloption.sslcert, config.postgresql.ssloption.sslkey = certificate, key
    opens(config)


def _config(
    server: Server, name: str, authority: Path, *, verifies: bool, host: str = "127.0.0.1"
) -> mlmd.ConnectionConfig:
    config = config_of(server, name)
    if server.scheme == "mysql":
        config.mysql.host = host
        config.mysql.ssl_options.ca = str(authority)
        config.mysql.ssl_options.verify_server_cert = verifies
    else:
        config.postgresql.host = host
        config.postgresql.ssloption.sslrootcert = str(authority)
        config.postgresql.ssloption.sslmode = "verify-full" if verifies else "verify-ca"
    return config
