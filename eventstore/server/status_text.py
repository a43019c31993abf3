"""The message of a status, as the wire has it."""

from __future__ import annotations

from typing import Final

STATUS_NAMES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
"""By code."""

BYTES_MAX: Final = 4096
"""How long a message may be on the wire: clients refuse answers whose headers are much longer."""

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}
"""The bytes that the wire has as they are; it has three for each other."""


def shortened(message: str) -> str:
    """A message that fits into a status: its beginning, if it is too long."""
    content = message.encode("utf-8", "replace")
    length = 0
    for at, byte in enumerate(content):
        length += 1 if byte in _PLAIN else 3
        if length > BYTES_MAX:
            return content[:at].decode("utf-8", "ignore") + "..."
    return content.decode("utf-8")


def in_percents(message: str) -> str:
    """A message as it is on the wire, where it can be nothing but visible ASCII."""
    content = message.encode("utf-8", "replace")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in content)
