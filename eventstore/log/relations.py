"""Check what relates the records of a log to each other, over all of its segments.

DuckDB sorts and groups them, in bounded memory: what does not fit goes to a temporary folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import duckdb
import msgspec
import pyarrow as pa

from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.erased import Erased
from eventstore.log.erasure_check import CoveringRange, ErasuresInEffect
from eventstore.log.log import Finding
from eventstore.log.os_errors import check_can_open
from eventstore.log.record_check import TypeUse
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.memory_limit import memory_limit_bytes

COLUMNS: Final = (
    *("position", "commit", "kind", "entity_id", "type_id", "previous", "name", "external_id"),
    *("version", "create_time", "artifact_id", "execution_id", "context_id", "parent_context_id"),
    *("event_type", "salt", "who_salt"),
)
_MEMORY_BYTES_MIN: Final = 512 * 1024**2
_MEMORY_BYTES_MAX: Final = 4 * 1024**3
"""Enough for a hundred million records."""

_IN_MEMORY_RECORDS_MAX: Final = 10_000_000

_NODES: Final = "kind IN ('artifact', 'execution', 'context')"
_RETENTION: Final = "kind IN ('retention_rule', 'hold', 'erasure')"
_TYPES: Final = "kind IN ('artifact_type', 'execution_type', 'context_type')"

_HIDDEN: Final = f"""
    CREATE TABLE hidden AS
    SELECT records.position, min(covering.position) AS since
    FROM records JOIN covering ON records.position BETWEEN covering.first AND covering.last
    WHERE {_NODES} AND salt IS NOT NULL AND covering.content
    GROUP BY records.position
"""
"""The nodes' records whose content is erased, though it is not destroyed yet, and since when."""

_FORMER: Final = f"""
    CREATE TABLE versions AS
    SELECT *,
        lag(position) OVER entity AS former,
        lead(position) OVER entity AS next,
        is_replacement AND commit = lead(commit) OVER entity AS is_passed,
        CASE
            WHEN lag(position) OVER entity IS NULL THEN NULL
            WHEN {_NODES} AND type_id IS DISTINCT FROM lag(type_id) OVER entity THEN 'type'
            WHEN salt IS NULL OR lag(salt) OVER entity IS NULL THEN NULL
            WHEN lag(since) OVER entity < position THEN NULL
            WHEN create_time IS DISTINCT FROM lag(create_time) OVER entity THEN 'create time'
            WHEN version IS DISTINCT FROM lag(version) OVER entity THEN 'version'
            -- What a redacted version is replaced by may lack the name of the one before.
            WHEN is_replacement OR (
                lag(is_replacement) OVER entity AND commit = lag(commit) OVER entity) THEN NULL
            WHEN kind <> 'context' AND name IS DISTINCT FROM lag(name) OVER entity THEN 'name'
        END AS changed
    FROM (
        SELECT records.*, since, position IN (SELECT replaced_by FROM covering) AS is_replacement
        FROM records LEFT JOIN hidden USING (position)
    )
    WHERE (kind, entity_id) IN (
        SELECT (kind, entity_id) FROM records GROUP BY kind, entity_id HAVING count(*) > 1
    )
    WINDOW entity AS (PARTITION BY kind, entity_id ORDER BY position)
"""
"""The records of entities that have several, each with its neighbours and what may not change.

A replacement that its own commit replaces again is passed: at no time is it the entity's state.
"""

_HOLDERS: Final = """
    WITH keyed AS (SELECT position, commit, kind, entity_id, {group} AS among, {key} AS key
                   FROM records WHERE {condition}
                       AND position NOT IN (SELECT position FROM versions WHERE is_passed)),
    shared AS (SELECT among, key FROM keyed GROUP BY among, key
               HAVING count(DISTINCT (kind, entity_id)) > 1),
    spans AS (SELECT keyed.*, least(versions.next, hidden.since) AS next
              FROM keyed SEMI JOIN shared USING (among, key)
              LEFT JOIN versions USING (position) LEFT JOIN hidden USING (position)),
    taken AS (SELECT *, lag((kind, entity_id)) OVER held AS holder, lag(next) OVER held AS until,
                     count(*) OVER held AS place
              FROM spans WINDOW held AS (PARTITION BY among, key ORDER BY position))
    SELECT commit, position, kind || ' ' || entity_id || ' bears the {what} ' || key::VARCHAR
        || ', which another one still has'
    FROM taken
    WHERE place > 1 AND holder <> (kind, entity_id) AND (until IS NULL OR until > position)
"""
"""A key belongs to one entity at a time, from a record of it to its next one, or its erasure."""

_UNCOVERED: Final = """
    SELECT commit, position, replace(kind, '_', ' ') || ' ' || entity_id
        || ' is without {what}, and no erasure after it covers that: where a copy was broken off '
        || 'here, go on with it'
    FROM (SELECT * FROM records WHERE {salt} IS NULL) AS erased
    ASOF LEFT JOIN {spans} ON erased.position >= {spans}.first
    WHERE coalesce({spans}.last, 0) < erased.position
"""

_NOT_DESTROYED: Final = """
    SELECT commit, position, replace(kind, '_', ' ') || ' ' || entity_id
        || ' still has {what}, which an erasure says was destroyed'
    FROM (SELECT * FROM records WHERE {salt} IS NOT NULL) AS kept
    ASOF JOIN {spans} ON kept.position >= {spans}.first
    WHERE {spans}.last >= kept.position
"""

_TO_THE_END: Final = (
    _UNCOVERED.format(what="content", salt="salt", spans="content_erased"),
    _UNCOVERED.format(what="who put it", salt="who_salt", spans="who_erased"),
)
"""What later records may answer."""

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
    _NOT_DESTROYED.format(what="content", salt="salt", spans="content_destroyed"),
    _NOT_DESTROYED.format(what="who put it", salt="who_salt", spans="who_destroyed"),
    f"""
    SELECT covering.commit, covering.position, 'erasure ' || number || ' covers '
        || CASE WHEN {_NODES} OR NOT content THEN 'what' ELSE 'the content of what' END
        || ' is never erased, ' || replace(kind, '_', ' ') || ' ' || entity_id
    FROM covering JOIN records ON records.position BETWEEN covering.first AND covering.last
    WHERE {_RETENTION} OR (content AND NOT {_NODES})
    """,
    """
    SELECT covering.commit, covering.position, 'erasure ' || number || ' replaces '
        || coalesce(erased.kind || ' ' || erased.entity_id, 'what') || ' by position '
        || replaced_by || ', which is no record of it in the commit of the erasure'
    FROM covering LEFT JOIN records AS left_over ON left_over.position = replaced_by
    LEFT JOIN records AS erased ON erased.position BETWEEN covering.first AND covering.last
    WHERE replaced_by > 0 AND (
        left_over.commit IS DISTINCT FROM covering.commit
        OR erased.kind <> left_over.kind OR erased.entity_id <> left_over.entity_id)
    """,
)
_FINDINGS_MAX: Final = 10
"""The most findings of one relation; a forger of many is found by the first few."""


class RelationsUncheckedError(Exception):
    """There was not enough room to compare all records with each other."""


class Related(msgspec.Struct, frozen=True):
    """What is known of the records that follow `after` up to `upto`, to be compared with them.

    `types` are what the nodes among them say of their types. `is_to_end` says whether they are all
    the others: an erasure comes after what it covers.
    """

    after: int
    upto: int
    types: Sequence[TypeUse]
    erasures: ErasuresInEffect
    is_to_end: bool


def relation_findings(
    batches: Iterable[pa.RecordBatch],
    related: Related,
    erased_later: Callable[[], Erased] = Erased,
) -> list[Finding]:
    """What does not hold between records, given with COLUMNS.

    `erased_later` is called once they are read, if that is to the end: what erasures after them
    cover. Raises RelationsUncheckedError when there is not enough room.
    """
    with TemporaryFolder() as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{_memory_bytes()}B",
            # Nothing here is in an order that has to be kept.
            "preserve_insertion_order": False,
            "temp_directory": str(folder),
        }
        check_can_open("verifying in", folder)
        # Tables in memory are written uncompressed, in whole, where they do not fit.
        in_memory = related.upto - related.after <= _IN_MEMORY_RECORDS_MAX
        connection = duckdb.connect(
            ":memory:" if in_memory else folder / "records.duckdb", config=config
        )
        try:
            schema = pa.schema([RECORD_SCHEMA.field(name) for name in COLUMNS])
            reader = pa.RecordBatchReader.from_batches(schema, batches)
            connection.register("given", reader)
            connection.execute("CREATE TABLE records AS FROM given")
            later = erased_later() if related.is_to_end else Erased()
            _add_erasures(connection, related.erasures, later)
            for statement in (_HIDDEN, _FORMER):
                connection.execute(statement)
            return [
                *related.erasures.findings,
                *_asked(connection, related),
                *(_type_findings(connection, related.types) if not related.after else ()),
            ]
        except duckdb.Error as error:
            raise RelationsUncheckedError(str(error).splitlines()[0]) from None
        finally:
            connection.close()


def _memory_bytes() -> int:
    """A quarter of what there is, within bounds: others work here, too, such as a server."""
    return max(_MEMORY_BYTES_MIN, min(_MEMORY_BYTES_MAX, memory_limit_bytes() // 2))


def _add_erasures(
    connection: duckdb.DuckDBPyConnection, erasures: ErasuresInEffect, later: Erased
) -> None:
    erased = erasures.erased.union(later)
    names = CoveringRange._fields
    tables = {"covering": (names, erasures.ranges)} | {
        name: (("first", "last"), [*spans])
        for name, spans in (
            ("content_erased", erased.content),
            ("who_erased", erased.who),
            ("content_destroyed", erasures.destroyed.content),
            ("who_destroyed", erasures.destroyed.who),
        )
    }
    for name, (columns, rows) in tables.items():
        types = [pa.bool_() if column in ("content", "who") else pa.int64() for column in columns]
        values = [*zip(*rows, strict=True)] or [()] * len(columns)
        arrays = [pa.array(of, kind) for of, kind in zip(values, types, strict=True)]
        connection.register("given_spans", pa.table(arrays, [*columns]))
        connection.execute(f"CREATE TABLE {name} AS FROM given_spans")


def _asked(connection: duckdb.DuckDBPyConnection, related: Related) -> Iterator[Finding]:
    for query in (*_QUERIES, *(_TO_THE_END if related.is_to_end else ())):
        values = {"after": related.after} if "$after" in query else {}
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
        f"SELECT entity_id, min(position), first(name ORDER BY position) "
        f"FROM records WHERE {_TYPES} GROUP BY entity_id"
    ).fetchall()
    stored = {type_id: (position, name) for type_id, position, name in rows}
    # A log that was filled by other means than puts may have none at all.
    for use in types if rows else ():
        position, name = stored.get(use.type_id, (0, None))
        if use.name != name or position > use.position:
            yield Finding(
                f"commit {use.commit} was changed: the {use.kind} at position {use.position} says "
                f"that its type {use.type_id} is {use.name!r}, which is {name!r}"
                + (f" and was put at position {position}" if position > use.position else ""),
                commit=use.commit,
                position=use.position,
            )
