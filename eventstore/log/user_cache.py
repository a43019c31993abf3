"""Where this user's processes keep caches of a log that has no directory of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from uuid import UUID

from eventstore.late_logger import late_logger

_LOGGER = late_logger("eventstore.log")

CACHE_VARIABLE: Final = "EVENTSTORE_CACHE"
_PRIVATE: Final = 0o700


def user_cache_folder(store_id: UUID, chosen: Path | None = None) -> Path | None:
    """The folder for caches of a store, for `Log.cache_folder`; None when there can be none.

    It is named by the store's id, below the chosen folder, the one that EVENTSTORE_CACHE names, or
    that of the platform for caches of this user. All processes of the user share it. It is not made
    here: see `make_user_cache_folder`. A folder of somebody else's is not used, who might have
    written anything there.
    """
    place = chosen or _usual()
    if place is None:
        return None
    folder = Path(os.path.abspath(place)) / str(store_id)
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


def make_user_cache_folder(folder: Path) -> None:
    """Make such a folder, which nobody else may read: it has what the store has."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=_PRIVATE, exist_ok=True)


def _usual() -> Path | None:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    from platformdirs import user_cache_path

    usual = user_cache_path("eventstore", appauthor=False)
    # A user whom the system does not know has no home.
    return usual if usual.is_absolute() else None
