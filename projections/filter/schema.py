"""What a filter can name: the columns of each node kind, its neighbours, and their joins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eventstore.proto import metadata_store_pb2 as mlmd

INT64: Final = "INT64"
FLOAT64: Final = "DOUBLE"
STRING: Final = "STRING"
BOOL: Final = "BOOL"
NULL: Final = "NULL"
"""GoogleSQL's types, as its messages spell them; NULL is that of the literal."""

ARTIFACT_STATES: Final = dict(mlmd.Artifact.State.items())
EXECUTION_STATES: Final = dict(mlmd.Execution.State.items())
EVENT_TYPES: Final = dict(mlmd.Event.Type.items())


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its type, and for an enum the numbers of its names."""

    sql: str
    type: str
    enum: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Typed:
    """A piece of SQL and its GoogleSQL type; `column` when it is a column as such."""

    sql: str
    type: str
    column: Column | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A kind of neighbour: its fields, and the joins that lead to a row of it.

    In `joins`, {alias} stands for the joined row's alias. `has_type` says that `type` is the name
    of the neighbour's type, which takes a join of its own.
    """

    fields: dict[str, Column]
    joins: str
    has_type: bool = False


_ALIVE: Final = "{row}.valid_from <= $as_of AND {row}.valid_to > $as_of"

_TIMES: Final = {
    "create_time_since_epoch": Column("create_time", INT64),
    "last_update_time_since_epoch": Column("update_time", INT64),
}
_NODE: Final = {
    "id": Column("id", INT64),
    "type_id": Column("type_id", INT64),
    "name": Column("name", STRING),
    "external_id": Column("external_id", STRING),
    **_TIMES,
}
_ARTIFACT_STATE: Final = Column("state", INT64, ARTIFACT_STATES)
_EXECUTION_STATE: Final = Column("state", INT64, EXECUTION_STATES)

COLUMNS: Final = {
    "artifact": {**_NODE, "uri": Column("uri", STRING), "state": _ARTIFACT_STATE},
    "execution": {**_NODE, "last_known_state": _EXECUTION_STATE},
    "context": _NODE,
}
"""The columns of the listed node, `type` apart."""

_NEIGHBOUR_NODE: Final = {
    "id": Column("id", INT64),
    "name": Column("name", STRING),
    "external_id": Column("external_id", STRING),
    **_TIMES,
}
_CONTEXT_FIELDS: Final = {name: c for name, c in _NEIGHBOUR_NODE.items() if name != "external_id"}


def _linked(links: str, near: str, far: str, nodes: str) -> str:
    return f"""
    JOIN {links} AS {{alias}}_link
      ON {{alias}}_link.{near} = node.id AND {{alias}}_link.valid_from <= $as_of
    JOIN {nodes} AS {{alias}}
      ON {{alias}}.id = {{alias}}_link.{far} AND {_ALIVE.replace("{row}", "{alias}")}
    """


def _events(near: str) -> str:
    return f"""
    JOIN events AS {{alias}}
      ON {{alias}}.{near} = node.id AND {{alias}}.valid_from <= $as_of
    """


_EVENT_FIELDS: Final = {
    "type": Column("type", INT64, EVENT_TYPES),
    "milliseconds_since_epoch": Column("time", INT64),
}

NEIGHBOURS: Final = {
    "artifact": {
        "contexts": Neighbour(
            _CONTEXT_FIELDS,
            _linked("attributions", "artifact_id", "context_id", "contexts"),
            has_type=True,
        ),
        "events": Neighbour(
            {**_EVENT_FIELDS, "execution_id": Column("execution_id", INT64)},
            _events("artifact_id"),
        ),
    },
    "execution": {
        "contexts": Neighbour(
            _CONTEXT_FIELDS,
            _linked("associations", "execution_id", "context_id", "contexts"),
            has_type=True,
        ),
        "events": Neighbour(
            {**_EVENT_FIELDS, "artifact_id": Column("artifact_id", INT64)},
            _events("execution_id"),
        ),
    },
    "context": {
        "parent_contexts": Neighbour(
            _CONTEXT_FIELDS,
            _linked("parent_contexts", "child_id", "parent_id", "contexts"),
            has_type=True,
        ),
        "child_contexts": Neighbour(
            _CONTEXT_FIELDS,
            _linked("parent_contexts", "parent_id", "child_id", "contexts"),
            has_type=True,
        ),
        "artifacts": Neighbour(
            {**_NEIGHBOUR_NODE, "uri": Column("uri", STRING), "state": _ARTIFACT_STATE},
            _linked("attributions", "context_id", "artifact_id", "artifacts"),
            has_type=True,
        ),
        "executions": Neighbour(
            {**_NEIGHBOUR_NODE, "last_known_state": _EXECUTION_STATE},
            _linked("associations", "context_id", "execution_id", "executions"),
            has_type=True,
        ),
    },
}
"""The neighbours of each node kind by the prefix of their alias."""

PROPERTY_MEMBERS: Final = {
    "int_value": INT64,
    "double_value": FLOAT64,
    "string_value": STRING,
    "bool_value": BOOL,
}
PROPERTY_MAPS: Final = {"properties": False, "custom_properties": True}
"""The two maps, and whether their rows are custom ones."""


def type_join(alias: str, row: str) -> str:
    """The join that makes `{alias}.name` the type name of a row of nodes."""
    return f"""
    JOIN types AS {alias}
      ON {alias}.id = {row}.type_id AND {_ALIVE.format(row=alias)}
    """


def property_join(alias: str, kind: str, parameter: str, *, is_custom: bool) -> str:
    """The join with one property, by the parameter that holds its name."""
    return f"""
    JOIN {kind}_properties AS {alias}
      ON {alias}.node_id = node.id AND {alias}.name = ${parameter}
     AND {"" if is_custom else "NOT "}{alias}.is_custom AND {_ALIVE.format(row=alias)}
    """
