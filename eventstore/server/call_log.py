"""A line of the log for each call, or for each that an operator should know of."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from eventstore import errors
from eventstore.errors import OK
from eventstore.late_logger import late_logger
from eventstore.server.gate import STOPPING
from eventstore.server.incoming import Incoming
from eventstore.server.log_lines import FIELDS, cut
from eventstore.server.observing import HTTP, Ended, Observer
from eventstore.server.status_text import STATUS_NAMES

_LOGGER = late_logger("eventstore.calls")

_FAULTS: Final = frozenset({errors.DATA_LOSS, errors.INTERNAL, errors.UNKNOWN})
"""Statuses that say that something is wrong here."""

_OF_THE_CALLER: Final = frozenset(
    {
        *(errors.ALREADY_EXISTS, errors.CANCELLED, errors.FAILED_PRECONDITION),
        *(errors.INVALID_ARGUMENT, errors.NOT_FOUND, errors.OUT_OF_RANGE, errors.UNIMPLEMENTED),
    }
)
"""Statuses that are part of what programs ask, and mean nothing for who runs the server."""


class LoggedCalls(Enum):
    """Which calls have a line: all, those that could not be served, or none."""

    ALL = "all"
    FAILED = "failed"
    NONE = "none"


def call_log(logged: LoggedCalls) -> Observer:
    """Writes lines of calls; `LoggedCalls.NONE` is for nobody to call."""
    passed_over = frozenset[int]() if logged is LoggedCalls.ALL else _OF_THE_CALLER | {OK}

    def end(call: Ended) -> None:
        # Whoever stops a server knows that it refuses calls.
        is_wanted = call.code not in passed_over and call.message != STOPPING
        if is_wanted or logged is LoggedCalls.ALL:
            write = _LOGGER.error if call.code in _FAULTS else _LOGGER.info
            write("%s %s", call.rpc, STATUS_NAMES[call.code], extra={FIELDS: fields_of(call)})

    def begin(_: Incoming) -> Callable[[Ended], None]:
        return end

    return begin


def fields_of(call: Ended) -> dict[str, Any]:
    """What a line has of a call: no content, and no credential."""
    fields = {
        "method": call.rpc if call.service == HTTP else f"{call.service}/{call.rpc}",
        "status": STATUS_NAMES[call.code],
        "seconds": round(call.seconds, 6),
        "request_bytes": call.request_bytes,
        "answer_bytes": call.answer_bytes,
        "client": call.client or None,
        "store": call.store,
        "actor": call.actor and cut(call.actor),
        "request_id": call.request_id and cut(call.request_id),
        "error": cut(call.message) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
