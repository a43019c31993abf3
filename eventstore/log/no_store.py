"""Tells an encrypted backup from a store, for which its folder may be taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from eventstore.errors import FailedPreconditionError

BACKUP_NAME: Final = "backup.json"
"""The file that an encrypted backup has, and a store has not."""


def is_encrypted_backup(path: Path) -> bool:
    """Whether a path is a folder that an encrypted backup was written into."""
    # False for a path that cannot be, which whoever reads it refuses.
    return os.path.isfile(path / BACKUP_NAME)


def refuse_encrypted_backup(path: Path) -> None:
    """Raise FailedPreconditionError, with the way to a store, where there is such a backup."""
    if is_encrypted_backup(path):
        raise FailedPreconditionError(
            f"{path} is an encrypted backup, and no store: `eventstore restore {path} STORE --keys "
            "KEYS --erasures REGISTER` makes one of it"
        )
