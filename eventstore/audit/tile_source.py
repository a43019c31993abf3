"""Where published tiles are read from: a folder, or a web server."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from eventstore.audit.web_answers import answer_of, checked_address, web_opener
from eventstore.errors import DataLossError, InvalidArgumentError, NotFoundError
from eventstore.log.os_errors import tells_of_damage, translated
from eventstore.log.regular_file import opened_to_read


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
        self.name = checked_address(address, has_query=False).rstrip("/")
        self._opener = web_opener()

    def get(self, path: str, most_bytes: int) -> bytes | None:
        address = f"{self.name}/{path}"
        compressed = {"Accept-Encoding": "gzip, identity"}
        content = answer_of(self._opener, address, most_bytes, headers=compressed)
        return None if content is None else _bounded(content, most_bytes, address)


def _bounded(content: bytes, most_bytes: int, name: str) -> bytes:
    if len(content) > most_bytes:
        raise DataLossError(f"{name} has more than {most_bytes:,} bytes")
    return content
