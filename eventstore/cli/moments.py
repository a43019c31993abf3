"""A moment on the command line: a position, a time, or milliseconds since the epoch."""

from __future__ import annotations

from datetime import datetime

import click

from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore


def parsed_moment(text: str) -> int | datetime:
    """What `as_of` takes. Raises click.BadParameter for anything else."""
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a position nor a time such as 2026-11-20T08:00+00:00"
        ) from None
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone: write {text}+00:00 for UTC")
    return moment


as_of_option = click.option(
    "--as-of",
    "as_of",
    metavar="MOMENT",
    help="Answer as of a position or a time (ISO 8601, zoned) instead of now.",
)


def store_as_of(store: MetadataStore, text: str | None) -> MetadataStore | AsOfStore:
    """The store itself, or as of the moment that was given."""
    return store if text is None else store.as_of(parsed_moment(text))
