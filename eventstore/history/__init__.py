"""What happened to entities, when, by whom and why; and what differs between two moments."""

from eventstore.history.changes import CommitChanges, EntityChange, changes
from eventstore.history.differences import (
    EntityDifference,
    LineageDifference,
    differences,
    lineage_difference,
)
from eventstore.history.fields import FieldChange
from eventstore.history.following import follow
from eventstore.history.marks import ErasedBy
from eventstore.history.versions import Version, context_history, history

__all__ = [
    "CommitChanges",
    "EntityChange",
    "EntityDifference",
    "ErasedBy",
    "FieldChange",
    "LineageDifference",
    "Version",
    "changes",
    "context_history",
    "differences",
    "follow",
    "history",
    "lineage_difference",
]
