"""`eventstore files`."""

from __future__ import annotations

from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.results import Grid, Output
from eventstore.log.places import Place
from eventstore.log.stores import sealed_files_of
from eventstore.shown_text import shown_text


@command("files", examples=("eventstore files my-store", "eventstore files my-store --json"))
@store_argument
@output_options_without("full", "local")
def files_command(place: Place, output: Output) -> None:
    """Print the Parquet files that a store consists of, one path per line, the oldest first.

    For other tools to read: a pattern such as log/*.parquet would also find what does not belong to
    the store. What was not sealed yet is in none of them.
    """
    sealed = sealed_files_of(place)
    paths = [str(file.path) for file in sealed]
    if output.form == "text":
        with output.opened() as written:
            for path in paths:
                # Programs read the path itself; a terminal would obey what is in it.
                written.line(shown_text(path) if written.is_terminal else path)
        return
    grid = Grid(
        ("path", "bytes", "sha256", "first_position", "last_position"),
        [
            (path, s.file_bytes, s.file_sha256, s.first_position, s.last_position)
            for path, s in zip(paths, sealed, strict=True)
        ],
    )
    output.grid(grid)
