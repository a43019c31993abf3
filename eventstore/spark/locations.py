"""Where Spark finds the sealed segments of a store."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlsplit

from eventstore.errors import FailedPreconditionError, InvalidArgumentError
from eventstore.log import Log
from eventstore.log.places import StoreUrl, is_server, place_of
from eventstore.log.record import Position
from eventstore.log.stores import open_log
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.moments import Moment, position_of

Location: TypeAlias = str | Path | MetadataStore | AsOfStore

_GLOB: Final = re.compile(r"[*?\[\]{}\\]")
_ACCOUNT: Final = "AZURE_STORAGE_ACCOUNT_NAME"


class SegmentFile(NamedTuple):
    """A file of records as Spark names it, and the first and last position in it."""

    url: str
    first_position: int
    last_position: int


class Segments(NamedTuple):
    """A store's log, and the files of its first segments, which follow one another.

    `asked` is the position that is asked for: it may be beyond the last of the files.
    """

    log: Log
    files: list[SegmentFile]
    asked: Position

    @property
    def end(self) -> Position:
        """The last position in the files."""
        return Position(self.files[-1].last_position if self.files else 0)


@contextlib.contextmanager
def segments_at(location: Location, as_of: Moment | None) -> Iterator[Segments]:
    """The segments of a store at a location; its log is open in the block alone, if it was not.

    Raises FailedPreconditionError where Spark could not reach them, and what opening a store and a
    moment raise.
    """
    if isinstance(location, (MetadataStore, AsOfStore)):
        source = location._source
        yield _segments(source.log, source.position(as_of), None)
        return
    place = place_of(location)
    if is_server(place):
        raise InvalidArgumentError(
            f"{place} is a server: name the place of the store itself, whose files Spark reads"
        )
    with contextlib.closing(open_log(place, read_only=True)) as log:
        asked = log.position if as_of is None else position_of(log, as_of)
        yield _segments(log, asked, place if isinstance(place, StoreUrl) else None)


def _segments(log: Log, asked: Position, url: StoreUrl | None) -> Segments:
    files: list[SegmentFile] = []
    for file in log.sealed_files():
        end = files[-1].last_position if files else 0
        if file.first_position != end + 1:
            # One before it is not sealed yet.
            break
        if isinstance(file.path, Path) and log.directory is None:
            raise FailedPreconditionError(
                f"the segments of {log.name} lie in its database, where Spark does not reach: copy "
                "the store to a directory or to object storage"
            )
        named = _spark_url(file.path, url)
        files.append(SegmentFile(named, file.first_position, file.last_position))
    return Segments(log, files, asked)


def _spark_url(path: Path | str, url: StoreUrl | None) -> str:
    """A file as Hadoop names it, where some characters would stand for others."""
    if isinstance(path, Path):
        return f"file://{_escaped(str(path.absolute()))}"
    scheme, _, rest = path.partition("://")
    if scheme == "s3":
        return f"s3a://{_escaped(rest)}"
    if scheme == "az":
        container, _, key = rest.partition("/")
        options = parse_qs(urlsplit(url.revealed()).query) if url is not None else {}
        account = options.get("account", [os.environ.get(_ACCOUNT, "")])[-1]
        if not account:
            raise InvalidArgumentError(f"{path}: say in {_ACCOUNT} in which account that is")
        return f"abfss://{container}@{account}.dfs.core.windows.net/{_escaped(key)}"
    return f"{scheme}://{_escaped(rest)}"


def _escaped(path: str) -> str:
    return _GLOB.sub(r"\\\g<0>", path)
