"""Times as they are stored, since the epoch, told apart by the type checker: it costs nothing."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Final, NewType

Microseconds = NewType("Microseconds", int)
"""Of records and of what is signed."""

Milliseconds = NewType("Milliseconds", int)
"""Of MLMD's messages, and of moments that are whole numbers."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


def now_in_microseconds() -> Microseconds:
    """The clock of records."""
    return Microseconds(time.time_ns() // 1_000)


def now_in_milliseconds() -> Milliseconds:
    """The clock of nodes and events."""
    return Milliseconds(time.time_ns() // 1_000_000)


def microseconds_of(moment: datetime) -> Microseconds:
    """An aware datetime as it is stored of a record."""
    return Microseconds((moment - _EPOCH) // timedelta(microseconds=1))


def moment_of(recorded_at: Microseconds) -> datetime:
    """An aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=recorded_at)
