"""`eventstore rebuild`."""

from __future__ import annotations

from eventstore.answers import RebuildAnswer
from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output
from eventstore.cli.stores import save_projections
from eventstore.log.places import Place
from eventstore.wording import counted


@command("rebuild", examples=("eventstore rebuild my-store",))
@store_argument
@output_options_without("full", "local")
def rebuild_command(place: Place, output: Output) -> None:
    """Fold the projections of a store anew from its log.

    Nothing of the store is changed but these caches. They are folded again by themselves when they
    are missing or stale; this is for a disk that has damaged them.
    """
    with progress_bar("Rebuilding") as progress:
        position = save_projections(place, progress)
    output.said(
        f"Folded the {counted(position, 'record')} of {place} anew",
        RebuildAnswer(str(place), position),
    )
