"""Copy a store to another place, whatever log is there, or what it has more since the last time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from eventstore import errors
from eventstore.copies.register import Register, read_register
from eventstore.copies.repeating import Repeated
from eventstore.copies.restoring import repeat_and_complete
from eventstore.log import Log, Progress, VerifyReport
from eventstore.log.copying import begins_with, copy_commits, refuse_other
from eventstore.log.merkle import EMPTY_HEAD
from eventstore.log.os_errors import resolved
from eventstore.log.places import Place, StoreUrl
from eventstore.log.stores import open_log, settle
from eventstore.long_work import long_work
from eventstore.projections import Projections
from eventstore.retention.checking import with_guards


class CopyReport(msgspec.Struct, frozen=True):
    """What a copy has by now, and how many records of it are new; `tree_head` is in hexadecimal.

    `repeated` is what was recorded again of a register.
    """

    records: int
    commits: int
    tree_head: str
    copied: int
    repeated: Repeated = Repeated()


def copy_store(
    source: Place,
    target: Place,
    progress: Progress | None = None,
    *,
    erasures: Path | None = None,
    actor: str | None = None,
) -> CopyReport:
    """Copy the store at a place, which is only read: see `copy_log`.

    Raises NotFoundError where there is none.
    """
    with _opened(source, read_only=True) as log:
        return copy_log(log, target, progress, erasures=erasures, actor=actor)


@long_work("Copying")
def copy_log(
    source: Log,
    target: Place,
    progress: Progress | None = None,
    *,
    erasures: Path | None = None,
    actor: str | None = None,
) -> CopyReport:
    """Have a place hold what a store has by now, and no more of it than the store has.

    The target is made where nothing is, and continued where it is what the source begins with. What
    is broken off leaves whole commits there, with which the next call goes on. With a register of
    `erasures` all that it names is erased in the target once it is copied, by an `actor`; a target
    where that was done and nothing else is continued, too, while the source has nothing new.

    Raises InvalidArgumentError for a target in memory or within the source,
    FailedPreconditionError for a file, and what `copy_commits`, `read_register` and `repeat` do.
    """
    _refuse_place(source, target)
    register = None if erasures is None else read_register(erasures, source.store_id)
    # Opened for writing, it would be changed where a writer of its own has died.
    with (
        contextlib.suppress(errors.NotFoundError),
        _opened(target, read_only=True, copy_of=source) as log,
    ):
        _refuse_other(source, log, register)
    with _opened(target, read_only=False, copy_of=source) as log:
        before = log.position
        if register is None or not _has_all(log, source):
            left = copy_commits(
                source,
                log,
                before_destroying=lambda: _refuse_forbidden(source),
                tell=progress or (lambda _, __: None),
            )
            if left:
                # First: what is left in the log is found by the next copy, if this breaks off.
                _scrub(log)
                log.destroy(left)
        copied = log.position - before
        repeated = Repeated()
        if register is not None:
            repeated, _ = repeat_and_complete(log, register, actor)
        return CopyReport(
            *(log.position, log.commit_number, _newest_head(log)),
            copied=copied,
            repeated=repeated,
        )


def _refuse_other(source: Log, target: Log, register: Register | None) -> None:
    """Raise FailedPreconditionError for a target that cannot be continued."""
    if register is None or not _has_all(target, source):
        refuse_other(source, target)


def _has_all(target: Log, source: Log) -> bool:
    """Whether there is anything in the source, and the target has all of it."""
    is_same = target.store_id == source.store_id
    return is_same and source.position > 0 and begins_with(target, source)


def _refuse_forbidden(source: Log) -> None:
    """Raise FailedPreconditionError when an erasure of the source was not allowed."""
    report = with_guards(VerifyReport(True, source.position, 0, 0, "", []), source)
    if report.findings:
        raise errors.FailedPreconditionError(
            f"{source.name}: {report.findings[0].what}; nothing was copied"
        )


def _newest_head(log: Log) -> str:
    if not log.position:
        return EMPTY_HEAD.hex()
    *_, newest = log.commits(log.commit_end(log.position - 1))
    return newest.tree_head.hex()


@contextlib.contextmanager
def _opened(place: Place, *, read_only: bool, copy_of: Log | None = None) -> Iterator[Log]:
    """The log at a place; to write, it is made as a copy of a store where there is none."""
    if isinstance(place, Path):
        settle(place, read_only=read_only)
    log = open_log(
        place,
        read_only=read_only,
        creates=not read_only,
        store_id=None if copy_of is None else copy_of.store_id,
    )
    with contextlib.closing(log):
        yield log


def _refuse_place(source: Log, target: Place) -> None:
    if isinstance(target, StoreUrl):
        if target.scheme == "memory":
            raise errors.InvalidArgumentError(
                "a copy in memory would be gone when this is done: name a directory or another URL"
            )
        return
    if target.is_file():
        raise errors.FailedPreconditionError(
            f"{target} is a file, and a store is a directory: choose another path"
        )
    directory = source.directory
    if directory is not None and resolved(directory) in (
        resolved(target),
        *resolved(target).parents,
    ):
        raise errors.InvalidArgumentError(
            f"{target} is the store {directory} or inside of it: choose a path outside of it"
        )


def _scrub(log: Log) -> None:
    """Leave nothing in the caches of a copy of what its newest records erase."""
    folder = log.cache_folder()
    if folder is not None and folder.is_dir():
        with contextlib.closing(Projections(log)) as projections:
            projections.scrub()
