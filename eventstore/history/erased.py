"""What is told of records whose content was erased."""

from __future__ import annotations

from typing import Any

from eventstore.history.fields import parsed
from eventstore.log import Record
from eventstore.log.kinds import KINDS, NodeKind
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.index_tables import RETENTION_TABLES, STORED_TABLES
from eventstore.projections.point_index import PointIndex

VERSION_TABLES = STORED_TABLES | {kind.name: table for kind, table in RETENTION_TABLES.items()}
"""Where versions are found, by the kind of what they are of."""


def content_of(index: PointIndex, record: Record) -> Any:
    """The message of a record: what is left of a redacted one, None where it was erased."""
    if record.payload is not None or record.kind not in STORED_TABLES:
        return parsed(record.kind, record.payload)
    return version_at(index, record.kind, record.entity_id, record.position)


def version_at(index: PointIndex, kind: str, entity_id: int, position: int) -> Any:
    """What an entity, rule, hold or erasure said at a position.

    None where it was not there, or that was erased.
    """
    found = index.newest(VERSION_TABLES[kind], entity_id, position)
    if found is None or isinstance(found[1], Tombstone):
        return None
    return parsed(kind, found[1])


def type_name(index: PointIndex, record: Record) -> str | None:
    """The name of the type of a node whose content was erased."""
    kind = KINDS[record.kind]
    if not isinstance(kind, NodeKind) or record.type_id is None:
        return None
    found = version_at(index, kind.type.name, record.type_id, record.position)
    return None if found is None else str(found.name)
