"""Certificates and keys: of a configuration, or of files that may change while they are served."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from eventstore.errors import InvalidArgumentError
from eventstore.log.os_errors import translating
from eventstore.proto import metadata_store_pb2 as mlmd

SslConfig: TypeAlias = mlmd.MetadataStoreServerConfig.SSLConfig


class TlsFiles(Struct, frozen=True):
    """PEM files. With `client_ca` only clients are let in whose certificate one of these signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        rest = () if self.client_ca is None else (self.client_ca,)
        return (self.certificate, self.key, *rest)


def read_tls(files: TlsFiles) -> SslConfig:
    """What the files have. Raises InvalidArgumentError when they cannot be used together."""
    texts = list[str]()
    for path in files.paths():
        with translating("reading", path):
            texts.append(path.read_bytes().decode("latin-1"))
    config = SslConfig(server_cert=texts[0], server_key=texts[1])
    if files.client_ca is not None:
        config.custom_ca, config.client_verify = texts[2], True
    try:
        tls_context(config)
    except InvalidArgumentError:
        raise InvalidArgumentError(
            f"{', '.join(map(str, files.paths()))} cannot be used: they have to be PEM files of a "
            "certificate, of its key without a password, and of authorities for clients"
        ) from None
    return config


def tls_context(tls: SslConfig) -> ssl.SSLContext:
    """What a configuration says, for HTTP/1.1. Raises InvalidArgumentError if it cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The library takes keys from files alone; this one only its owner can read.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(f"{tls.server_key}\n{tls.server_cert}")
            file.flush()
            context.load_cert_chain(file.name, password="")
        if tls.client_verify:
            context.load_verify_locations(cadata=tls.custom_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, ValueError):
        raise InvalidArgumentError(
            "ssl_config cannot be used: server_key, server_cert and custom_ca have to be the texts "
            "of a PEM key without a password and of certificates, not the paths of files"
        ) from None
    return context
