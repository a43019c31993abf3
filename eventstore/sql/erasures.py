"""The rows of the view of erasures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import pyarrow as pa

from eventstore.log import Log
from eventstore.projections.point_index import PointIndex
from eventstore.proto import retention_pb2 as retention
from eventstore.store.erasures import StoredErasure, actor_at, erasures_as_of

_TIME: Final = pa.timestamp("us", "UTC")
ERASURES_SCHEMA: Final = pa.schema(
    [
        ("number", pa.int64()),
        ("stage", pa.string()),
        ("position", pa.int64()),
        ("recorded_at", _TIME),
        ("actor", pa.string()),
        ("proposed_by", pa.string()),
        ("proposed_at", _TIME),
        ("approved_by", pa.string()),
        ("basis", pa.string()),
        ("ticket", pa.string()),
        ("contents", pa.int64()),
        ("whos", pa.int64()),
        ("completed_position", pa.int64()),
        ("completed_at", _TIME),
    ]
)


def erasure_rows(log: Log, index: PointIndex, as_of: int) -> pa.Table:
    """A row for each erasure that was known at a position."""
    rows = [
        erasure_row(erasure, partial(actor_at, log), log.recorded_at)
        for erasure in erasures_as_of(index, as_of)
    ]
    return pa.Table.from_pylist(rows, ERASURES_SCHEMA)


def erasure_row(
    stored: StoredErasure,
    actor_at: Callable[[int], str | None],
    recorded_at: Callable[[int], object],
) -> dict[str, object]:
    """A row for one, from who put its records and when."""
    message, asked = stored.message, stored.requested_at or stored.position
    is_completed = message.stage == retention.Erasure.COMPLETED
    actor = actor_at(asked)
    proposed = stored.proposed_at
    return {
        "number": stored.number,
        "stage": retention.Erasure.Stage.Name(message.stage).lower(),
        "position": asked,
        "recorded_at": recorded_at(asked),
        "actor": actor,
        "proposed_by": None if proposed is None else actor_at(proposed),
        "proposed_at": None if proposed is None else recorded_at(proposed),
        "approved_by": None if None in (proposed, stored.requested_at) else actor,
        "basis": message.basis,
        "ticket": message.ticket,
        "contents": len(stored.erased.content),
        "whos": len(stored.erased.who),
        "completed_position": stored.position if is_completed else None,
        "completed_at": recorded_at(stored.position) if is_completed else None,
    }
