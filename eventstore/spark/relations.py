"""The base relations of the views, selected from the rows of sealed segments.

They are what the folded tables are in DuckDB. What is small, types and what erasures took away, is
read first and handed to Spark; all else is a query over the files.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.kinds import ERASURE, TYPE_KINDS
from eventstore.projections.erased_nodes import ERASED_BY
from eventstore.projections.erasures import Erasures
from eventstore.projections.table_changes import NODE_TABLES, NOT_ENDED, VALUES
from eventstore.spark.column_types import columns_of, schema_text
from eventstore.spark.locations import Segments
from eventstore.sql.definitions import LOG_RECORDS, RECORD_COLUMNS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_CONTENT: Final = (
    *("name", "external_id", "uri", "state", "create_time", "update_time"),
    *("properties", "custom_properties"),
)
"""The columns of a node that its content says."""

_COLUMNS: Final = columns_of(
    field for field in RECORD_SCHEMA if not re.search("salt|commitment|tree_head", field.name)
)
_TYPES: Final = {
    "id": "BIGINT",
    **dict.fromkeys(("kind", "name", "version", "external_id"), "STRING"),
    **dict.fromkeys(("valid_from", "valid_to"), "BIGINT"),
}
_REPLACEMENTS: Final = {
    name: _COLUMNS[name] for name in ("position", "kind", "entity_id", *_CONTENT)
}
_SPANS: Final = dict.fromkeys(("first", "last"), "BIGINT")
_WHO: Final = ("actor", "reason", "request_id")

_KNOWN_COLUMNS: Final = (
    *("position", "kind", "entity_id", "actor", "name", "version", "external_id", "payload"),
)

# Positions from the second of two columns on are no longer of the version.
_NODES: Final = f"""
SELECT
    entity_id AS id, type_id, {", ".join(_CONTENT)}, erased_by, position AS valid_from,
    coalesce(lead(position) OVER (PARTITION BY entity_id ORDER BY position), {NOT_ENDED})
        AS valid_to
FROM {{said}} WHERE kind = '{{kind}}'
"""
_PROPERTIES: Final = f"""
SELECT
    id AS node_id, is_custom, property.key AS name,
    {", ".join(f"property.value.{value} AS {value}" for value in VALUES)}, valid_from, valid_to
FROM (
    SELECT id, false AS is_custom, explode(map_entries(properties)) AS property, valid_from,
        valid_to
    FROM {{nodes}}
    UNION ALL
    SELECT id, true, explode(map_entries(custom_properties)), valid_from, valid_to
    FROM {{nodes}}
)
"""
_LINKS: Final = {
    "events": """
SELECT artifact_id, execution_id, event_type AS type, event_time AS time, position AS valid_from
FROM {records} WHERE kind = 'event' AND artifact_id IS NOT NULL
""",
    "attributions": """
SELECT context_id, artifact_id, position AS valid_from
FROM {records} WHERE kind = 'attribution' AND context_id IS NOT NULL
""",
    "associations": """
SELECT context_id, execution_id, position AS valid_from
FROM {records} WHERE kind = 'association' AND context_id IS NOT NULL
""",
    "parent_contexts": """
SELECT context_id AS child_id, parent_context_id AS parent_id, position AS valid_from
FROM {records} WHERE kind = 'parent_context' AND context_id IS NOT NULL
""",
}
_NOTHING_ERASED: Final = "SELECT *, CAST(NULL AS BIGINT) AS erased_by FROM {records}"
_NUMBER: Final = ", ".join(
    f"'{value}', {'e.number' if value == 'int_value' else 'NULL'}" for value in VALUES
)
_TOMBSTONE: Final = dict.fromkeys(_CONTENT, "NULL") | {
    "create_time": "unix_millis(s.recorded_at)",
    "update_time": "unix_millis(s.recorded_at)",
    "properties": f"CAST(map() AS {_COLUMNS['properties']})",
    "custom_properties": (
        f"CAST(map('{ERASED_BY}', named_struct({_NUMBER})) AS {_COLUMNS['properties']})"
    ),
}
_CONTENT_ERASED: Final = """
SELECT
    s.position, s.kind, s.entity_id, s.type_id, e.number AS erased_by,
    {content}
FROM {{records}} AS s
LEFT JOIN (
    SELECT explode(sequence(first, last)) AS position, number, replaced_by FROM {{erased}}
) AS e ON e.position = s.position
LEFT JOIN {{replacements}} AS r
    ON r.position = e.replaced_by AND r.kind = s.kind AND r.entity_id = s.entity_id
""".format(
    content=", ".join(
        f"CASE WHEN e.position IS NULL THEN s.{name} WHEN r.position IS NULL THEN {tombstone} "
        f"ELSE r.{name} END AS {name}"
        for name, tombstone in _TOMBSTONE.items()
    )
)
_WHO_ERASED: Final = """
SELECT {columns} FROM {{records}} AS s
LEFT JOIN (SELECT explode(sequence(first, last)) AS position FROM {{who_erased}}) AS e
    ON e.position = s.position
""".format(
    columns=", ".join(
        f"CASE WHEN e.position IS NULL THEN s.{name} END AS {name}" if name in _WHO else f"s.{name}"
        for name in RECORD_COLUMNS
    )
)


class KnownRecord(NamedTuple):
    """A record of a type or erasure; `recorded_at` is in µs since the epoch."""

    position: int
    kind: str
    entity_id: int
    actor: str | None
    name: str | None
    version: str | None
    external_id: str | None
    payload: bytes
    recorded_at: int


class Relations:
    """Temporary views under names that nobody else uses, until they are dropped."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._token = f"eventstore_{uuid.uuid4().hex}"
        self.names: dict[str, str] = {}
        """The name of each, by what it is called in definitions."""

    def add(self, name: str, rows: DataFrame) -> None:
        self.names[name] = f"{self._token}_{len(self.names)}"
        rows.createOrReplaceTempView(self.names[name])

    def query(self, text: str) -> DataFrame:
        """A query in which relations are named in braces."""
        return self._spark.sql(text.format(**self.names))

    def local(self, rows: Sequence[tuple[Any, ...]], columns: Mapping[str, str]) -> DataFrame:
        """Rows of this process, with columns of these types."""
        return self._spark.createDataFrame(list(rows), schema_text(columns))

    def drop(self) -> None:
        for name in self.names.values():
            self._spark.catalog.dropTempView(name)


def add_files(relations: Relations, spark: SparkSession, segments: Segments, upto: int) -> None:
    """Add the rows of the files as `files`, and those up to a position as `records`."""
    relations.add("files", _rows_of(relations, spark, [file.url for file in segments.files]))
    relations.add("records", relations.query(f"SELECT * FROM {{files}} WHERE position <= {upto}"))


def known_records(
    relations: Relations, spark: SparkSession, segments: Segments
) -> list[KnownRecord]:
    """The records of types and erasures, of erasures also those that are in no file yet."""
    kinds = ", ".join(f"'{kind.name}'" for kind in (*TYPE_KINDS, ERASURE))
    # Positions first, which takes two small columns of all files.
    found = relations.query(f"SELECT position FROM {{files}} WHERE kind IN ({kinds})").collect()
    positions = sorted(row.position for row in found)
    known: list[KnownRecord] = []
    urls = [
        file.url
        for file in segments.files
        if any(file.first_position <= at <= file.last_position for at in positions)
    ]
    if positions:
        rows = _rows_of(relations, spark, urls).where(
            f"position BETWEEN {positions[0]} AND {positions[-1]} AND kind IN ({kinds})"
        )
        asked = rows.selectExpr(*_KNOWN_COLUMNS, "unix_micros(recorded_at) AS recorded_at")
        known = sorted(KnownRecord(*row) for row in asked.collect())
    return [*known, *_newer_erasures(segments)]


def _rows_of(relations: Relations, spark: SparkSession, urls: Sequence[str]) -> DataFrame:
    if not urls:
        return relations.local([], _COLUMNS)
    # Hadoop hands options on to the reader of Parquet, which compares the sums of pages then.
    checked = spark.read.option("parquet.page.verify-checksum.enabled", "true")
    return checked.schema(schema_text(_COLUMNS)).parquet(*urls)


def _newer_erasures(segments: Segments) -> Iterator[KnownRecord]:
    columns = [*_KNOWN_COLUMNS, "recorded_at"]
    for batch in segments.log.scan(segments.end, None, columns):
        instants = batch["recorded_at"].view(pa.int64()).to_pylist()
        for row, recorded_at in zip(
            batch.select(_KNOWN_COLUMNS).to_pylist(), instants, strict=True
        ):
            if row["kind"] == ERASURE.name:
                yield KnownRecord(**row, recorded_at=recorded_at)


def add_base(
    relations: Relations, segments: Segments, known: Iterable[KnownRecord], upto: int
) -> None:
    """Add the base relations as of a position, by the names of the folded tables."""
    known = list(known)
    erasures = Erasures().with_records(
        (record.position, record.payload) for record in known if record.kind == ERASURE.name
    )
    types = [record for record in known if record.kind != ERASURE.name and record.position <= upto]
    relations.add("types", relations.local(_types(types), _TYPES))
    said, log_records = _NOTHING_ERASED, f"SELECT {', '.join(RECORD_COLUMNS)} FROM {{records}}"
    if erasures.spans:
        _add_erased(relations, segments, erasures)
        said = _CONTENT_ERASED
    if erasures.erased.who:
        spans = list(erasures.erased.who)
        relations.add("who_erased", relations.local(spans, _SPANS))
        log_records = _WHO_ERASED
    relations.add("said", relations.query(said))
    relations.add(LOG_RECORDS, relations.query(log_records))
    for kind, (nodes, properties) in NODE_TABLES.items():
        relations.add(nodes, relations.query(_NODES.replace("{kind}", kind)))
        relations.add(properties, relations.query(_PROPERTIES.replace("{nodes}", f"{{{nodes}}}")))
    for table, query in _LINKS.items():
        relations.add(table, relations.query(query))


def _types(known: Iterable[KnownRecord]) -> list[tuple[Any, ...]]:
    """The rows of the table of types."""
    versions: dict[int, list[KnownRecord]] = {}
    for record in known:
        versions.setdefault(record.entity_id, []).append(record)
    return [
        (
            *(one.entity_id, one.kind, one.name, one.version, one.external_id, one.position),
            following.position if following else NOT_ENDED,
        )
        for of_type in versions.values()
        for one, following in pairwise([*of_type, None])
        if one is not None
    ]


def _add_erased(relations: Relations, segments: Segments, erasures: Erasures) -> None:
    """Add which records have lost their content, and what is answered for them instead."""
    rows = []
    for span in erasures.spans:
        number, replaced_by = erasures.answer_of(span.first) or (span.number, 0)
        rows.append((span.first, span.last, number, replaced_by))
    columns = _SPANS | dict.fromkeys(("number", "replaced_by"), "BIGINT")
    relations.add("erased", relations.local(rows, columns))
    replacements = relations.query(
        f"SELECT {', '.join(_REPLACEMENTS)} FROM {{files}} "
        "WHERE position IN (SELECT replaced_by FROM {erased})"
    )
    newer = {by for *_, by in rows if by > segments.end}
    if newer:
        replacements = replacements.unionByName(
            relations.local([*_newer_contents(segments, newer)], _REPLACEMENTS)
        )
    relations.add("replacements", replacements)


def _newer_contents(segments: Segments, positions: set[int]) -> Iterator[tuple[Any, ...]]:
    """What records hold that are in no file yet."""
    for batch in segments.log.scan(segments.end, None, [*_REPLACEMENTS]):
        for row in batch.to_pylist():
            if row["position"] in positions:
                for name in ("properties", "custom_properties"):
                    row[name] = dict(row[name])
                yield tuple(row[name] for name in _REPLACEMENTS)
