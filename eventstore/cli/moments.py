"""A moment on the command line: a position, a time, a day, or words such as `yesterday`."""

from __future__ import annotations

import os
import re

import click

from eventstore.cli.help import nearest
from eventstore.cli.results import Output, note
from eventstore.errors import InvalidArgumentError
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.moment_texts import EXAMPLES, MomentText, parsed_moment

__all__ = ["EXAMPLES", "Moment", "given_moment", "refuse_unknown_zone", "said_back", "store_as_of"]

Moment = MomentText

_POSIX_NAME = r"([A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_POSIX_OFFSET = r"[+-]?\d{1,2}(:\d{1,2}){0,2}"
_POSIX_ZONE = re.compile(
    rf"{_POSIX_NAME}{_POSIX_OFFSET}({_POSIX_NAME}({_POSIX_OFFSET})?(,[^,]+,[^,]+)?)?"
)
"""A zone that tells its rules itself: `CET-1CEST,M3.5.0,M10.5.0/3`."""


def given_moment(text: str, *, local: bool) -> Moment:
    """As `parsed_moment`; raises click.BadParameter for what is no moment."""
    try:
        return parsed_moment(text, local=local)
    except InvalidArgumentError as error:
        raise click.BadParameter(error.message) from None


def refuse_unknown_zone() -> None:
    """Raise click.UsageError when TZ names no zone: the system would take it for UTC, silently."""
    text = os.environ.get("TZ", "")
    name = text.removeprefix(":")
    if not name or _POSIX_ZONE.fullmatch(name):
        return
    import zoneinfo

    folders = [os.environ["TZDIR"]] if os.environ.get("TZDIR") else zoneinfo.TZPATH
    if any(os.path.isfile(os.path.join(folder, name)) for folder in folders):
        return
    near = nearest(name, sorted(zoneinfo.available_timezones()))
    raise click.UsageError(f"TZ={text} names no time zone that is known here{near}")


def store_as_of(
    store: MetadataStore, moment: Moment | None, output: Output
) -> MetadataStore | AsOfStore:
    """The store itself, or as of a moment, which is then said back."""
    if moment is None:
        return store
    then = store.as_of(moment.upto())
    said_back(store, moment, then.log_position(), output)
    return then


def said_back(store: MetadataStore, moment: Moment, position: int, output: Output) -> None:
    """Say what a moment was taken for, unless it is a position that ends a commit."""
    if moment.number == position:
        return
    recorded_at = output.moment(store._recorded_at(position))
    note(f"As of {_meaning(moment, output)}: position {position}, recorded at {recorded_at}")


def _meaning(moment: Moment, output: Output) -> str:
    """What is said back: the text, and what it was taken for."""
    if moment.number is not None or moment.end is None:
        return moment.text
    shown = output.moment(moment.end)
    if moment.start != moment.end:
        return f"{moment.text} (that day to its end, {shown})"
    return moment.text if shown == moment.text else f"{moment.text} ({shown})"
