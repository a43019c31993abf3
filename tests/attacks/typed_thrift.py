"""Thrift's compact protocol with its types, so that what was read can be changed and written.

A struct is a list of [number, type, value], a list is [type, values].
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

TRUE, FALSE, BYTE, BINARY, LIST, STRUCT = 1, 2, 3, 8, 9, 12
INTEGERS = (4, 5, 6)

Struct = list[list[Any]]


def decoded(data: bytes, place: int) -> tuple[Struct, int]:
    fields: Struct = []
    number = 0
    while data[place]:
        head = data[place]
        number += head >> 4
        value, place = _decoded_value(data, place + 1, head & 15)
        fields.append([number, head & 15, value])
    return fields, place + 1


def _decoded_value(data: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return None, place
    if kind == STRUCT:
        return decoded(data, place)
    if kind in INTEGERS:
        value, place = _varint(data, place)
        return value >> 1 ^ -(value & 1), place
    if kind == BINARY:
        length, place = _varint(data, place)
        return data[place : place + length], place + length
    assert kind == LIST
    head = data[place]
    length, place = head >> 4, place + 1
    if length == 15:
        length, place = _varint(data, place)
    values = []
    for _ in range(length):
        value, place = _decoded_value(data, place, head & 15)
        values.append(value)
    return [head & 15, values], place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        shift, place = shift + 7, place + 1
        if data[place - 1] < 128:
            return value, place


def encoded(fields: Struct) -> bytes:
    written, last = b"", 0
    for number, kind, value in fields:
        written += bytes([(number - last) << 4 | kind]) + _encoded_value(kind, value)
        last = number
    return written + b"\x00"


def _encoded_value(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind == STRUCT:
        return encoded(value)
    if kind in INTEGERS:
        return _encoded_varint(value << 1 ^ value >> 63)
    if kind == BINARY:
        return _encoded_varint(len(value)) + bytes(value)
    element, values = value
    head = bytes([min(len(values), 15) << 4 | element])
    length = _encoded_varint(len(values)) if len(values) > 14 else b""
    return head + length + b"".join(_encoded_value(element, one) for one in values)


def _encoded_varint(value: int) -> bytes:
    written = b""
    while value > 127:
        written, value = written + bytes([value & 127 | 128]), value >> 7
    return written + bytes([value])


def copy_of(fields: Struct) -> Struct:
    copied: Struct = pickle.loads(pickle.dumps(fields))  # faster than deepcopy
    return copied


def of(fields: Struct, number: int) -> Any:
    """The value of a field."""
    return next(value for found, _, value in fields if found == number)


def put(fields: Struct, number: int, value: Any) -> None:
    """Set the value of a field that is there."""
    next(field for field in fields if field[0] == number)[2] = value


Path = tuple[int, ...]
"""The numbers of the fields, and the places in lists, that lead to what is changed."""


def changes(
    fields: Struct, wanted: Callable[[Path], bool] = lambda path: True
) -> Iterator[tuple[Path, str, Struct]]:
    """Every change of one thing in a struct: where, what was done, and all of it changed."""
    for path, kind, what in _changes_below(fields):
        if wanted(path):
            changed = copy_of(fields)
            what(changed)
            yield path, kind, changed


_Change = Callable[[Any], None]


def _changes_below(fields: Struct) -> Iterator[tuple[Path, str, _Change]]:
    last = fields[-1][0] if fields else 0
    yield (), "field added", lambda s: s.append([last + 9, INTEGERS[1], 1])
    for place, (number, kind, value) in enumerate(fields):
        yield (number,), "field left out", lambda s, at=place: s.pop(at)
        yield from _of_value(
            number, kind, value, lambda s, at=place: s[at][2], lambda s, v, at=place: _put(s, at, v)
        )
        if kind in (TRUE, FALSE):
            other = TRUE + FALSE - kind
            yield (number,), "turned round", lambda s, at=place, to=other: _put_type(s, at, to)
        elif value not in (0, 1):
            yield (number,), "a truth", lambda s, at=place: _put_type(s, at, TRUE)


def _put(place: Any, at: int, value: Any) -> None:
    if isinstance(place[at], list) and len(place[at]) == 3 and isinstance(place[at][1], int):
        place[at][2] = value
    else:
        place[at] = value


def _put_type(fields: Struct, at: int, kind: int) -> None:
    fields[at][1:] = [kind, None]


def _of_value(
    number: int, kind: int, value: Any, get: Callable[[Any], Any], put: Callable[[Any, Any], None]
) -> Iterator[tuple[Path, str, _Change]]:
    if kind in INTEGERS:
        for step in (1, -1):
            yield (number,), f"{step:+}", lambda s, to=value + step: put(s, to)
    elif kind == BINARY:
        yield (number,), "byte added", lambda s: put(s, bytes(value) + b"x")
        if value:
            flipped = bytes(value[:-1]) + bytes([value[-1] ^ 1])
            yield (number,), "byte changed", lambda s: put(s, flipped)
    elif kind == STRUCT:
        for path, what, change in _changes_below(value):
            yield (number, *path), what, lambda s, change=change: change(get(s))
    elif kind == LIST:
        element, values = value
        if values:
            yield (number,), "element left out", lambda s: get(s)[1].pop()
            yield (number,), "element repeated", lambda s: get(s)[1].append(values[-1])
        for at, one in enumerate(values):

            def get_one(s: Any, at: int = at) -> Any:
                return get(s)[1][at]

            def put_one(s: Any, v: Any, at: int = at) -> None:
                get(s)[1][at] = v

            for path, what, change in _of_value(at, element, one, get_one, put_one):
                yield (number, *path), what, change
