"""Where published tiles are read from: a folder, or a web server."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Final, Protocol

from eventstore.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from eventstore.log.os_errors import tells_of_damage, translated
from eventstore.log.regular_file import opened_to_read

_TIMEOUT_SECONDS: Final = 30
_AGENT: Final = "mlmd-eventstore"


class TileSource(Protocol):
    """Files by the names that tlog-tiles gives them."""

    name: str

    def get(self, path: str, most_bytes: int) -> bytes | None:
        """What is in a file; None when there is none. Safe to call from several threads.

        Raises DataLossError when it has more bytes, UnavailableError when it cannot be had now.
        """


def opened_source(name: str) -> TileSource:
    """The source at an address (http or https) or in a folder."""
    scheme, separator, _ = name.partition("://")
    if not separator:
        return FolderSource(Path(name))
    if scheme.lower() not in ("http", "https"):
        raise InvalidArgumentError(
            f"{name!r} is neither a folder nor an address with http or https"
        )
    return WebSource(name)


class FolderSource:
    """The folder that `publish_tiles` has written, or a copy of it."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def get(self, path: str, most_bytes: int) -> bytes | None:
        file_path = self._folder / path
        try:
            with opened_to_read(file_path) as file:
                content = file.read(most_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            if not self._folder.is_dir():
                raise NotFoundError(
                    f"there is no folder {self.name}: nothing is published there"
                ) from None
            return None
        except OSError as error:
            if tells_of_damage(error):
                raise DataLossError(
                    f"{file_path} cannot be read as a file ({error.strerror}): publish it again"
                ) from None
            raise translated(error, "reading", file_path) from None
        return _bounded(content, most_bytes, str(file_path))


class WebSource:
    """A web server that serves such a folder."""

    def __init__(self, address: str) -> None:
        self.name = address.rstrip("/")
        self._opener = urllib.request.OpenerDirector()
        # Not those for files and FTP, to which a redirection could lead.
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def get(self, path: str, most_bytes: int) -> bytes | None:
        address = f"{self.name}/{path}"
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "gzip, identity"}
        try:
            request = urllib.request.Request(address, headers=headers)  # noqa: S310
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                # What cannot be compressed is a little longer when it is.
                content = answer.read(most_bytes + most_bytes // 8 + 1024)
                if answer.headers.get("Content-Encoding", "identity").lower() == "gzip":
                    content = _unpacked(content, most_bytes)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                return None
            raise UnavailableError(f"{address} answers {error.code}: retry later") from None
        except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise UnavailableError(f"{address} cannot be read: {reason}") from None
        return _bounded(content, most_bytes, address)


def _unpacked(content: bytes, most_bytes: int) -> bytes:
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    unpacked = unpacking.decompress(content, most_bytes + 1)
    if not unpacking.eof and len(unpacked) <= most_bytes:
        raise ValueError("the compressed answer is cut off")
    return unpacked


def _bounded(content: bytes, most_bytes: int, name: str) -> bytes:
    if len(content) > most_bytes:
        raise DataLossError(f"{name} has more than {most_bytes:,} bytes")
    return content
