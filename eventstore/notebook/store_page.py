"""A store, and the result of a query, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from eventstore.notebook.html import ROWS_MAX, block, bold, fields, heading, soft, table


def store_html(
    *,
    name: str,
    store_id: str,
    position: int,
    recorded_at: datetime | None,
    is_past: bool,
    counts: Mapping[str, int],
) -> str:
    """Where a store is, what it holds, and as of when."""
    as_of: list[Any] = [f"position {position:,}", *([recorded_at] if recorded_at else [])]
    title = heading(soft("store"), bold(name), *([soft("as of"), *as_of] if is_past else []))
    held = [(kind.replace("_", " ") + "s", f"{count:,}") for kind, count in counts.items() if count]
    rows: list[tuple[str, Any]] = [("id", store_id)]
    if not is_past:
        rows += [("position", f"{position:,}"), ("most recent commit", recorded_at)]
    return block(title, fields([*rows, *held]))


def sql_html(columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int) -> str:
    """The first rows of a query's result, and how many there are."""
    return block(table(columns, rows[:ROWS_MAX], total))
