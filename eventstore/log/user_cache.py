"""Where this user's processes keep caches of a log that has no directory of its own.

A copy of a log has its store's id, and either may go on without the other. A server may be set back
to an older state of a log, which then goes on in another way. Caches of the one would lie of the
other. So their folder is named by the store and by the place of the log, and a note in it says how
far the history went that they were folded from.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec

from eventstore.late_logger import late_logger
from eventstore.log.file_lock import exclusive
from eventstore.log.folder_tree import remove_tree

_LOGGER = late_logger("eventstore.log")

CACHE_VARIABLE: Final = "EVENTSTORE_CACHE"
_NOTE_NAME: Final = "history.json"
_PRIVATE: Final = 0o700
_NAME_LETTERS: Final = 16


class _Note(msgspec.Struct, frozen=True):
    """`caches` is the folder that has them; commit 0 has no tree head."""

    place: str
    caches: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
    commit: int = 0
    tree_head: str = ""


class UserCaches:
    """The folder for caches of one log, which all processes of this user share.

    They are thrown away when the log no longer has the history that they were folded from.
    """

    def __init__(self, folder: Path, place: str, head_of: Callable[[int], bytes | None]) -> None:
        """Open `user_cache_folder(…)`, or make it; `place` is shown to who looks into it.

        `head_of` gives the tree head of a commit by number, None where the log has none of it.
        Raises OSError where there can be no caches, and what `head_of` does.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        self._note = folder / _NOTE_NAME
        with exclusive(self._note) as file:
            note = _decoded(file.readall())
            if note is not None and note.commit:
                head = head_of(note.commit)
                if head is None or head.hex() != note.tree_head:
                    _LOGGER.warning(
                        "%s no longer has commit %d as caches in %s were folded from it: they are "
                        "thrown away and folded anew",
                        *(place, note.commit, folder),
                    )
                    note = None
            if note is None:
                # In a folder of another name: who still has the old one open writes nothing here.
                note = _Note(place, os.urandom(4).hex())
                _write(file.fileno(), note)
            self.folder = folder / note.caches
            self.folder.mkdir(mode=_PRIVATE, exist_ok=True)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name not in (note.caches, _NOTE_NAME):
                        remove_tree(Path(entry.path), ignore_errors=True)
        self._noted = note.commit

    def note(self, commit: int, tree_head: bytes) -> None:
        """Say that caches are about to be written, of the log up to a commit at most.

        Raises FileNotFoundError where another process has thrown these away meanwhile.
        """
        if commit <= self._noted and self.folder.is_dir():
            return
        with exclusive(self._note) as file:
            note = _decoded(file.readall())
            if note is None or note.caches != self.folder.name:
                raise FileNotFoundError(
                    errno.ENOENT, "thrown away meanwhile", os.fspath(self.folder)
                )
            # The user may have removed it.
            self.folder.mkdir(mode=_PRIVATE, exist_ok=True)
            if note.commit < commit:
                note = msgspec.structs.replace(note, commit=commit, tree_head=tree_head.hex())
                _write(file.fileno(), note)
            self._noted = note.commit


def open_user_caches(
    store_id: UUID,
    place: str,
    head_of: Callable[[int], bytes | None],
    chosen: Path | None = None,
) -> UserCaches | None:
    """The caches of a log, see `user_cache_folder`; None when there can be none."""
    folder = user_cache_folder(store_id, place, chosen)
    if folder is None:
        return None
    try:
        caches = UserCaches(folder, place, head_of)
        if os.access(caches.folder, os.W_OK):
            return caches
        reason = "it cannot be written to"
    except OSError as error:
        reason = str(error.strerror)
    _LOGGER.warning("no caches of %s are kept in %s: %s", place, folder, reason)
    return None


def user_cache_folder(store_id: UUID, place: str, chosen: Path | None = None) -> Path | None:
    """The folder of all that is cached of a log; None when there can be none.

    It is named by the store's id and a digest of the place, below the chosen folder, the one that
    EVENTSTORE_CACHE names, or that of the platform for caches of this user. The place tells the log
    from its copies, and has no password. A folder of somebody else's is not used, who might have
    written anything there.
    """
    below = chosen or _usual()
    if below is None:
        return None
    digest = hashlib.sha256(place.encode()).hexdigest()[:_NAME_LETTERS]
    folder = Path(os.path.abspath(below)) / f"{store_id}-{digest}"
    try:
        owner = folder.lstat().st_uid
    except FileNotFoundError:
        return folder
    except OSError as error:
        _LOGGER.warning("no caches are kept in %s: %s", folder, error.strerror)
        return None
    if owner != os.geteuid():
        _LOGGER.warning("no caches are kept in %s: it belongs to another user", folder)
        return None
    return folder


def _usual() -> Path | None:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    from platformdirs import user_cache_path

    usual = user_cache_path("eventstore", appauthor=False)
    # A user whom the system does not know has no home.
    return usual if usual.is_absolute() else None


def _decoded(content: bytes) -> _Note | None:
    """The note; None where there is none, or it was written in part."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(content, type=_Note)
    return None


def _write(descriptor: int, note: _Note) -> None:
    content = msgspec.json.encode(note)
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
