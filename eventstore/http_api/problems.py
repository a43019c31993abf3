"""Errors over HTTP: `application/problem+json` (RFC 9457), with MLMD's code."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

from eventstore import errors
from eventstore.errors import InvalidArgumentError, NotFoundError, StatusError
from eventstore.server.web_exchange import TooLongError

MEDIA_TYPE: Final = "application/problem+json"

_STATUSES: Final = {
    errors.CANCELLED: 499,
    errors.UNKNOWN: 500,
    errors.INVALID_ARGUMENT: 400,
    errors.DEADLINE_EXCEEDED: 504,
    errors.NOT_FOUND: 404,
    errors.ALREADY_EXISTS: 409,
    errors.PERMISSION_DENIED: 403,
    errors.RESOURCE_EXHAUSTED: 429,
    errors.FAILED_PRECONDITION: 409,
    errors.ABORTED: 409,
    errors.OUT_OF_RANGE: 400,
    errors.UNIMPLEMENTED: 501,
    errors.INTERNAL: 500,
    errors.UNAVAILABLE: 503,
    errors.DATA_LOSS: 500,
    errors.UNAUTHENTICATED: 401,
}
_CODE_NAMES: Final = {
    code: name
    for name, code in vars(errors).items()
    if name.isupper() and not name.startswith("_") and isinstance(code, int)
}
_TITLES: Final = {421: "Misdirected Request", 499: "Client Closed Request"}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong. `code` is the name of MLMD's code, `detail` says what to do.

    `position` is where in a filter or a query an error is: its first character, counted from 0.
    `came_at` is the position with which something came that is not there yet.
    """

    title: str
    status: int
    code: str
    detail: str
    position: int | None = None
    came_at: int | None = None


class PlacedError(InvalidArgumentError):
    """A filter or a query is wrong at a place: the character from which on, counted from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class NotYetError(NotFoundError):
    """Something is not there as of the moment, and came with a later position."""

    def __init__(self, message: str, came_at: int) -> None:
        super().__init__(message)
        self.came_at = came_at


def problem_of(error: StatusError, status: int | None = None) -> Problem:
    """What is told of an error, with the status of its code or another."""
    if status is None:
        is_too_long = isinstance(error, TooLongError)
        status = 413 if is_too_long else _STATUSES.get(error.error_code, 500)
    return Problem(
        title_of(status),
        status,
        _CODE_NAMES.get(error.error_code, "UNKNOWN"),
        error.message,
        error.position if isinstance(error, PlacedError) else None,
        error.came_at if isinstance(error, NotYetError) else None,
    )


def title_of(status: int) -> str:
    """The usual words for a status."""
    return _TITLES.get(status) or HTTPStatus(status).phrase
