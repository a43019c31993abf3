"""`eventstore info`."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import asdict

from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.entities import spoken
from eventstore.cli.results import Grid, Output
from eventstore.cli.stores import opened_store
from eventstore.log.places import Place


@command("info", examples=("eventstore info my-store", "eventstore info my-store --json"))
@store_argument
@output_options_without("full")
def info_command(place: Place, output: Output) -> None:
    """Show a store's position, what it holds, and the files that it consists of."""
    with opened_store(place) as store:
        found = store.info()
    if output.form == "json":
        output.json(found)
        return
    if output.form == "csv":
        output.csv(Grid(("name", "value"), _flat("", asdict(found))))
        return
    output.grids(
        Grid(
            ("", ""),
            [
                ("store id", found.store_id),
                ("position", found.position),
                ("commits", found.commits),
                ("newest record", found.recorded_at or "none"),
                ("log", _shown_bytes(found.log_bytes)),
                ("projections (a cache)", _shown_bytes(found.projections_bytes)),
            ],
            f"Store {place}",
        ),
        Grid(
            ("kind", "count"),
            [(spoken(kind), count) for kind, count in found.counts.items()],
            "Now in it",
        ),
        Grid(
            ("number", "state", "positions", "size", "file"),
            [
                (
                    segment.number,
                    segment.state,
                    f"{segment.first_position} to {segment.last_position}"
                    if segment.last_position >= segment.first_position
                    else "none yet",
                    _shown_bytes(segment.bytes),
                    segment.file,
                )
                for segment in found.segments
            ],
            "Segments",
        ),
    )


def _flat(start: str, value: object) -> Iterator[tuple[str, object]]:
    """Nested values as names with dots: `segments.1.file`."""
    if isinstance(value, dict):
        for name, held in value.items():
            yield from _flat(f"{start}.{name}".lstrip("."), held)
    elif isinstance(value, list):
        for number, held in enumerate(value, 1):
            yield from _flat(f"{start}.{number}", asdict(held))
    else:
        yield start, value


def _shown_bytes(count: int) -> str:
    """1536 as `1.5 KiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
