"""The table of a store's records: made, known again, and what its snapshots say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.iceberg.iceberg_errors import reading

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

_STORE_ID: Final = "eventstore.store-id"
_POSITION: Final = "eventstore.position"
_METRICS: Final = "write.metadata.metrics"

_WITH_BOUNDS: Final = (
    *("position", "commit", "recorded_at", "kind", "entity_id", "type_id", "previous"),
    *("artifact_id", "execution_id", "context_id", "parent_context_id"),
    *("event_type", "event_time"),
)
"""What no erasure takes. Bounds of other columns would stay in the table's metadata after one."""

_PROPERTIES: Final = {
    f"{_METRICS}.default": "counts",
    **{f"{_METRICS}.column.{name}": "full" for name in _WITH_BOUNDS},
    # A commit is planned anew after a conflict: what was planned could be there twice.
    "commit.retry.num-retries": "0",
    # The files are the log: an engine that expires snapshots or drops the table leaves them.
    "gc.enabled": "false",
}


class Head(msgspec.Struct, frozen=True):
    """What a snapshot says of the log as far as it has it; `tree_head` is in hexadecimal."""

    position: int
    tree_head: str


def summary_of(store_id: UUID, head: Head, segment: int) -> dict[str, str]:
    """What the summary of a snapshot says; `segment` is the number of the last one in it."""
    return {
        _STORE_ID: str(store_id),
        _POSITION: str(head.position),
        "eventstore.segment": str(segment),
        "eventstore.tree-head": head.tree_head,
    }


def found_table(catalog: Catalog, name: str, store_id: UUID) -> Table | None:
    """The table of a store's records, or None where there is no table of this name.

    Raises FailedPreconditionError when it is not this store's, or somebody else has written or
    altered it, and DataLossError when its metadata is missing or damaged.
    """
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    try:
        with reading(f"the metadata of the table {name}", name):
            table = catalog.load_table(name)
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
    owner = table.properties.get(_STORE_ID)
    if owner != str(store_id):
        of = f"of the store {owner}" if owner else "of no store"
        raise errors.FailedPreconditionError(
            f"the table {name} is {of}, and this store is {store_id}: name another table"
        )
    snapshot = table.current_snapshot()
    if snapshot is not None and head_of(snapshot, store_id) is None:
        raise errors.FailedPreconditionError(
            f"somebody else has written the table {name}: its snapshot {snapshot.snapshot_id} is "
            "not by `eventstore publish`; roll it back to one that is, or drop the table without "
            "purging it, and publish again"
        )
    _refuse_altered(table, name)
    return table


def _refuse_altered(table: Table, name: str) -> None:
    """Raise FailedPreconditionError where somebody has altered columns, or partitioned the table.

    A column that is added once more is another one, of which older snapshots have nothing.
    """
    from eventstore.log.columns import RECORD_SCHEMA

    advice = "undo that, or drop the table without purging it, and publish again"
    now = {column.name: column for column in table.schema().fields}
    for schema in table.schemas().values():
        for before in schema.fields:
            column = now.get(before.name)
            is_same = column is not None and (column.field_id, column.field_type) == (
                before.field_id,
                before.field_type,
            )
            if before.name in RECORD_SCHEMA.names and not is_same:
                raise errors.FailedPreconditionError(
                    f"somebody else has renamed, deleted or altered the column {before.name} of "
                    f"the table {name}: {advice}"
                )
    if not table.spec().is_unpartitioned():
        raise errors.FailedPreconditionError(
            f"somebody else has partitioned the table {name}, and a file of a store has records of "
            f"all partitions: {advice}"
        )


def made_table(catalog: Catalog, name: str, store_id: UUID) -> Table:
    """A new table without a snapshot; its namespace is made if need be.

    Raises InvalidArgumentError where the catalog does not know where to put it.
    """
    from eventstore.log.columns import RECORD_SCHEMA

    catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
    properties = {**_PROPERTIES, _STORE_ID: str(store_id)}
    try:
        made = catalog.create_table(name, RECORD_SCHEMA, properties=properties)
    except ValueError as error:
        raise errors.InvalidArgumentError(
            f"the catalog does not make the table {name}: {error}; where it does not say itself "
            "where a table keeps its metadata, name a warehouse (--warehouse)"
        ) from None
    with made.transaction() as changes:
        changes.set_properties(_name_mapping(made.schema()))
    return made


def is_up_to_date(table: Table) -> bool:
    """Whether a table has all columns and properties that it needs."""
    from eventstore.log.columns import RECORD_SCHEMA

    known = {column.name for column in table.schema().fields}
    return (
        known.issuperset(RECORD_SCHEMA.names)
        and (_PROPERTIES | _name_mapping(table.schema())).items() <= table.properties.items()
    )


def bring_up_to_date(table: Table) -> None:
    """Give a table the columns and properties that it lacks. None is ever removed."""
    import pyarrow as pa

    from eventstore.log.columns import RECORD_SCHEMA

    known = {column.name for column in table.schema().fields}
    # Files of before lack them, whatever the log says of them now.
    lacking = [field.with_nullable(True) for field in RECORD_SCHEMA if field.name not in known]
    with table.transaction() as changes:
        with changes.update_schema() as columns:
            columns.union_by_name(pa.schema(lacking))
        mapping = _name_mapping(changes.table_metadata.schema())
        changes.set_properties(_PROPERTIES | mapping)


def _name_mapping(schema: Schema) -> dict[str, str]:
    """Which name in a file is which column: the files are as sealed, without ids of columns."""
    return {"schema.name-mapping.default": schema.name_mapping.model_dump_json()}


def head_of(snapshot: Snapshot, store_id: UUID) -> Head | None:
    """What a snapshot of a store's records says of the log; None of any other snapshot."""
    said = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    position, tree_head = said.get(_POSITION, ""), said.get("eventstore.tree-head")
    if said.get(_STORE_ID) != str(store_id) or not position.isdecimal() or not tree_head:
        return None
    return Head(int(position), tree_head)
