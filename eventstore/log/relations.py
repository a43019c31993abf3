"""Check what relates the records of a log to each other, over all of its segments.

DuckDB sorts and groups them, in bounded memory: what does not fit goes to a temporary folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import duckdb
import pyarrow as pa

from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.log import Finding
from eventstore.log.os_errors import check_can_open
from eventstore.log.record_check import TypeUse
from eventstore.log.temporary_folder import TemporaryFolder

COLUMNS: Final = (
    *("position", "commit", "kind", "entity_id", "type_id", "previous", "name", "external_id"),
    *("version", "create_time", "artifact_id", "execution_id", "context_id", "parent_context_id"),
    *("event_type", "salt", "who_salt"),
)
_MEMORY_BYTES_MAX: Final = "512MB"

_NODES: Final = "kind IN ('artifact', 'execution', 'context')"
_TYPES: Final = "kind IN ('artifact_type', 'execution_type', 'context_type')"

_FORMER: Final = f"""
    CREATE TEMP TABLE versions AS
    SELECT *,
        lag(position) OVER entity AS former,
        lead(position) OVER entity AS next,
        CASE
            WHEN lag(position) OVER entity IS NULL THEN NULL
            WHEN {_NODES} AND type_id IS DISTINCT FROM lag(type_id) OVER entity THEN 'type'
            WHEN salt IS NULL OR lag(salt) OVER entity IS NULL THEN NULL
            WHEN create_time IS DISTINCT FROM lag(create_time) OVER entity THEN 'create time'
            WHEN kind <> 'context' AND name IS DISTINCT FROM lag(name) OVER entity THEN 'name'
            WHEN version IS DISTINCT FROM lag(version) OVER entity THEN 'version'
        END AS changed
    FROM records
    WHERE (kind, entity_id) IN (
        SELECT (kind, entity_id) FROM records GROUP BY kind, entity_id HAVING count(*) > 1
    )
    WINDOW entity AS (PARTITION BY kind, entity_id ORDER BY position)
"""
"""The records of entities that have several, each with its neighbours and what may not change."""

_HOLDERS: Final = """
    WITH keyed AS (SELECT position, commit, kind, entity_id, {group} AS among, {key} AS key
                   FROM records WHERE {condition}),
    shared AS (SELECT among, key FROM keyed GROUP BY among, key
               HAVING count(DISTINCT (kind, entity_id)) > 1),
    spans AS (SELECT keyed.*, versions.next FROM keyed SEMI JOIN shared USING (among, key)
              LEFT JOIN versions USING (position)),
    taken AS (SELECT *, lag((kind, entity_id)) OVER held AS holder, lag(next) OVER held AS until,
                     count(*) OVER held AS place
              FROM spans WINDOW held AS (PARTITION BY among, key ORDER BY position))
    SELECT commit, position, kind || ' ' || entity_id || ' bears the {what} ' || key::VARCHAR
        || ', which another one still has'
    FROM taken
    WHERE place > 1 AND holder <> (kind, entity_id) AND (until IS NULL OR until > position)
"""
"""A key belongs to one entity at a time, from a record of it to its next one."""

_QUERIES: Final = (
    # `previous`, and with it that no id is given twice. What comes before a range is not known.
    """
    SELECT commit, position, replace(kind, '_', ' ') || ' ' || entity_id || CASE
        WHEN previous IS NULL THEN ' is said to be new, it was put at position ' || former
        ELSE ' is said to replace position ' || previous || ', which '
            || coalesce('is not its former one, ' || former, 'is none of its positions') END
    FROM (
        SELECT commit, position, kind, entity_id, previous, former FROM versions
        UNION ALL
        SELECT commit, position, kind, entity_id, previous, NULL FROM records
        WHERE previous IS NOT NULL AND position NOT IN (SELECT position FROM versions)
    )
    WHERE previous IS DISTINCT FROM former AND (former IS NOT NULL OR previous > $after)
    """,
    """
    SELECT commit, position, replace(kind, '_', ' ') || ' ' || entity_id || ' has another '
        || changed || ' than in its record at position ' || former || ', which no put changes'
    FROM versions WHERE changed IS NOT NULL
    """,
    f"""
    SELECT max(commit), max(position), 'types of two kinds have id ' || entity_id
    FROM records WHERE {_TYPES} GROUP BY entity_id HAVING count(DISTINCT kind) > 1
    """,
    _HOLDERS.format(
        group="(kind, type_id)", key="name", condition=f"{_NODES} AND name <> ''", what="name"
    ),
    _HOLDERS.format(
        group=f"CASE WHEN {_NODES} THEN kind ELSE 'type' END",
        key="external_id",
        condition=f"({_NODES} OR {_TYPES}) AND external_id <> ''",
        what="external id",
    ),
    *(
        f"""
        SELECT max(commit), max(position),
            '{kind.replace("_", " ")} (' || concat_ws(', ', {ends}) || ') is there twice'
        FROM records WHERE kind = '{kind}' AND salt IS NOT NULL
        GROUP BY {ends} HAVING count(*) > 1
        """
        for kind, ends in (
            ("event", "artifact_id, execution_id, event_type"),
            ("attribution", "context_id, artifact_id"),
            ("association", "context_id, execution_id"),
            ("parent_context", "context_id, parent_context_id"),
        )
    ),
    """
    SELECT max(commit), max(position), 'a salt is there twice, ' || hex(salt)
    FROM (SELECT commit, position, salt FROM records
          UNION ALL SELECT commit, position, who_salt FROM records)
    WHERE salt IS NOT NULL GROUP BY salt HAVING count(*) > 1
    """,
)
_FINDINGS_MAX: Final = 10
"""The most findings of one relation; a forger of many is found by the first few."""


class RelationsUncheckedError(Exception):
    """There was not enough room to compare all records with each other."""


def relation_findings(
    batches: Iterable[pa.RecordBatch], types: Sequence[TypeUse], *, after: int
) -> list[Finding]:
    """What does not hold between records, given with COLUMNS from the one after `after` on.

    `types` are what the nodes among them say of their types. Raises RelationsUncheckedError when
    there is not enough room.
    """
    with TemporaryFolder() as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY_BYTES_MAX,
            "temp_directory": str(folder),
        }
        check_can_open("verifying in", folder)
        connection = duckdb.connect(config=config)
        try:
            schema = pa.schema([RECORD_SCHEMA.field(name) for name in COLUMNS])
            reader = pa.RecordBatchReader.from_batches(schema, batches)
            connection.register("given", reader)
            connection.execute("CREATE TEMP TABLE records AS FROM given")
            connection.execute(_FORMER)
            return [
                *_asked(connection, after),
                *(_type_findings(connection, types) if not after else ()),
            ]
        except duckdb.Error as error:
            raise RelationsUncheckedError(str(error).splitlines()[0]) from None
        finally:
            connection.close()


def _asked(connection: duckdb.DuckDBPyConnection, after: int) -> Iterator[Finding]:
    for query in _QUERIES:
        values = {"after": after} if "$after" in query else {}
        ordered = f"FROM ({query}) AS found ORDER BY 2 LIMIT {_FINDINGS_MAX}"
        for commit, position, what in connection.execute(ordered, values).fetchall():
            yield Finding(f"commit {commit} was changed: {what}", commit=commit, position=position)


def _type_findings(
    connection: duckdb.DuckDBPyConnection, types: Sequence[TypeUse]
) -> Iterator[Finding]:
    """Compare the names of types in nodes with those of the types, which come before them.

    A type that does not exist, as MLMD lets into its databases, has no name.
    """
    rows = connection.execute(
        f"SELECT entity_id, min(position), first(name ORDER BY position), bool_or(salt IS NULL) "
        f"FROM records WHERE {_TYPES} GROUP BY entity_id"
    ).fetchall()
    stored = {type_id: (position, name) for type_id, position, name, erased in rows if not erased}
    erased_ids = {type_id for type_id, _, _, erased in rows if erased}
    # A log that was filled by other means than puts may have none at all.
    for use in types if rows else ():
        position, name = stored.get(use.type_id, (0, None))
        if use.type_id not in erased_ids and (use.name != name or position > use.position):
            yield Finding(
                f"commit {use.commit} was changed: the {use.kind} at position {use.position} says "
                f"that its type {use.type_id} is {use.name!r}, which is {name!r}"
                + (f" and was put at position {position}" if position > use.position else ""),
                commit=use.commit,
                position=use.position,
            )
