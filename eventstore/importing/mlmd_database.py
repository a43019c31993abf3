"""MLMD's databases: what is in them at one moment, and whether it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from eventstore import errors
from eventstore.importing.mlmd_schema import SCHEMA_VERSIONS, Schema
from eventstore.importing.mlmd_source import MlmdSource, Row
from eventstore.wording import counted

ROWS_AT_ONCE: Final = 10_000
BEFORE_ALL_IDS: Final = -(2**63)

_TABLES_OF_VERSION_0: Final = ("type", "typeproperty", "artifact", "execution", "event")


class MlmdDatabase:
    """An MLMD database, read as it was at one moment.

    It is not changed, and what others commit meanwhile is not seen before `look_again`. Methods
    raise what those of its source do.
    """

    def __init__(self, source: MlmdSource) -> None:
        """Raises FailedPreconditionError when this is no database to import."""
        self.source = source
        self.schema = self._begin()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def described(self) -> str:
        """What records say of it."""
        return f"{self.source.short_name}, MLMD schema version {self.schema.version}"

    def look_again(self) -> None:
        """See from here on what is committed by now."""
        self.source.end()
        self.schema = self._begin()

    def rows(self, sql: str, **parameters: int | Sequence[int]) -> Sequence[Row]:
        """All rows of a query; `{Artifact}` stands for a table as of the newest schema."""
        return self.source.rows(self._named(sql), parameters)

    def table(self, name: str) -> str:
        """A query of all columns of a table, to be continued."""
        return f"SELECT {self.schema.columns[name]} FROM {self.schema.tables[name]} AS this"

    def pages(self, sql: str, key: str = "id") -> Iterator[Row]:
        """The rows of a query by ascending ids, some at a time.

        It names `:after`, of which it wants the ids that are higher.
        """
        sql = f"{self._named(sql)} ORDER BY {key} LIMIT {ROWS_AT_ONCE}"
        after = BEFORE_ALL_IDS
        while rows := self.source.rows(sql, {"after": after}):
            yield from rows
            after = rows[-1]["id"]

    def number(self, sql: str) -> int:
        """The column `number` of the first row of a query, 0 for NULL."""
        return int(self.rows(sql)[0]["number"] or 0)

    def count(self) -> int:
        """How many types, nodes and links there are, duplicate events of old schemas included."""
        tables = ("Type", "Artifact", "Execution", "Context")
        links = ("ParentContext", "Attribution", "Association", "Event")
        return sum(
            self.number(f"SELECT count(*) AS number FROM {{{table}}} AS this")
            for table in tables + links
        )

    def parent_contexts(self) -> Iterator[tuple[int, int]]:
        """(child, parent) of every parent context, ascending."""
        sql = self._named(
            """
            SELECT context_id, parent_context_id FROM {ParentContext} AS this
            WHERE context_id > :child OR (context_id = :child AND parent_context_id > :parent)
            ORDER BY context_id, parent_context_id
            """
        )
        child = parent = BEFORE_ALL_IDS
        while rows := self.source.rows(
            f"{sql} LIMIT {ROWS_AT_ONCE}", {"child": child, "parent": parent}
        ):
            for row in rows:
                child, parent = row["context_id"], row["parent_context_id"]
                yield child, parent

    def repeated_events(self) -> set[int]:
        """The ids of events that are not read: MLMD's own migration keeps the newest of a key."""
        if not self.schema.repeats_events:
            return set()
        rows = self.rows(
            """
            SELECT id FROM Event WHERE id NOT IN (
                SELECT max(id) FROM Event GROUP BY artifact_id, execution_id, type
            )
            """
        )
        return {row["id"] for row in rows}

    def damaged(self, table: str, row_id: int | str, what: object) -> errors.DataLossError:
        """The error to raise for a row that cannot be read."""
        return errors.DataLossError(
            f"{self.name}, table {table}, id {row_id}: {what}; mend the row and import again"
        )

    def _named(self, sql: str) -> str:
        return sql.format_map(self.schema.tables)

    def _begin(self) -> Schema:
        """Check that this is a database to import; its schema."""
        self.source.begin()
        tables = self.source.tables()
        if "mlmdenv" in tables:
            version = self._version()
        elif "is_artifact_type" in tables.get("type", ()) and all(
            table in tables for table in _TABLES_OF_VERSION_0
        ):
            version = 0
        else:
            raise errors.FailedPreconditionError(
                f"{self.name} is {self.source.kind}, but not one of MLMD's: it has no table MLMDEnv"
                f"{self.source.hidden}"
            )
        schema = Schema(version)
        missing = schema.missing(tables)
        if missing is not None:
            table, columns = missing
            raise errors.DataLossError(
                f"{self.name} has MLMD schema version {version}, but table {table} is missing or "
                f"lacks {', '.join(columns)}: restore the database and import again"
            )
        return schema

    def _version(self) -> int:
        versions = [row["schema_version"] for row in self.source.rows("SELECT * FROM MLMDEnv", {})]
        if len(versions) != 1:
            raise errors.DataLossError(
                f"{self.name} has {counted(len(versions), 'row')} in table MLMDEnv where one "
                "belongs: leave the one with the database's schema version and import again"
            )
        version: int = versions[0]
        if version not in SCHEMA_VERSIONS:
            raise errors.FailedPreconditionError(
                f"{self.name} has MLMD schema version {version}; versions {SCHEMA_VERSIONS[0]} to "
                f"{SCHEMA_VERSIONS[-1]} can be imported: bring a copy to one of them with "
                "ml-metadata (downgrade_schema)"
            )
        return version
