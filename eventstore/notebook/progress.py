"""A progress bar in a notebook's output, by IPython's own means."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import Any

from eventstore.wording import plural

# Work that takes less time shows no bar.
PATIENCE_SECONDS = 0.4
BETWEEN_UPDATES_SECONDS = 0.1


@contextmanager
def notebook_bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A bar while something long runs; in the end one line stays, which says how long it took."""
    # IPython is no dependency: it is there, since it asked for this.
    display = import_module("IPython.display").display
    started = updated = time.monotonic()
    handle: Any = None
    counted = 0

    def show(done: int, total: int) -> None:
        nonlocal handle, updated, counted
        counted = done
        now = time.monotonic()
        if now - started < PATIENCE_SECONDS or now - updated < BETWEEN_UPDATES_SECONDS:
            return
        updated = now
        if handle is None:
            handle = display(_bar(doing, done, total), raw=True, display_id=True)
        else:
            handle.update(_bar(doing, done, total), raw=True)

    try:
        yield show
    finally:
        if handle is not None:
            took = f"{time.monotonic() - started:.1f} s"
            said = f"{doing}: {counted:,} {plural(counted, 'record')}, {took}"
            handle.update(
                _bundle(said, f'<span style="opacity:.75">{escape(said)}</span>'), raw=True
            )


def _bar(doing: str, done: int, total: int) -> dict[str, str]:
    said = f"{doing}: {done:,} of {total:,}"
    percent = 100 * done / total if total else 100.0
    bar = (
        f'<div role="progressbar" aria-label="{escape(doing)}" aria-valuemin="0" '
        f'aria-valuemax="{total}" aria-valuenow="{done}" style="display:inline-block;width:16em;'
        'height:.7em;border:1px solid rgba(128,128,128,.6);border-radius:.35em;overflow:hidden">'
        f'<div style="width:{percent:.1f}%;height:100%;background:#2b7bc0"></div></div>'
    )
    return _bundle(said, f"{bar} {escape(said)}")


def _bundle(text: str, html: str) -> dict[str, str]:
    return {"text/plain": text, "text/html": f"<div>{html}</div>"}
