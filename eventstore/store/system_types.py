"""The nine system types that every store holds, and their creation."""

from __future__ import annotations

from typing import Final

from eventstore.log.kinds import ARTIFACT, EXECUTION, TYPE_SEQUENCE, NodeKind
from eventstore.store.transaction import Transaction

SYSTEM_TYPES: Final[tuple[tuple[NodeKind, str], ...]] = (
    (ARTIFACT, "mlmd.Dataset"),
    (ARTIFACT, "mlmd.Model"),
    (ARTIFACT, "mlmd.Metrics"),
    (ARTIFACT, "mlmd.Statistics"),
    (EXECUTION, "mlmd.Train"),
    (EXECUTION, "mlmd.Transform"),
    (EXECUTION, "mlmd.Process"),
    (EXECUTION, "mlmd.Evaluate"),
    (EXECUTION, "mlmd.Deploy"),
)
SYSTEM_TYPE_NAMES: Final = frozenset(name for _, name in SYSTEM_TYPES)


def put_system_types(transaction: Transaction, _: None) -> None:
    """Add the system types that are missing; in a fresh store they take the ids 1 to 9."""
    for kind, name in SYSTEM_TYPES:
        if transaction.type_by_name(kind, name, None) is None:
            (type_id,) = transaction.next_ids(TYPE_SEQUENCE)
            transaction.write(kind.type, kind.type.message(id=type_id, name=name))
