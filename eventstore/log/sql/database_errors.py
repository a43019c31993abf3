"""What the errors of database servers and their drivers mean here."""

from __future__ import annotations

from typing import Any, Final

from eventstore import errors

_PASSING_STATES: Final = ("08", "40", "53300", "55P03", "57P")
"""How the SQLSTATE of PostgreSQL begins where the same may succeed later."""

_PASSING_NUMBERS: Final = frozenset(
    # Cannot connect, gone, lost, too many connections, shutting down, killed, locks.
    (
        *(0, 2002, 2003, 2006, 2013, 2014, 2055),
        *(1040, 1053, 1077, 1152, 1158, 1159, 1160, 1161),
        *(1205, 1213, 1927, 4031),
    ),
)
"""The same of MariaDB and MySQL."""

_WRONG_PASSWORD: Final = ("password authentication failed", "no password supplied")
_NO_DATABASE: Final = ('database "', " does not exist")
_NOBODY_THERE: Final = (
    *("Connection refused", "No such file or directory", "failed to resolve host"),
    *("could not translate host name", "name resolution", "Name or service not known"),
    *("nodename nor servname", "No address associated with hostname"),
)
_UNUSABLE: Final = (
    *("invalid sslmode value", "invalid integer value", "invalid channel_binding value"),
    *("invalid gssencmode value", "invalid target_session_attrs value", "invalid sslnegotiation"),
    *("invalid require_auth", "invalid ssl_min_protocol_version", 'weak sslmode "'),
    "bad value for connect_timeout",
)
"""What libpq says of options before it connects."""

_REFUSED_BY_POSTGRESQL: Final = (
    *("no pg_hba.conf entry", "is not permitted to log in", "certificate", "SSL", "root.crt"),
    *("permission denied for database", "authentication failed"),
)


def is_passing(error: Exception) -> bool:
    """Whether the connection was lost or cannot be made now, or others are in the way.

    The error is a driver's, as are those below.
    """
    number, state, text = _told(error)
    if number is not None:
        return number in _PASSING_NUMBERS and "SSL" not in text and "certificate" not in text
    if state is not None:
        return state.startswith(_PASSING_STATES)
    # Of a connection that could not be made there is nothing but a text.
    is_told = type(error).__name__ in ("OperationalError", "InterfaceError")
    known = (*_WRONG_PASSWORD, *_REFUSED_BY_POSTGRESQL, *_UNUSABLE)
    return is_told and not (_names_no_database(text) or any(words in text for words in known))


def is_nobody_there(error: Exception) -> bool:
    """Whether there is no such host, or nothing takes connections at its port or socket."""
    return any(words in str(error) for words in _NOBODY_THERE)


def is_missing_database(error: Exception) -> bool:
    """Whether the server has no database of that name."""
    number, state, text = _told(error)
    return number == 1049 or state == "3D000" or (number is None and _names_no_database(text))


def is_taken(error: Exception) -> bool:
    """Whether the server has a database of that name already."""
    number, state, _ = _told(error)
    return number == 1007 or state in ("42P04", "23505")


def is_locked(error: Exception) -> bool:
    """Whether others kept a lock for longer than the server waits."""
    number, state, _ = _told(error)
    return number == 1205 or state == "55P03"


def translated(error: Exception, doing: str, name: str) -> errors.StatusError:
    """The error to raise for one that was met while `doing` something (a verb in -ing)."""
    number, state, text = _told(error)
    what = f"{doing} {name} failed: {text}"
    if number == 1045 or state in ("28P01", "28000") or any(w in text for w in _WRONG_PASSWORD):
        return errors.UnauthenticatedError(f"{what}; check the user and the password")
    if number is None and any(words in text for words in _UNUSABLE):
        return errors.InvalidArgumentError(f"{what}; mend that option")
    if is_missing_database(error):
        return errors.NotFoundError(f"{what}; check its name, or have it made")
    if number in (1044, 1142, 1143, 1227, 1370) or state == "42501":
        return errors.PermissionDeniedError(f"{what}; have the server's administrator grant it")
    if number in (1290, 1792, 1836) or state == "25006":
        return errors.FailedPreconditionError(f"{what}; connect to the server that takes writes")
    if number in (1021, 1041, 1114, 1153) or state in ("53100", "53200", "54000"):
        return errors.ResourceExhaustedError(what)
    if is_passing(error):
        return errors.UnavailableError(what)
    if any(words in text for words in _REFUSED_BY_POSTGRESQL) or "SSL" in text:
        return errors.PermissionDeniedError(f"{what}; check the options of TLS and the server's")
    return errors.InternalError(what)


def _names_no_database(text: str) -> bool:
    start, end = _NO_DATABASE
    return start in text and text.endswith(end)


def _told(error: Exception) -> tuple[int | None, str | None, str]:
    """The error's number (MySQL), its SQLSTATE (PostgreSQL), and the server's words in one line.

    Never the statement or its parameters, which SQLAlchemy adds to its own errors.
    """
    met: Any = error
    text = str(met).strip()
    state = getattr(met, "sqlstate", None)
    number = None
    if type(met).__module__.startswith("pymysql"):
        state = None
        number = met.args[0] if met.args and isinstance(met.args[0], int) else 0
        text = str(met.args[1]) if len(met.args) > 1 else text
    text = text.rpartition("FATAL:")[2].strip() or text
    return number, state, text.partition("\n")[0]
