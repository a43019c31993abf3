"""The views of types: what they are called, and which columns they have.

Types whose names differ in upper and lower case or in the version alone share a view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from eventstore.log.kinds import VALUE_FIELDS

_NODE_COLUMNS: Final = {
    "artifact": ("uri", "state"),
    "execution": ("state",),
    "context": (),
}
_COLUMNS: Final = (
    *("id", "type_id", "type", "name", "external_id"),
    *("create_time_since_epoch", "last_update_time_since_epoch", "created_at", "updated_at"),
    *("erased_by", "position"),
)


class NamedType(NamedTuple):
    """A type: the kind of its nodes, its id, name, and the position of its newest record."""

    kind: str
    id: int
    name: str
    position: int


class PropertyColumn(NamedTuple):
    """A column of a type's view: values of one kind (`double_value`) of one property."""

    name: str
    of_property: str
    value: str


class TypeView(msgspec.Struct, frozen=True):
    """A view of the nodes of some types, which share a kind and a name."""

    kind: str
    type_ids: tuple[int, ...]
    columns: tuple[PropertyColumn, ...]


def types_by_view(
    types: Iterable[NamedType], fixed: Collection[str]
) -> dict[str, tuple[NamedType, ...]]:
    """The types of each view, by each of its names in lower case.

    `fixed` are the names of the other views.
    """
    full: dict[str, list[NamedType]] = {}
    plain: dict[str, list[str]] = {}
    for one in types:
        name = full_name(one)
        if name.lower() not in full:
            plain.setdefault(one.name.lower(), []).append(name.lower())
        full.setdefault(name.lower(), []).append(one)
    found = {name: tuple(sorted(of_it, key=lambda one: one.id)) for name, of_it in full.items()}
    for name, meant in plain.items():
        if name and len(meant) == 1 and name not in fixed:
            found.setdefault(name, found[meant[0]])
    return found


def full_name(one: NamedType) -> str:
    """The name of the view of a type that is its own whatever else there is."""
    return f"{one.kind}s_of_{one.name}"


def type_view(types: Sequence[NamedType], declared: Iterable[Mapping[str, int]]) -> TypeView:
    """The view of types of one kind, with the properties that they declare."""
    kind = types[0].kind
    values: dict[str, set[str]] = {}
    for properties in declared:
        for name, number in properties.items():
            # No query could name such a column.
            if number in VALUE_FIELDS and "\0" not in name:
                values.setdefault(name, set()).add(VALUE_FIELDS[number])
    taken = {"", *_COLUMNS, *_NODE_COLUMNS[kind]}
    columns = []
    for name, kinds in sorted(values.items()):
        for value in sorted(kinds):
            wanted = name if len(kinds) == 1 else f"{name}_{value.removesuffix('_value')}"
            column = _free(wanted, taken)
            taken.add(column.lower())
            columns.append(PropertyColumn(column, name, value))
    return TypeView(kind, tuple(one.id for one in types), tuple(columns))


def _free(name: str, taken: Collection[str]) -> str:
    """The name of a column of which there is none yet, in upper or lower case."""
    if name.lower() not in taken:
        return name
    free, number = f"property_{name}", 2
    while free.lower() in taken:
        free, number = f"property_{name}_{number}", number + 1
    return free


def shortest_name(types: Sequence[NamedType], names: Mapping[str, Sequence[NamedType]]) -> str:
    """The name of a view that is the type's own where it can be, by what `types_by_view` gives."""
    plain = types[0].name
    return plain if names.get(plain.lower()) == types else full_name(types[0])


def quoted_name(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str) -> str:
    """A text as DuckDB's SQL has it: nothing in it but a quote means anything."""
    return "'" + text.replace("'", "''") + "'"
