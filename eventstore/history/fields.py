"""What an entity says, field by field as plain values, and what changed between two versions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from eventstore.errors import InvalidArgumentError
from eventstore.lineage.comparison import plain_value
from eventstore.log.kinds import ENTITY_KINDS, KINDS
from eventstore.log.readable import readable
from eventstore.plain_json import plain
from eventstore.plain_values import is_same
from eventstore.proto import metadata_store_pb2 as mlmd

_LEFT_OUT = frozenset(
    ("id", "type_id", "type", "create_time_since_epoch", "last_update_time_since_epoch")
)
_MAPS = ("properties", "custom_properties")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field before and after, None where it is absent: `uri`, `state`, `properties.NAME`, ..."""

    field: str
    before: Any
    after: Any


def check_kind(kind: str, known: Collection[str] = tuple(ENTITY_KINDS)) -> None:
    """Raise InvalidArgumentError for a kind that is none of those known."""
    if kind not in known:
        raise InvalidArgumentError(f"{kind!r} is no kind of entity: use one of {', '.join(known)}")


def parsed(kind: str, payload: bytes | None) -> Any:
    """The message of a record; None when its content was erased."""
    # Strictly, since all of the message is looked at.
    return None if payload is None else KINDS[kind].message.FromString(readable(kind, payload))


def field_changes(kind: str, before: Any, after: Any) -> tuple[FieldChange, ...]:
    """What differs between two messages of a kind, either of which may be None; times apart."""
    old, new = plain_fields(kind, before), plain_fields(kind, after)
    names = sorted({*old, *new}, key=lambda name: ("." in name, name))
    return tuple(
        FieldChange(name, old.get(name), new.get(name))
        for name in names
        if not is_same(old.get(name), new.get(name))
    )


def plain_fields(kind: str, message: Any) -> dict[str, Any]:
    """The fields that are set, as numbers, texts, booleans, names of enums and dictionaries."""
    if message is None:
        return {}
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name in _MAPS:
            for name in sorted(value):
                values[f"{field.name}.{name}"] = _property(kind, value[name])
        elif field.name in _LEFT_OUT and kind != "event":
            continue
        elif field.enum_type is not None:
            values[field.name] = field.enum_type.values_by_number[value].name
        elif field.message_type is not None:
            # Only rules, holds and erasures have lists of messages.
            values[field.name] = plain(value if isinstance(value, Message) else [*value])
        else:
            values[field.name] = value
    return values


def _property(kind: str, value: Any) -> Any:
    return mlmd.PropertyType.Name(value) if kind.endswith("_type") else plain_value(value)
