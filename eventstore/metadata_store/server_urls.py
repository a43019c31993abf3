"""Servers by URL: `grpc://host:port`, or `grpcs://` with TLS, and a store's name as its path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from eventstore.errors import InvalidArgumentError
from eventstore.log.os_errors import translating
from eventstore.log.places import StoreUrl
from eventstore.proto import metadata_store_pb2 as mlmd

_PORTS: Final = {"grpc": 8080, "grpcs": 443}

_TLS_FILES: Final = {
    "EVENTSTORE_TLS_CA": "custom_ca",
    "EVENTSTORE_TLS_KEY": "client_key",
    "EVENTSTORE_TLS_CERTIFICATE": "server_cert",
}
"""What names a file of PEM texts, and the field for its content."""


def server_of(
    url: StoreUrl, environment: Mapping[str, str]
) -> tuple[mlmd.MetadataStoreClientConfig, str | None]:
    """How to reach the server at a URL, and the store that is meant, if the URL says it.

    Certificates are those of the files that `EVENTSTORE_TLS_CA`, `EVENTSTORE_TLS_KEY` and
    `EVENTSTORE_TLS_CERTIFICATE` name; without the first, the system's authorities are trusted.
    Raises InvalidArgumentError for a URL that says something else, and what reading a file raises.
    """
    parts = urlsplit(url.revealed())
    store = unquote(parts.path).strip("/")
    try:
        port = parts.port or _PORTS[url.scheme]
    except ValueError:
        port = 0
    if not port or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidArgumentError(
            f"{url} is no URL of a server: write {url.scheme}://host:port or "
            f"{url.scheme}://host:port/store; EVENTSTORE_TOKEN or EVENTSTORE_TOKEN_FILE says who "
            "calls"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    config = mlmd.MetadataStoreClientConfig(host=host, port=port)
    if url.scheme == "grpcs":
        config.ssl_config.SetInParent()
        for name, field in _TLS_FILES.items():
            if file := environment.get(name):
                with translating("reading", Path(file)):
                    text = Path(file).read_bytes().decode("ascii", "replace")
                setattr(config.ssl_config, field, text)
    return config, store or None
