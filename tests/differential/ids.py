"""Which ids a program's puts give out, and what becomes of them when some puts are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

SEQUENCES = ("type", "artifact", "execution", "context")
_SYSTEM_TYPES = 9
_NO_SUCH_ID = 1_000_000_000

Ids = Mapping[str, frozenset[int]]
"""Ids by the sequence that they come from."""


class GivenOut:
    """Tells new ids in the responses of puts from those that were there before."""

    def __init__(self) -> None:
        self._highest = dict.fromkeys(SEQUENCES, 0) | {"type": _SYSTEM_TYPES}

    def by(self, rpc: str, response: Any) -> Ids:
        """The ids that a response is the first to name."""
        found: dict[str, frozenset[int]] = {}
        if not rpc.startswith("Put") or not isinstance(response, Message):
            return found
        for field, value in response.ListFields():
            sequence = _sequence(response, field.name)
            if sequence is None:
                continue
            ids = [value] if isinstance(value, int) else list(value)
            new = frozenset(id_ for id_ in ids if id_ > self._highest[sequence])
            if new:
                found[sequence] = found.get(sequence, frozenset()) | new
                self._highest[sequence] = max(new)
        return found


def without(request: Any, missing: Ids) -> Any:
    """The request as it reads when those ids are never given out: greater ones close the gap."""
    renumbered = type(request)()
    renumbered.CopyFrom(request)
    _renumber(renumbered, missing)
    return renumbered


def _renumber(message: Any, missing: Ids) -> None:
    for field, value in list(message.ListFields()):
        sequence = _sequence(message, field.name)
        gone = missing.get(sequence, frozenset()) if sequence else frozenset()
        if isinstance(value, Message):
            _renumber(value, missing)
        elif isinstance(value, (str, bytes, float)) or hasattr(value, "keys"):
            continue
        elif isinstance(value, int):
            if gone:
                setattr(message, field.name, _moved(value, gone))
        elif value and isinstance(value[0], Message):
            for member in value:
                _renumber(member, missing)
        elif gone:
            value[:] = [_moved(id_, gone) for id_ in value]


def _moved(id_: int, gone: frozenset[int]) -> int:
    if id_ in gone:
        return _NO_SUCH_ID
    return id_ - sum(other < id_ for other in gone)


def _sequence(message: Any, field: str) -> str | None:
    """The sequence that the ids in a field come from, None for a field without ids."""
    if field == "id":
        name: str = message.DESCRIPTOR.name
        return "type" if name.endswith("Type") else name.lower()
    if field in ("child_id", "parent_id"):
        return "context"
    if "type" in field and field.endswith(("_id", "_ids")):
        return "type"
    for sequence in SEQUENCES:
        if field in (f"{sequence}_id", f"{sequence}_ids"):
            return sequence
    return None
