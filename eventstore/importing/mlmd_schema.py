"""The tables of MLMD's schema, versions 0 to 10, all read as if they were of the newest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SCHEMA_VERSIONS: Final = range(11)

_NODE_TIMES: Final = "create_time_since_epoch:5 last_update_time_since_epoch:5"
_VALUES: Final = (
    "name is_custom_property int_value double_value string_value proto_value:10 bool_value:10"
)

_TABLES: Final = {
    "Type:0": ("id name version:6 type_kind:2 description:6 input_type output_type external_id:9"),
    "TypeProperty:0": "type_id name data_type",
    "ParentType:6": "type_id parent_type_id",
    "Artifact:0": f"id type_id uri state:5 name:5 external_id:9 {_NODE_TIMES}",
    "Execution:0": f"id type_id last_known_state:5 name:5 external_id:9 {_NODE_TIMES}",
    "Context:3": f"id type_id name external_id:9 {_NODE_TIMES}",
    "ArtifactProperty:0": f"artifact_id {_VALUES}",
    "ExecutionProperty:0": f"execution_id {_VALUES}",
    "ContextProperty:3": f"context_id {_VALUES}",
    "ParentContext:6": "context_id parent_context_id",
    "Attribution:4": "id context_id artifact_id",
    "Association:4": "id context_id execution_id",
    "Event:0": "id artifact_id execution_id type milliseconds_since_epoch",
    "EventPath:0": "event_id is_index_step step_index step_key",
}
"""What is read of each table; a number is the schema version that brought a table or a column."""

_BEFORE: Final = {
    "type_kind": "is_artifact_type",
    "create_time_since_epoch": "0",
    "last_update_time_since_epoch": "0",
}
"""What stood, or is read, in the place of columns that a version lacks; NULL for all others."""


class Schema:
    """The tables of one version.

    `tables` has what a query names after FROM for a table, which goes with an alias; `columns` has
    the columns of a table, for a query.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.repeats_events = version < 8
        """Nothing kept two events of one artifact, execution and type apart before version 8."""
        self.tables: dict[str, str] = {}
        self.columns: dict[str, str] = {}
        self._needed: dict[str, list[str]] = {}
        for table, columns in _TABLES.items():
            name, since = _with_version(table)
            self._add(name, since, [_with_version(column) for column in columns.split()])

    def missing(self, found: Mapping[str, set[str]]) -> tuple[str, list[str]] | None:
        """The first table that lacks something among those found, with the columns that it lacks.

        Given are the columns by table, all in lower case.
        """
        for table, needed in self._needed.items():
            lacked = [name for name in needed if name not in found.get(table.lower(), ())]
            if lacked:
                return table, lacked
        return None

    def _add(self, table: str, since: int, columns: list[tuple[str, int]]) -> None:
        self.columns[table] = ", ".join(name for name, _ in columns)
        if self.version < since:
            # Zeros: PostgreSQL takes an untyped NULL for a text, which no id is compared with.
            empty = ", ".join(f"0 AS {name}" for name, _ in columns)
            self.tables[table] = f"(SELECT {empty} FROM Type WHERE 1 = 0)"
            return
        absent = {name for name, added in columns if self.version < added}
        if not absent:
            self.tables[table] = table
        else:
            shown = ", ".join(
                f"{_BEFORE.get(name, 'NULL')} AS {name}" if name in absent else name
                for name, _ in columns
            )
            self.tables[table] = f"(SELECT {shown} FROM {table})"
        needed = [name for name, _ in columns if name not in absent]
        if "type_kind" in absent:
            needed.append(_BEFORE["type_kind"])
        self._needed[table] = needed


def _with_version(text: str) -> tuple[str, int]:
    name, _, version = text.partition(":")
    return name, int(version or 0)
