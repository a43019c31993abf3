"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventstore.log import Progress as ProgressCallback
from eventstore.shown_text import shown_text


@contextmanager
def progress_bar(doing: str) -> Iterator[ProgressCallback]:
    """A bar while something long runs, on a terminal alone; it is gone when that is done."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _, __: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(shown_text(doing), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
