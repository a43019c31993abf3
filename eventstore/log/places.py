"""Where a store is kept: a directory, or what a URL names, which shows no password."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeGuard
from urllib.parse import SplitResult, unquote, urlsplit
from uuid import UUID

from eventstore import errors
from eventstore.log.log import Log
from eventstore.log.memory import MemoryLog

GROUP: Final = "eventstore.logs"
"""The entry points that open logs, each named by the scheme of its URLs."""

# One letter is a drive.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/*)")
_HIDDEN: Final = "***"
_LOCAL: Final = ("file://", "memory://")


class StoreUrl:
    """The URL of a store. Shown, it has `***` for its password and for all that its query says.

    `scheme` is in small letters. Raises InvalidArgumentError for a text in which a password could
    not be told from the rest.
    """

    __slots__ = ("_shown", "_text", "scheme")

    def __init__(self, text: str) -> None:
        self.scheme = text.partition(":")[0].lower()
        self._text = text
        self._shown = _shown(self.scheme, text)

    def revealed(self) -> str:
        """The URL with its password: for whoever connects, never to be shown or stored."""
        return self._text

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreUrl) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


Place: TypeAlias = Path | StoreUrl


class OpensLog(Protocol):
    """What an entry point names; docs/logs.md says what it has to do."""

    def __call__(
        self,
        url: StoreUrl,
        *,
        read_only: bool,
        creates: bool,
        cache_folder: Path | None,
        store_id: UUID | None = None,
    ) -> Log:
        """Open the log at a URL, which with `creates` is made where there is none.

        It gets this id then; without one, a new one.
        """


def place_of(place: str | Path) -> Place:
    """Where somebody says that a store is.

    A text that begins with `SCHEME://` or `file:` is a URL. All else is the path of a directory, in
    which nothing is expanded. Raises InvalidArgumentError for what is neither.
    """
    if not is_url(place):
        return _checked_path(place)
    url = StoreUrl(str(place))
    return _file_path(url) if url.scheme == "file" else url


def is_server(place: Place) -> TypeGuard[StoreUrl]:
    """Whether a store is behind a server of this project's, which is no log."""
    return isinstance(place, StoreUrl) and place.scheme in ("grpc", "grpcs")


def is_url(place: str | Path) -> bool:
    """Whether a text is a URL: a Path is none."""
    found = _SCHEME.match(place) if isinstance(place, str) else None
    return found is not None and (found[1].lower() == "file" or found[2].startswith("//"))


def named_path(path: str | Path) -> Path:
    """The path of a caller's. Raises InvalidArgumentError for "", and for a URL."""
    if is_url(path):
        scheme = str(path).partition(":")[0]
        raise errors.InvalidArgumentError(
            f"a URL ({scheme}:) is no path: name a file or directory of this machine"
        )
    return _checked_path(path)


def _file_path(url: StoreUrl) -> Path:
    """The path that a `file:` URL names, which says nothing else."""
    parts = urlsplit(url.revealed())
    refuse_authority(parts, url)
    if parts.query:
        raise errors.InvalidArgumentError(
            f"{url} says more than a path: leave out what follows the question mark"
        )
    return _checked_path(Path(unquote(parts.path)) if parts.path else "")


def refuse_authority(parts: SplitResult, url: StoreUrl) -> None:
    """Raise InvalidArgumentError for a `file:` URL of another machine."""
    if parts.netloc not in ("", "localhost"):
        shown = urlsplit(str(url)).netloc
        raise errors.InvalidArgumentError(
            f"invalid uri authority: {shown} in '{url}': write file:///path"
        )


def open_at(
    url: StoreUrl,
    *,
    read_only: bool = False,
    creates: bool = False,
    cache_folder: Path | None = None,
    store_id: UUID | None = None,
) -> Log:
    """Open the log at a URL, which with `creates` is made where there is none.

    It is a copy of another store where that one's id is given.
    `cache_folder` is where a log without a directory keeps caches, if not where it usually does.

    Raises InvalidArgumentError for a scheme that nobody has registered, FailedPreconditionError
    where a package is missing that it needs, and what the log raises.
    """
    if is_server(url):
        raise errors.UnimplementedError(
            f"this needs the store itself, and {url} is a server: run it where the store is"
        )
    if url.scheme == "memory":
        return _in_memory(url, creates=creates and not read_only)
    # Opening a directory needs none of it.
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=url.scheme):
        try:
            opens: OpensLog = entry.load()
            return opens(
                url,
                read_only=read_only,
                creates=creates,
                cache_folder=cache_folder,
                store_id=store_id,
            )
        except ImportError as error:
            of = entry.dist.name if entry.dist is not None else entry.module
            extra = f"[{','.join(entry.extras)}]" if entry.extras else ""
            raise errors.FailedPreconditionError(
                f"{url} needs a package that is missing: pip install '{of}{extra}' ({error})"
            ) from None
    known = sorted({*_LOCAL, *(f"{name}://" for name in entry_points(group=GROUP).names)})
    raise errors.InvalidArgumentError(
        f"no store can be opened at {url}: nothing that is installed opens {url.scheme}://; "
        f"name a path, or a URL with {', '.join(known)}"
    )


def _in_memory(url: StoreUrl, *, creates: bool) -> Log:
    if url.revealed().partition("://")[2]:
        raise errors.InvalidArgumentError(f"{url} names nothing: a store in memory is memory://")
    if not creates:
        raise errors.NotFoundError("there is no store at memory://: each opening makes a new one")
    return MemoryLog()


def _checked_path(path: str | Path) -> Path:
    if path == "":
        raise errors.InvalidArgumentError("'' is no path: write '.' for the current folder")
    path = Path(path)
    found = _SCHEME.match(str(path))
    if found and found[2]:
        # As a path it would be made as a directory, perhaps with a password for its name.
        raise errors.InvalidArgumentError(
            f"this path begins with {found[1]}:/ as a URL does: give a URL as text, with "
            f"{found[1]}://, and a directory of that name by its absolute path"
        )
    home = path.parts[0] if path.parts else ""
    if home.startswith("~") and not Path(home).exists():
        raise errors.InvalidArgumentError(
            f"there is no folder {home} here, and nothing is expanded: write {home} out"
        )
    return path


def _shown(scheme: str, text: str) -> str:
    """A URL without what may be secret in it."""
    refusal = f"this {scheme} URL cannot be read"
    if any(character <= " " or character == "\x7f" for character in text):
        raise errors.InvalidArgumentError(f"{refusal}: it has a space or a control character")
    try:
        parts = urlsplit(text)
    except ValueError:
        # Python's words may have the password.
        raise errors.InvalidArgumentError(f"{refusal}: check what follows ://") from None
    who, at, host = parts.netloc.rpartition("@")
    user, colon, _ = who.partition(":")
    after = parts.path + parts.query
    if parts.fragment or ("@" in after and ":" in parts.netloc + after):
        raise errors.InvalidArgumentError(
            f"{refusal}: in it, write @ as %40, / as %2F, ? as %3F, # as %23 and : as %3A, but "
            "where they have their meaning"
        )
    names = [f"{part.partition('=')[0]}=" if "=" in part else "" for part in parts.query.split("&")]
    query = "&".join(f"{name}{_HIDDEN}" for name in names) if parts.query else ""
    password = f"{colon}{_HIDDEN}" if colon else ""
    slashes = "//" if text.partition(":")[2].startswith("//") else ""
    return f"{scheme}:{slashes}{user}{password}{at}{host}{parts.path}{'?' if query else ''}{query}"
