"""Any value at its edge: what a property, a name or a struct may hold, for hypothesis."""

from __future__ import annotations

import struct
from typing import Any, Final

from hypothesis import strategies as st

from eventstore.proto import metadata_store_pb2 as mlmd


def double_of(bits: int) -> float:
    """The double with these bits: a NaN keeps what is in it."""
    number: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return number


INTS: Final = st.sampled_from([0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]) | st.integers(
    -(2**63), 2**63 - 1
)
_SPECIAL_DOUBLES: Final = [
    0.0,
    -0.0,
    5e-324,
    -2.2250738585072009e-308,
    1.7976931348623157e308,
    float("inf"),
    float("-inf"),
    double_of(0x7FF8000000000000),
    double_of(0xFFF8000000000001),
    double_of(0x7FF80000DEADBEEF),
    9007199254740993.0,
    0.1,
]
DOUBLES: Final = st.sampled_from(_SPECIAL_DOUBLES) | st.floats()
_SPECIAL_TEXTS: Final = [
    "",
    "\0",
    "a\0b",
    "\ufffd\ufeff\ufffe\uffff",
    "\U0010ffff\ud7ff\ue000",
    "e\u0301 \u0308",
    "\u202eabc\u2066\u05d0",
    "line\nbreak\r\ttab\x1b[31m\x7f\u2028\u2029",
    "'\"`\\%_${}[]<>&;--",
    "NaN",
    "null",
    "x" * 10_000,
    "ä" * 10_000,
]
TEXTS: Final = st.sampled_from(_SPECIAL_TEXTS) | st.text(
    st.characters(exclude_categories=("Cs",)), max_size=30
)
NAMES: Final = st.sampled_from(
    ["", " ", ".", "a.b", "a b", "'", '"', "name", "int_value", "\0", "ä", "A", "a", "1"]
) | st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def _structs(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    leaves = st.none() | st.booleans() | DOUBLES | TEXTS
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=depth,
    )
    return st.dictionaries(NAMES, values, max_size=4)


def _struct_value(fields: dict[str, Any]) -> mlmd.Value:
    value = mlmd.Value()
    value.struct_value.SetInParent()
    for name, content in fields.items():
        _fill(value.struct_value.fields[name], content)
    return value


def _fill(value: Any, content: Any) -> None:
    if content is None:
        value.null_value = 0
    elif isinstance(content, bool):
        value.bool_value = content
    elif isinstance(content, float):
        value.number_value = content
    elif isinstance(content, str):
        value.string_value = content
    elif isinstance(content, list):
        value.list_value.SetInParent()
        for element in content:
            _fill(value.list_value.values.add(), element)
    else:
        value.struct_value.SetInParent()
        for name, element in content.items():
            _fill(value.struct_value.fields[name], element)


def _any_value(type_url: str, content: bytes) -> mlmd.Value:
    value = mlmd.Value()
    value.proto_value.type_url, value.proto_value.value = type_url, content
    return value


_TYPE_URLS: Final = st.sampled_from(
    ["", "type.googleapis.com/ml_metadata.Event", "type.googleapis.com/no.such.Message", "/", "ä"]
)
VALUES_BY_TYPE: Final[dict[int, st.SearchStrategy[mlmd.Value]]] = {
    mlmd.INT: INTS.map(lambda number: mlmd.Value(int_value=number)),
    mlmd.DOUBLE: DOUBLES.map(lambda number: mlmd.Value(double_value=number)),
    mlmd.STRING: TEXTS.map(lambda text: mlmd.Value(string_value=text)),
    mlmd.BOOLEAN: st.booleans().map(lambda flag: mlmd.Value(bool_value=flag)),
    mlmd.STRUCT: _structs(8).map(_struct_value),
    mlmd.PROTO: st.builds(_any_value, _TYPE_URLS, st.binary(max_size=20)),
}
VALUES: Final = st.one_of(*VALUES_BY_TYPE.values())
"""A value of any kind."""
PROPERTIES: Final = st.dictionaries(NAMES, VALUES, max_size=6)


def node_with(message_class: Any, properties: dict[str, mlmd.Value], **fields: Any) -> Any:
    """A node that has these as custom properties."""
    node = message_class(**fields)
    for name, value in properties.items():
        node.custom_properties[name].CopyFrom(value)
    return node


def nested(levels: int) -> mlmd.Value:
    """A struct in a struct and so on: `levels` structs in all."""
    value = mlmd.Value()
    inner = value.struct_value
    inner.SetInParent()
    for _ in range(levels - 1):
        inner = inner.fields["a"].struct_value
        inner.SetInParent()
    return value
