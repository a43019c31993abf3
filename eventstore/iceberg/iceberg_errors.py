"""Turns the errors of pyiceberg, and of what keeps a catalog, into the API's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventstore import errors
from eventstore.log.os_errors import translated
from eventstore.wording import excerpt


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """Raise the API's errors in place of those of pyiceberg, SQLAlchemy and the system."""
    from pydantic import ValidationError
    from pyiceberg import exceptions
    from requests import JSONDecodeError, RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (exceptions.UnauthorizedError, exceptions.AuthorizationExpiredError) as error:
        raise errors.UnauthenticatedError(f"{doing}: {first_line(error)}") from None
    except exceptions.ForbiddenError as error:
        raise errors.PermissionDeniedError(f"{doing}: {first_line(error)}") from None
    except (exceptions.RESTError, SQLAlchemyError) as error:
        raise errors.UnavailableError(
            f"{doing}: the catalog answers: {first_line(error)}"
        ) from None
    except (ValidationError, JSONDecodeError) as error:
        raise errors.UnavailableError(
            f"{doing}: what answers is no REST catalog of Iceberg's, or a damaged one "
            f"({first_line(error)}); check its URL"
        ) from None
    except exceptions.NoSuchTableError as error:
        raise errors.NotFoundError(f"{doing}: {first_line(error)}") from None
    except RequestException as error:
        raise errors.UnavailableError(f"{doing}: it is not reached: {first_line(error)}") from None
    except OSError as error:
        raise translated(error, f"{doing}: using", Path(_file_in(error))) from None


@contextmanager
def reading(what: str, table: str) -> Iterator[None]:
    """Raise DataLossError where a file of a table's metadata is missing or damaged.

    pyiceberg has no error of its own for that: whatever its parsers raise comes through, from
    EOFError to SystemError.
    """
    from pydantic import ValidationError as UnknownAnswerError
    from pyiceberg import exceptions
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    advice = (
        f"restore it, or drop the table {table} without purging it and publish again, which names "
        "the store's files anew"
    )
    try:
        yield
    except FileNotFoundError as error:
        raise errors.DataLossError(f"{what} is missing ({_file_in(error)}): {advice}") from None
    except (OSError, RequestException, SQLAlchemyError, UnknownAnswerError):
        raise
    except Exception as error:
        is_told = type(error).__module__ == exceptions.__name__
        if is_told and not isinstance(error, exceptions.ValidationError):
            raise
        raise errors.DataLossError(
            f"{what} is damaged ({type(error).__name__}: {first_line(error)}): {advice}"
        ) from None


def first_line(error: Exception) -> str:
    """What an error says, without the statements, links and answers that others append."""
    return excerpt(str(error).strip().partition("\n")[0], 500)


def _file_in(error: OSError) -> str:
    """The file that an error is about: Arrow says it in its message alone."""
    found = re.search("'([^']+)'", str(error))
    return str(error.filename or (found and found[1]) or "its files")
