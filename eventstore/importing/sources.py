"""Find a database by its path or its URL."""

from __future__ import annotations

from pathlib import Path

from eventstore.errors import InvalidArgumentError
from eventstore.importing.mlmd_source import MlmdSource
from eventstore.importing.sqlite_source import SqliteSource


def opened_source(source: str | Path, *, copies: bool = False) -> MlmdSource:
    """The database at a path, which may be read as a copy, or that of a URL.

    Raises InvalidArgumentError for a URL of another kind, and what the sources do.
    """
    scheme, separator, _ = str(source).partition("://")
    if not separator or isinstance(source, Path):
        return SqliteSource(Path(source), copies=copies)
    from eventstore.importing.server_source import KINDS, ServerSource

    if scheme not in KINDS:
        raise InvalidArgumentError(
            f"a database of {scheme}:// cannot be imported: name an SQLite file, or a URL like "
            "mysql://user:password@host/database or postgresql://user:password@host/database"
        )
    return ServerSource(str(source))
