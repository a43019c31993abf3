"""What may be appended: messages that every protobuf library reads again, wherever they are nested.

Libraries differ in what they accept. One takes a message that is nested deeper than it will read
back inside of a response; in the messages of MLMD, which are proto2, most do not look at whether a
text is UTF-8 before somebody asks for it. So a record is checked against the same messages as
proto3 and without maps, which all of them read strictly and alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, wraps
from typing import Any, Final, TypeVar, cast

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    struct_pb2,
)
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError, EncodeError

from eventstore.errors import InvalidArgumentError, ResourceExhaustedError
from eventstore.log.kinds import KINDS
from eventstore.log.record import Draft
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2

NESTED_MESSAGES_MAX: Final = 99
"""How many messages may be nested in a record, counting itself and the entries of maps."""

RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""How long a record's message may be, in bytes."""

COMMIT_BYTES_MAX: Final = 512 * 1024 * 1024
"""How long the messages of one put may be together, in bytes."""

# A response holds nodes two messages deep at most, and what a library reads is 101 deep at most.
_DEPTH_MAX: Final = NESTED_MESSAGES_MAX + 2

UNREADABLE: Final = (DecodeError, EncodeError, UnicodeDecodeError, RecursionError)
"""What protobuf libraries raise for a message that they do not read, or do not write."""

_Put = TypeVar("_Put", bound=Callable[..., Any])

_VARINT, _LENGTH_DELIMITED, _GROUP = 0, 2, 3
_FIXED: Final = {1: 8, 5: 4}
"""How many bytes values of these wire types have."""
_IN_PYTHON: Final = api_implementation.Type() == "python"
_SOURCE: Final = mlmd.DESCRIPTOR.name


def refuse_unreadable(drafts: Sequence[Draft]) -> None:
    """Raise InvalidArgumentError when a draft's message could not be read again.

    Raises ResourceExhaustedError when one or all of them are too long.
    """
    if len(drafts) == 1 and len(drafts[0].payload) <= RECORD_BYTES_MAX:
        if not _is_readable(drafts[0].kind, drafts[0].payload):
            raise _refusal(drafts[0])
        return
    by_kind: dict[str, list[bytes]] = {}
    for draft in drafts:
        by_kind.setdefault(draft.kind, []).append(draft.payload)
    # Serialized messages in a row are one message that has the fields of all.
    joined = {kind: b"".join(payloads) for kind, payloads in by_kind.items()}
    size = sum(map(len, joined.values()))
    if size > RECORD_BYTES_MAX:
        _refuse_too_long(drafts, size)
    for kind, content in joined.items():
        if not _is_readable(kind, content):
            raise _refusal(next(d for d in drafts if not _is_readable(d.kind, d.payload)))


def unreadable_request(error: Exception) -> InvalidArgumentError:
    """What to raise for a request with a message that the library does not read or write."""
    return InvalidArgumentError(
        f"Could not parse proto: at most {NESTED_MESSAGES_MAX} messages may lie one in the other, "
        f"and texts are UTF-8 ({error})"
    )


def refusing_unreadable(put: _Put) -> _Put:
    """Let a put raise InvalidArgumentError for messages that the library does not copy."""

    @wraps(put)
    def refusing(*arguments: Any, **named: Any) -> Any:
        try:
            return put(*arguments, **named)
        except UNREADABLE as error:
            raise unreadable_request(error) from None

    return cast(_Put, refusing)


def read_message(message_class: Any, payload: bytes) -> Any:
    """The message of a stored payload.

    An older version appended what this one refuses. Then this is what can be read of it: what is
    nested too deep is left out, and what is no text is marked by U+FFFD.
    """
    try:
        return message_class.FromString(payload)
    except UNREADABLE:
        return message_class.FromString(mended(message_class.DESCRIPTOR.name, payload))


def read_messages(message_class: Any, payloads: Sequence[bytes]) -> list[Any]:
    """What `read_message` gives of each."""
    parse = message_class.FromString
    try:
        return [parse(payload) for payload in payloads]
    except UNREADABLE:
        return [read_message(message_class, payload) for payload in payloads]


def readable(kind: str, payload: bytes) -> bytes:
    """The payload of a record, or what can be read of it."""
    return payload if _is_readable(kind, payload) else mended(_name(kind), payload)


def mended(message_name: str, payload: bytes) -> bytes:
    """What can be read of a message; its name is one of those that are stored."""
    strict = _envelope().DESCRIPTOR.fields_by_name["inner"].message_type
    descriptor = strict.fields_by_name[message_name].message_type
    return _mended(descriptor, payload, NESTED_MESSAGES_MAX - 1)


def _refuse_too_long(drafts: Sequence[Draft], size: int) -> None:
    longest = max(drafts, key=lambda draft: len(draft.payload))
    if len(longest.payload) > RECORD_BYTES_MAX:
        raise ResourceExhaustedError(
            f"{_described(longest)} is {len(longest.payload):,} bytes long, a record may have "
            f"{RECORD_BYTES_MAX:,}: keep large content elsewhere, and its uri here"
        )
    if size > COMMIT_BYTES_MAX:
        raise ResourceExhaustedError(
            f"the {len(drafts):,} records of this put are {size:,} bytes long, those of one may be "
            f"{COMMIT_BYTES_MAX:,}: put fewer at a time"
        )


def _refusal(draft: Draft) -> InvalidArgumentError:
    # Leaving something out makes it shorter, marking what is no text does not.
    if len(mended(_name(draft.kind), draft.payload)) < len(draft.payload):
        what = (
            f"is nested too deep: at most {NESTED_MESSAGES_MAX} messages may lie one in the other; "
            "flatten its structs, lists or types, or put them as text"
        )
    else:
        what = "holds a text that is not UTF-8: encode it, or put it as the bytes of a proto_value"
    return InvalidArgumentError(f"Could not parse proto: {_described(draft)} {what}")


def _described(draft: Draft) -> str:
    kind = draft.kind.replace("_", " ")
    readable_part = KINDS[draft.kind].message.FromString(mended(_name(draft.kind), draft.payload))
    name = getattr(readable_part, "name", "")
    return f"{kind} {name!r}" if name else f"the {kind} with id {draft.entity_id}"


def _is_readable(kind: str, content: bytes) -> bool:
    head = _head(KINDS[kind].number, len(content))
    try:
        nested = _envelope().FromString(_head(1, len(head) + len(content)) + head + content)
    except UNREADABLE:
        return False
    # The library in Python has no bound in some versions, and another one in others.
    return not _IN_PYTHON or _depth(nested) <= _DEPTH_MAX


def _depth(message: Any) -> int:
    deepest = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            for held in value if hasattr(value, "add") else (value,):
                deepest = max(deepest, _depth(held))
    return deepest + 1


def _mended(descriptor: Any, content: bytes, levels: int) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < len(content):
        start = at
        tag, at = _varint_at(content, at)
        if tag & 7 != _LENGTH_DELIMITED:
            at = _end_of_value(content, tag, at)
            parts.append(content[start:at])
            continue
        length, at = _varint_at(content, at)
        held, at = content[at : at + length], _within(content, at + length)
        field = descriptor.fields_by_number.get(tag >> 3)
        if field is not None and field.message_type is not None:
            if levels == 0:
                continue
            held = _mended(field.message_type, held, levels - 1)
        elif field is not None and field.type == field.TYPE_STRING:
            held = held.decode(errors="replace").encode()
        parts.append(_field(tag >> 3, held))
    return b"".join(parts)


def _end_of_value(content: bytes, tag: int, at: int) -> int:
    """Where the value of a field ends that starts here. Raises DecodeError for what is none."""
    wire_type = tag & 7
    if wire_type == _VARINT:
        return _varint_at(content, at)[1]
    if wire_type == _LENGTH_DELIMITED:
        length, at = _varint_at(content, at)
        return _within(content, at + length)
    if wire_type in _FIXED:
        return _within(content, at + _FIXED[wire_type])
    if wire_type != _GROUP:
        raise DecodeError(f"there is no field with wire type {wire_type} here")
    groups = [tag]
    while groups:
        inner, at = _varint_at(content, at)
        if inner == groups[-1] + 1:
            groups.pop()
        elif inner & 7 == _GROUP:
            groups.append(inner)
        else:
            at = _end_of_value(content, inner, at)
    return at


def _within(content: bytes, at: int) -> int:
    if at > len(content):
        raise DecodeError("a field is cut off")
    return at


def _varint_at(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content):
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise DecodeError("a number is cut off")


def _field(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


@lru_cache(maxsize=4096)
def _head(number: int, length: int) -> bytes:
    """The bytes before the content of a field."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(length)


def varint(value: int) -> bytes:
    """A number as messages have it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _name(kind: str) -> str:
    name: str = KINDS[kind].message.DESCRIPTOR.name
    return name


@cache
def _envelope() -> Any:
    """A message that holds, in another, one message of each kind."""
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, struct_pb2, mlmd, retention_pb2):
        pool.AddSerializedFile(_strict(module.DESCRIPTOR.serialized_pb))
    file = descriptor_pb2.FileDescriptorProto(
        name="envelope.proto",
        package="eventstore",
        syntax="proto3",
        dependency=[_SOURCE, retention_pb2.DESCRIPTOR.name],
    )
    outer, inner = file.message_type.add(name="Outer"), file.message_type.add(name="Inner")
    _add_field(outer, "inner", 1, ".eventstore.Inner")
    for name, kind in KINDS.items():
        _add_field(inner, _name(name), kind.number, f".{kind.message.DESCRIPTOR.full_name}")
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("eventstore.Outer"))


def _add_field(message: Any, name: str, number: int, type_name: str) -> None:
    message.field.add(
        name=name,
        number=number,
        type_name=type_name,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
    )


def _strict(serialized: bytes) -> bytes:
    """A .proto file as proto3, where texts are checked, without enums, extensions and maps."""
    file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
    file.syntax = "proto3"
    for part in ("extension", "enum_type", "service", "options"):
        file.ClearField(part)
    del file.dependency[:]
    if file.name == _SOURCE:
        file.dependency.extend(module.DESCRIPTOR.name for module in (any_pb2, struct_pb2))
    for message in file.message_type:
        _make_strict(message)
    strict: bytes = file.SerializeToString()
    return strict


def _make_strict(message: Any) -> None:
    for part in ("enum_type", "extension", "extension_range", "oneof_decl", "options"):
        message.ClearField(part)
    of = descriptor_pb2.FieldDescriptorProto
    for field in message.field:
        for part in ("default_value", "options", "oneof_index", "proto3_optional"):
            field.ClearField(part)
        if field.label != of.LABEL_REPEATED:
            field.label = of.LABEL_OPTIONAL
        if field.type == of.TYPE_ENUM:
            field.type = of.TYPE_INT32
            field.ClearField("type_name")
    for nested in message.nested_type:
        _make_strict(nested)
