"""What is said beside a request, in gRPC's call metadata: the names, and how texts are written.

A text of printable ASCII is written as it is, and nothing in it is decoded. Any other has its
UTF-8 under the name with `-bin` at its end, as gRPC has it for bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from eventstore.errors import InvalidArgumentError

STORE: Final = "eventstore-store"
AS_OF: Final = "eventstore-as-of"
ACTOR: Final = "eventstore-actor"
REASON: Final = "eventstore-reason"
REQUEST_ID: Final = "eventstore-request-id"
MIN_POSITION: Final = "eventstore-min-position"

_NAMES: Final = frozenset({STORE, AS_OF, ACTOR, REASON, REQUEST_ID, MIN_POSITION})

APPLIES_ONCE: Final = ("eventstore-applies-once", "1")
"""What a server answers that applies a put once, however often it comes under one request id."""

POSITION: Final = "eventstore-position"
"""What a put is answered beside the response: a position from which on it is seen."""

BYTES_MAX: Final = 320 * 1024
"""How much of it a server takes: three texts of 64 KiB in base64, and some more."""

_BINARY: Final = "-bin"
_PREFIX: Final = "eventstore-"


def written(name: str, text: str) -> tuple[str, str | bytes]:
    """A text as it is sent under a name."""
    # Spaces at the ends are lost on the way.
    if text.isascii() and text.isprintable() and text.strip() == text:
        return name, text
    return name + _BINARY, text.encode()


def texts_of(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """The texts that are named `eventstore-…`, by name.

    Raises InvalidArgumentError for one that comes twice, for bytes that are not UTF-8, and for a
    name that is not known: with a slip of the pen in it a call would not do what it is to do.
    """
    found = dict[str, str]()
    for name, text in _ours(metadata):
        if name not in _NAMES:
            raise InvalidArgumentError(
                f"{name} says nothing to this server: it knows {', '.join(sorted(_NAMES))}"
            )
        if name in found:
            raise InvalidArgumentError(f"{name} comes twice in the call's metadata: send it once")
        found[name] = text
    return found


def _ours(metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[tuple[str, str]]:
    for name, value in metadata:
        if not name.startswith(_PREFIX):
            continue
        if isinstance(value, str):
            yield name, value
            continue
        try:
            yield name.removesuffix(_BINARY), value.decode()
        except UnicodeDecodeError:
            raise InvalidArgumentError(f"{name} is not UTF-8: write a text so") from None
