"""Open a store for a command: to change, or to read, which writes nothing but its caches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventstore.cli.help import nearest
from eventstore.cli.moments import Moment
from eventstore.errors import NotFoundError
from eventstore.log import Position, Progress
from eventstore.log.places import Place, is_server
from eventstore.log.stores import open_log
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.metadata_store.opening import open_place
from eventstore.projections import Projections
from eventstore.shown_text import shown_text
from eventstore.store.attribution import Attribution, checked_attribution


@contextmanager
def opened_store(place: Place) -> Iterator[MetadataStore]:
    """The store to read from; what is folded for it is saved, so that no later call does."""
    if is_server(place):
        opened = MetadataStore._at(place, Attribution())
    else:
        opened = MetadataStore._of(open_place(place, read_only=True, saves_caches=True))
    with opened as store:
        yield store


@contextmanager
def store_to_change(place: Place, actor: str | None) -> Iterator[MetadataStore]:
    """The store to put records into, which has to exist; they are put by an actor."""
    attribution = checked_attribution(actor, None, None)
    if is_server(place):
        opened = MetadataStore._at(place, attribution)
    else:
        engine = open_place(place, read_only=False, must_exist=True, attribution=attribution)
        opened = MetadataStore._of(engine)
    with opened as store:
        yield store


def require_type(store: MetadataStore | AsOfStore, kinds: tuple[str, ...], name: str) -> None:
    """Raise NotFoundError, with the nearest name, when no type of these kinds of nodes has it."""
    known = sorted(
        {node_type.name for kind in kinds for node_type in getattr(store, f"get_{kind}_types")()}
    )
    if name not in known:
        words = " or ".join(kinds)
        raise NotFoundError(f"no {words} type is named {shown_text(name)!r}{nearest(name, known)}")


def positions_between(
    store: MetadataStore, since: Moment | None, until: Moment | None
) -> tuple[Position, Position]:
    """After which and up to which position records were put between moments; without moments all.

    Raises InvalidArgumentError for moments beyond the log, in the wrong order, and for `until`
    before the first commit.
    """
    return store._range_of(
        None if since is None else since.before(),
        None if until is None else until.upto(),
        said=(None if since is None else since.text, None if until is None else until.text),
    )


def windows(after: int, upto: int) -> Iterator[tuple[int, int]]:
    """The positions in (after, upto] in parts, the newest first: a few, then more and more."""
    size = 256
    while upto > after:
        start = max(after, upto - size)
        yield start, upto
        upto, size = start, min(2 * size, 32_768)


def save_projections(place: Place, progress: Progress) -> int:
    """Fold the caches of a store anew and save them; the position that they are folded to."""
    # The log to read only: opening a store to write would put what it lacks, or make one.
    log = open_log(place, read_only=True)
    try:
        projections = Projections(log)
        try:
            projections.rebuild(progress)
        finally:
            projections.close()
        return log.position
    finally:
        log.close()
