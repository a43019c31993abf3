"""The error classes of the MLMD API: one per canonical status code of gRPC and Abseil."""

from __future__ import annotations

from typing import Final

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
ABORTED: Final = 10
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16


class StatusError(Exception):
    """Base of all errors of the API; `error_code` is the canonical code, str() the message."""

    def __init__(self, message: str, error_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (type(self), self.message, self.error_code)


class CancelledError(StatusError):
    """The call was cancelled."""

    def __init__(self, message: str) -> None:
        super().__init__(message, CANCELLED)


class UnknownError(StatusError):
    """An error of a kind that the API does not know."""

    def __init__(self, message: str, error_code: int = UNKNOWN) -> None:
        super().__init__(message, error_code)


class InvalidArgumentError(StatusError):
    """The request is wrong, whatever the state of the store."""

    def __init__(self, message: str) -> None:
        super().__init__(message, INVALID_ARGUMENT)


class DeadlineExceededError(StatusError):
    """The call took longer than its deadline."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DEADLINE_EXCEEDED)


class NotFoundError(StatusError):
    """What was asked for is not in the store."""

    def __init__(self, message: str) -> None:
        super().__init__(message, NOT_FOUND)


class AlreadyExistsError(StatusError):
    """What was to be created is in the store already."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ALREADY_EXISTS)


class PermissionDeniedError(StatusError):
    """The caller, or the process, may not do this."""

    def __init__(self, message: str) -> None:
        super().__init__(message, PERMISSION_DENIED)


class ResourceExhaustedError(StatusError):
    """A resource ran out: disk space, message size."""

    def __init__(self, message: str) -> None:
        super().__init__(message, RESOURCE_EXHAUSTED)


class FailedPreconditionError(StatusError):
    """The store is not in the state that the call needs."""

    def __init__(self, message: str) -> None:
        super().__init__(message, FAILED_PRECONDITION)


class AbortedError(StatusError):
    """A concurrent writer was faster; calling again may succeed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ABORTED)


class OutOfRangeError(StatusError):
    """An index lies outside of what it points into."""

    def __init__(self, message: str) -> None:
        super().__init__(message, OUT_OF_RANGE)


class UnimplementedError(StatusError):
    """The store does not offer this."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNIMPLEMENTED)


class InternalError(StatusError):
    """The store failed in a way that the caller cannot mend."""

    def __init__(self, message: str) -> None:
        super().__init__(message, INTERNAL)


class UnavailableError(StatusError):
    """The store cannot be reached now, or the outcome of the call is not known."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNAVAILABLE)


class OutcomeUnknownError(UnavailableError):
    """It is not known whether the store has done what was asked: look before asking again."""


class DataLossError(StatusError):
    """Stored data is damaged or missing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DATA_LOSS)


class UnauthenticatedError(StatusError):
    """The caller did not say, or could not prove, who it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNAUTHENTICATED)


_CLASSES: Final[dict[int, type[StatusError]]] = {
    CANCELLED: CancelledError,
    UNKNOWN: UnknownError,
    INVALID_ARGUMENT: InvalidArgumentError,
    DEADLINE_EXCEEDED: DeadlineExceededError,
    NOT_FOUND: NotFoundError,
    ALREADY_EXISTS: AlreadyExistsError,
    PERMISSION_DENIED: PermissionDeniedError,
    RESOURCE_EXHAUSTED: ResourceExhaustedError,
    FAILED_PRECONDITION: FailedPreconditionError,
    ABORTED: AbortedError,
    OUT_OF_RANGE: OutOfRangeError,
    UNIMPLEMENTED: UnimplementedError,
    INTERNAL: InternalError,
    UNAVAILABLE: UnavailableError,
    DATA_LOSS: DataLossError,
    UNAUTHENTICATED: UnauthenticatedError,
}


def exception_type_from_error_code(error_code: int) -> type[StatusError]:
    """The class of a canonical code. Raises KeyError for OK and for unknown codes."""
    return _CLASSES[error_code]


def make_exception(message: str, error_code: int) -> StatusError:
    """The error of a canonical code; UnknownError for a code without a class."""
    if error_code == INTERNAL:
        import logging

        logging.getLogger(__name__).warning("internal error: %s", message)
    return _CLASSES.get(error_code, UnknownError)(message)  # type: ignore[call-arg]


def restated(error: StatusError, message: str) -> StatusError:
    """An error of the same class and code that says something else."""
    return _unpickled(type(error), message, error.error_code)


def _unpickled(error_class: type[StatusError], message: str, error_code: int) -> StatusError:
    error = error_class.__new__(error_class)
    StatusError.__init__(error, message, error_code)
    return error
