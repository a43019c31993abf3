"""What commands share in how they show things: progress bars, tables, sizes and moments."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from eventstore.log import Progress as ProgressCallback

_WIDTH_OF_FILES = 120


@contextmanager
def progress_bar(doing: str) -> Iterator[ProgressCallback]:
    """A bar on standard error while something long runs; it is gone when that is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def standard_output() -> Console:
    """The terminal, or a pipe or file with room for whole lines."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH_OF_FILES)


def print_table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], *, console: Console
) -> None:
    """A table with a title and a header line; values are shown as text."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)


def shown_bytes(count: int) -> str:
    """1536 as `1.5 KiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def shown_moment(microseconds: int) -> str:
    """Microseconds since the epoch as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, timezone.utc)
    return moment.replace(microsecond=microseconds % 1_000_000).isoformat(timespec="microseconds")
