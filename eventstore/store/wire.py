"""Build a response from payloads that are serialized already.

Stored payloads are the very messages that responses repeat, so a response is made by framing them
as one length-delimited field and parsing once, inside the protobuf library.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from eventstore.cancellation import current_waiter, taken
from eventstore.log.readable import UNREADABLE, mended, varint

if TYPE_CHECKING:
    import pyarrow as pa

Response = TypeVar("Response", bound=Message)
Element = TypeVar("Element", bound=Message)

_LENGTH_DELIMITED = 2
_KEPT_LENGTHS_MAX = 65_536
_MANY = 8_192


def fill_repeated(response: Response, field: str, payloads: Iterable[bytes]) -> Response:
    """Fill the repeated `field` of `response`, which is empty, with serialized messages."""
    heads = _heads(response.DESCRIPTOR.fields_by_name[field].number)
    parts = [part for payload in taken(payloads) for part in (heads[len(payload)], payload)]
    try:
        response.MergeFromString(b"".join(parts))
    except UNREADABLE:
        _fill_with_mended(response, field, 0, parts[1::2])
    return response


def fill_repeated_from_columns(
    response: Response, field: str, payloads: Iterable[pa.Array]
) -> Response:
    """Do the same as `fill_repeated`, for columns (large_binary) of very many messages."""
    import pyarrow as pa
    import pyarrow.compute as compute

    from eventstore.log.arrow_values import array_of, scalar_of

    heads = _heads(response.DESCRIPTOR.fields_by_name[field].number)
    waiter = current_waiter()
    for some in payloads:
        if waiter is not None:
            waiter.check()
            waiter.take(some.nbytes)
        lengths = compute.binary_length(some)
        distinct = compute.unique(lengths)
        head_of_each = array_of([heads[n] for n in distinct.to_pylist()], pa.large_binary())
        rows = compute.index_in(lengths, value_set=distinct)
        nothing = scalar_of(b"", pa.large_binary())
        framed = compute.binary_join_element_wise(head_of_each.take(rows), some, nothing)
        # Its values lie one after the other, as they have to be on the wire.
        _, offsets, values = framed.buffers()
        end = memoryview(offsets).cast("q")[len(framed)]
        filled = len(getattr(response, field))
        try:
            response.MergeFromString(values.slice(0, end).to_pybytes())
        except UNREADABLE:
            _fill_with_mended(response, field, filled, some.to_pylist())
    return response


def _fill_with_mended(
    response: Message, field: str, filled: int, payloads: Sequence[bytes]
) -> None:
    """Append what can be read of further messages to those that were there before."""
    repeated = getattr(response, field)
    del repeated[filled:]
    name = response.DESCRIPTOR.fields_by_name[field].message_type.name
    for payload in payloads:
        repeated.add().MergeFromString(mended(name, payload))


def as_list(repeated: Sequence[Element]) -> list[Element]:
    """The messages of a repeated field.

    Garbage is not collected meanwhile: none of this can be garbage, and looking for some again and
    again would take as long as all the rest.
    """
    if len(repeated) < _MANY or not gc.isenabled():
        return list(repeated)
    gc.disable()
    try:
        return list(repeated)
    finally:
        gc.enable()


class _Heads(dict[int, bytes]):
    """By the length of a message, the tag and length before it in a repeated field."""

    def __init__(self, field_number: int) -> None:
        super().__init__()
        self._tag = varint(field_number << 3 | _LENGTH_DELIMITED)

    def __missing__(self, length: int) -> bytes:
        head = self._tag + varint(length)
        if length < _KEPT_LENGTHS_MAX:
            self[length] = head
        return head


@cache
def _heads(field_number: int) -> _Heads:
    return _Heads(field_number)
