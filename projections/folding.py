"""The schema of the DuckDB tables, and the statements that fold a batch of records into them."""

from __future__ import annotations

from typing import Final

from eventstore.log import record as kinds

TABLES_FORMAT_VERSION: Final = 1
NOT_ENDED: Final = 9_223_372_036_854_775_807
"""`valid_to` of the version that is current."""

NODE_TABLES: Final = {
    kinds.ARTIFACT: ("artifacts", "artifact_properties"),
    kinds.EXECUTION: ("executions", "execution_properties"),
    kinds.CONTEXT: ("contexts", "context_properties"),
}
"""The tables of a node kind: one row a version, and one row a property and version."""

FOLDED_COLUMNS: Final = [
    "position",
    "kind",
    "entity_id",
    "type_id",
    "previous",
    "name",
    "external_id",
    "version",
    "uri",
    "state",
    "create_time",
    "update_time",
    "artifact_id",
    "execution_id",
    "context_id",
    "parent_context_id",
    "event_type",
    "event_time",
    "properties",
    "custom_properties",
]
FOLDED_ROWS_MAX: Final = 131_072

NODE_COLUMNS = """
    id BIGINT, type_id BIGINT, name VARCHAR, external_id VARCHAR, uri VARCHAR, state INTEGER,
    create_time BIGINT, update_time BIGINT, valid_from BIGINT, valid_to BIGINT
"""
PROPERTY_COLUMNS = """
    node_id BIGINT, is_custom BOOLEAN, name VARCHAR, int_value BIGINT, double_value DOUBLE,
    string_value VARCHAR, bool_value BOOLEAN, valid_from BIGINT, valid_to BIGINT
"""
SCHEMA: Final = f"""
CREATE TABLE checkpoint (
    format_version INTEGER, store_id VARCHAR, position BIGINT, recorded_at BIGINT
);
CREATE TABLE types (
    id BIGINT, kind VARCHAR, name VARCHAR, version VARCHAR, external_id VARCHAR,
    valid_from BIGINT, valid_to BIGINT
);
CREATE TABLE artifacts ({NODE_COLUMNS});
CREATE TABLE executions ({NODE_COLUMNS});
CREATE TABLE contexts ({NODE_COLUMNS});
CREATE TABLE artifact_properties ({PROPERTY_COLUMNS});
CREATE TABLE execution_properties ({PROPERTY_COLUMNS});
CREATE TABLE context_properties ({PROPERTY_COLUMNS});
CREATE TABLE events (
    artifact_id BIGINT, execution_id BIGINT, type INTEGER, time BIGINT, valid_from BIGINT
);
CREATE TABLE attributions (context_id BIGINT, artifact_id BIGINT, valid_from BIGINT);
CREATE TABLE associations (context_id BIGINT, execution_id BIGINT, valid_from BIGINT);
CREATE TABLE parent_contexts (child_id BIGINT, parent_id BIGINT, valid_from BIGINT);
"""

INSERT_TYPES: Final = """
INSERT INTO types
SELECT entity_id, kind, name, version, external_id, position,
       lead(position, 1, $not_ended) OVER (PARTITION BY entity_id ORDER BY position)
FROM batch
WHERE kind IN ('artifact_type', 'execution_type', 'context_type')
ORDER BY position
"""
INSERT_NODES: Final = """
INSERT INTO {nodes}
SELECT entity_id, type_id, name, external_id, uri, state, create_time, update_time, position,
       lead(position, 1, $not_ended) OVER (PARTITION BY entity_id ORDER BY position)
FROM batch
WHERE kind = $kind AND create_time IS NOT NULL
ORDER BY position
"""
INSERT_PROPERTIES: Final = """
INSERT INTO {properties}
WITH version AS (
    SELECT entity_id, position, properties, custom_properties,
           lead(position, 1, $not_ended) OVER (PARTITION BY entity_id ORDER BY position) AS ended
    FROM batch
    WHERE kind = $kind AND create_time IS NOT NULL
), entry AS (
    SELECT entity_id, position, ended, false AS is_custom, unnest(map_entries(properties)) AS pair
    FROM version
    UNION ALL
    SELECT entity_id, position, ended, true, unnest(map_entries(custom_properties))
    FROM version
)
SELECT entity_id, is_custom, pair.key, pair.value.int_value, pair.value.double_value,
       pair.value.string_value, pair.value.bool_value, position, ended
FROM entry
ORDER BY position
"""
END_REPLACED: Final = """
UPDATE {table} SET valid_to = replacing.position
FROM (
    SELECT previous, position FROM batch
    WHERE previous <= $checkpoint AND kind IN (SELECT unnest($kinds))
) AS replacing
WHERE {table}.valid_from = replacing.previous
"""
INSERT_LINKS: Final = {
    kinds.EVENT: """
INSERT INTO events
SELECT artifact_id, execution_id, event_type, event_time, position
FROM batch WHERE kind = 'event' ORDER BY position
""",
    kinds.ATTRIBUTION: """
INSERT INTO attributions
SELECT context_id, artifact_id, position
FROM batch WHERE kind = 'attribution' ORDER BY position
""",
    kinds.ASSOCIATION: """
INSERT INTO associations
SELECT context_id, execution_id, position
FROM batch WHERE kind = 'association' ORDER BY position
""",
    kinds.PARENT_CONTEXT: """
INSERT INTO parent_contexts
SELECT context_id, parent_context_id, position
FROM batch WHERE kind = 'parent_context' ORDER BY position
""",
}
TYPE_KINDS: Final = (kinds.ARTIFACT_TYPE, kinds.EXECUTION_TYPE, kinds.CONTEXT_TYPE)
