"""Turns the errors of pyiceberg, and of what keeps a catalog, into the API's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventstore import errors
from eventstore.log.os_errors import translated


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """Raise the API's errors in place of those of pyiceberg, SQLAlchemy and the system."""
    from pyiceberg import exceptions
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (exceptions.UnauthorizedError, exceptions.AuthorizationExpiredError) as error:
        raise errors.UnauthenticatedError(f"{doing}: {error}") from None
    except exceptions.ForbiddenError as error:
        raise errors.PermissionDeniedError(f"{doing}: {error}") from None
    except (exceptions.RESTError, SQLAlchemyError) as error:
        # SQLAlchemy appends the statement and a link.
        first = str(error).partition("\n")[0]
        raise errors.UnavailableError(f"{doing}: the catalog answers: {first}") from None
    except exceptions.NoSuchTableError as error:
        raise errors.NotFoundError(f"{doing}: {error}") from None
    except RequestException as error:
        raise errors.UnavailableError(f"{doing}: it is not reached: {error}") from None
    except OSError as error:
        raise translated(error, f"{doing}: using", Path(error.filename or "its files")) from None
