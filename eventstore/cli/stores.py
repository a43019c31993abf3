"""Open a store for a command: nothing of it is written but its caches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from eventstore.cli.help import nearest
from eventstore.cli.moments import Moment
from eventstore.errors import NotFoundError
from eventstore.log import DirectoryLog, Progress
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.metadata_store.opening import open_directory
from eventstore.projections import Projections
from eventstore.shown_text import shown_text
from eventstore.store.engine import MILLISECONDS_MIN


@contextmanager
def opened_store(directory: Path) -> Iterator[MetadataStore]:
    """The store to read from; what is folded for it is saved, so that no later call does."""
    engine = open_directory(directory, read_only=True, saves_caches=True)
    with MetadataStore._of(engine) as store:
        yield store


def require_type(store: MetadataStore | AsOfStore, kinds: tuple[str, ...], name: str) -> None:
    """Raise NotFoundError, which names the nearest, when no type of nodes of these kinds has it."""
    known = sorted(
        {node_type.name for kind in kinds for node_type in getattr(store, f"get_{kind}_types")()}
    )
    if name not in known:
        words = " or ".join(kinds)
        raise NotFoundError(f"no {words} type is named {shown_text(name)!r}{nearest(name, known)}")


def position_before(store: MetadataStore, moment: Moment | None) -> int:
    """The last position that was put before a moment; 0 without one."""
    return 0 if moment is None else _position(store, moment.before())


def position_upto(store: MetadataStore, moment: Moment | None) -> int:
    """The last position that was put by a moment; the newest without one."""
    newest = store.log_position()
    return newest if moment is None else min(newest, _position(store, moment.upto()))


def _position(store: MetadataStore, moment: int | datetime) -> int:
    if isinstance(moment, datetime):
        return store.log.position_at(round(moment.timestamp() * 1_000_000))
    if moment >= MILLISECONDS_MIN:
        return store.log.position_at(moment * 1000 + 999)
    return moment


def windows(after: int, upto: int) -> Iterator[tuple[int, int]]:
    """The positions in (after, upto] in parts, the newest first: a few, then more and more."""
    size = 256
    while upto > after:
        start = max(after, upto - size)
        yield start, upto
        upto, size = start, min(2 * size, 32_768)


def save_projections(directory: Path, progress: Progress) -> int:
    """Fold the caches of a store anew and save them; the position that they are folded to."""
    # The log to read only: opening a store to write would put what it lacks, or make one.
    log = DirectoryLog.open(directory, read_only=True)
    try:
        projections = Projections(log)
        try:
            projections.rebuild(progress)
        finally:
            projections.close()
        return log.position
    finally:
        log.close()
