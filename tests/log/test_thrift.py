"""Thrift's compact protocol: every type that is read, and what is no struct."""

from __future__ import annotations

import struct

import pytest

from eventstore.log.thrift import read_struct


def nested(depth: int) -> bytes:
    """Structs within structs: so many below the first."""
    return b"\x1c" * depth + b"\x00" * (depth + 1)


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ("00", {}),
        ("11 00", {1: True}),
        ("12 00", {1: False}),
        ("11 22 21 00", {1: True, 3: False, 5: True}),
        ("13 ff 00", {1: 255}),
        ("14 03 00", {1: -2}),
        ("15 04 00", {1: 2}),
        ("16 feffffffffffffffff01 00", {1: 2**63 - 1}),
        ("16 ffffffffffffffffff01 00", {1: -(2**63)}),
        ("15 8001 15 00 00", {1: 64, 2: 0}),
        ("18 00 00", {1: b""}),
        ("18 03 616263 00", {1: b"abc"}),
        ("19 25 02 04 00", {1: [1, 2]}),
        ("19 05 00", {1: []}),
        ("19 21 01 02 00", {1: [True, False]}),
        ("19 22 01 00 00", {1: [True, False]}),
        ("1a 15 02 00", {1: [1]}),
        ("19 f5 0f" + "02" * 15 + "00", {1: [1] * 15}),
        ("19 e5" + "02" * 14 + "00", {1: [1] * 14}),
        ("19 1c 15 02 00 00", {1: [{1: 1}]}),
        ("1c 15 02 00 15 04 00", {1: {1: 1}, 2: 2}),
        ("f1 00", {15: True}),
        ("05 28 02 15 04 00", {20: 1, 21: 2}),
    ],
)
def test_what_is_read(data: str, fields: dict[int, object]) -> None:
    content = bytes.fromhex(data)
    found = read_struct(content, 0)
    assert repr(found) == repr((fields, len(content)))
    # Wherever it starts, and whatever follows.
    assert read_struct(b"\xff" * 3 + content + b"\xff", 3) == (fields, len(content) + 3)
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"in the middle|longer than"):
            read_struct(content[:end], 0)


def test_doubles() -> None:
    content = b"\x17" + struct.pack("<d", 1.5) + b"\x15\x02\x00"
    assert read_struct(content, 0) == ({1: 1.5, 2: 1}, len(content))
    with pytest.raises(ValueError, match="in the middle"):
        read_struct(content[:8], 0)


def test_structs_within_structs() -> None:
    deepest = nested(16)
    fields, end = read_struct(deepest, 0)
    assert end == len(deepest)
    for _ in range(16):
        fields = fields[1]
    assert fields == {}
    with pytest.raises(ValueError, match="without an end"):
        read_struct(nested(17), 0)
    # In lists they are no less deep.
    lists = b"\x19\x1c" * 17 + b"\x00" * 18
    with pytest.raises(ValueError, match="without an end"):
        read_struct(lists, 0)
    shallower = b"\x19\x1c" * 16 + b"\x00" * 17
    assert read_struct(shallower, 0)[1] == len(shallower)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("15 02 05 02 04 00", "field 1 comes twice"),
        ("10 00", "no type 0"),
        ("1b 00 00", "no type 11"),
        ("1d 00", "no type 13"),
        ("19 10 00", "no type 0"),
        ("16" + "ff" * 10 + "01 00", "has no end"),
        ("18 05 61 00", "longer than"),
        ("18 ffffffffff01 00", "longer than"),
    ],
)
def test_what_is_no_struct(data: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_struct(bytes.fromhex(data), 0)
