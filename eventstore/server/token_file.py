"""Tokens, and the file that has their hashes: a line for each.

    sha256:<hash> STORE=ROLE[,STORE=ROLE...] [until=TIME] ACTOR

A token has 256 random bits. Nobody finds these by trying, so that one round of SHA-256 is enough.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct

from eventstore.errors import InvalidArgumentError, UnauthenticatedError
from eventstore.log.os_errors import translating
from eventstore.server.principal import Principal, grants_of, parsed_grant
from eventstore.store.attribution import checked_attribution

_PREFIX: Final = "evs_"
_RANDOM_BYTES: Final = 32
_UNTIL: Final = "until="
_HASH: Final = "sha256:"


class TokenEntry(Struct, frozen=True):
    """Whose a token is; `until` when, if not for ever."""

    hash: str
    principal: Principal
    until: datetime | None = None


Tokens: TypeAlias = Mapping[str, TokenEntry]
"""Entries by hash."""


def new_token() -> str:
    """A token that nobody has yet."""
    import secrets

    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def is_token(text: str) -> bool:
    """Whether it has the form of a token, and is nothing else's credential."""
    return text.startswith(_PREFIX)


def principal_by_token(tokens: Tokens, token: str) -> Principal:
    """Whose a token is. Raises UnauthenticatedError for one that is not known, or not any more."""
    hashed = _hashed(token)
    entry = tokens.get(hashed)
    # Looking it up may take longer for one hash than for another, but nobody can aim at a hash.
    if entry is None or not hmac.compare_digest(entry.hash, hashed):
        raise UnauthenticatedError("this token is not known here, or not any more")
    if entry.until is not None and datetime.now(timezone.utc) >= entry.until:
        raise UnauthenticatedError(f"this token was good until {entry.until.isoformat()}")
    return entry.principal


def line_of(token: str, actor: str, grants: Iterable[str], until: datetime | None) -> str:
    """The line of a token. Raises InvalidArgumentError for a grant or an actor that cannot be."""
    given = [*grants]
    moment = [] if until is None else [_UNTIL + until.isoformat(timespec="seconds")]
    line = " ".join([_HASH + _hashed(token), ",".join(given), *moment, actor])
    if _parsed_line(line).principal.actor != actor:
        raise InvalidArgumentError(
            f"the actor {actor!r} has spaces at an end, breaks of lines, or begins with {_UNTIL}"
        )
    return line


def read_tokens(file: Path) -> Tokens:
    """What a file has. Raises InvalidArgumentError that names the line, and no hash."""
    with translating("reading", file):
        content = file.read_bytes()
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{file} is not UTF-8") from None
    found = dict[str, TokenEntry]()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            entry = _parsed_line(line)
            if entry.hash in found:
                raise InvalidArgumentError("the token has a line already")
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{file}, line {number}: {error.message}") from None
        found[entry.hash] = entry
    return found


def _parsed_time(text: str) -> datetime:
    """A time; without a zone UTC's. Raises InvalidArgumentError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(f"{text!r} is no time: write it as 2027-01-31T18:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def _parsed_line(line: str) -> TokenEntry:
    hashed, _, rest = line.strip().partition(" ")
    grants, _, actor = rest.strip().partition(" ")
    digest = hashed.removeprefix(_HASH)
    if hashed == digest or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise InvalidArgumentError(
            "it does not begin with sha256: and 64 hexadecimal digits: use `eventstore token`"
        )
    until = None
    if actor.startswith(_UNTIL):
        text, _, actor = actor.partition(" ")
        until = _parsed_time(text.removeprefix(_UNTIL))
    actor = actor.strip()
    if not actor or len(actor.splitlines()) > 1:
        raise InvalidArgumentError("its end does not say who the actor is")
    checked_attribution(actor, None, None)
    granted = grants_of(map(parsed_grant, grants.split(",")))
    return TokenEntry(digest, Principal(actor, granted), until)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
