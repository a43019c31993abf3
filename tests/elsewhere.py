"""A log as a package could bring it, for URLs with `elsewhere://`, and its installation."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from eventstore.log import DirectoryLog
from eventstore.log.places import StoreUrl
from eventstore.log.stores import is_store
from eventstore.log.user_cache import UserCaches, open_user_caches


class LogElsewhere(DirectoryLog):
    """A log that could be anywhere: nobody is told of a directory, and caches are the user's."""

    chosen: Path | None = None
    name = "elsewhere"

    @cached_property
    def caches(self) -> UserCaches | None:
        return open_user_caches(self.store_id, str(self.directory), self.head_of, self.chosen)

    def head_of(self, number: int) -> bytes | None:
        return next((found.tree_head for found in self.commits() if found.number == number), None)

    def cache_folder(self, *, make: bool = False) -> Path | None:  # type: ignore[override]
        if self.caches is None:
            return None
        if make and (head := self.head_of(number := self.commit_number)) is not None:
            self.caches.note(number, head)
        return self.caches.folder


def open_log(
    url: StoreUrl,
    *,
    read_only: bool,
    creates: bool,
    cache_folder: Path | None,
    store_id: UUID | None = None,
) -> LogElsewhere:
    path = Path(urlsplit(url.revealed()).path)
    made = creates and not is_store(path)
    if made:
        log = LogElsewhere.create(path, store_id=store_id)
    else:
        log = LogElsewhere.open(path, read_only=read_only)
    log.chosen = cache_folder
    log.name = str(url)
    return log


def install(folder: Path, patched: pytest.MonkeyPatch) -> None:
    """Have the package installed, by what an installation leaves in a folder, and caches there."""
    about = folder / "elsewhere-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[eventstore.logs]\n"
        "elsewhere = tests.elsewhere:open_log\n"
        "lacking = tests.no_such_module:open_log [fast,safe]\n"
    )
    patched.syspath_prepend(folder)
    patched.setenv("EVENTSTORE_CACHE", str(folder / "caches"))
