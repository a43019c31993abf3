"""What is answered of nodes whose content is erased."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from eventstore.log import Log
from eventstore.log.kinds import NODE_KINDS, NodeKind
from eventstore.log.readable import read_message
from eventstore.log.scattered import positions_in
from eventstore.projections.erasures import Erasures
from eventstore.projections.index_tables import TABLES_OF, Entry

if TYPE_CHECKING:
    import pyarrow as pa

    from eventstore.projections.index_look_ups import LevelLookUps

ERASED_BY: Final = "erased_by"
"""The custom property of a tombstone that has the number of its erasure."""

_TOMBSTONES_MAX: Final = 4_096

_NODES_IN: Final[Mapping[int, NodeKind]] = {TABLES_OF[kind].stored: kind for kind in NODE_KINDS}
"""The tables of versions of nodes. Nothing else loses its content."""


class Tombstone(bytes):
    """The serialized node that is answered in place of one whose content is erased."""


class ErasedAnswers:
    """Answers versions of nodes whose content is erased, whatever the index holds of them."""

    def __init__(self, log: Log, erasures: Erasures) -> None:
        self._erasures = erasures
        self._erased: pa.Array | None = None

        @lru_cache(maxsize=_TOMBSTONES_MAX)
        def tombstone(
            kind: NodeKind,
            node_id: int,
            type_id: int,
            declared: bytes | None,
            position: int,
            number: int,
        ) -> Tombstone:
            recorded_ms = log.recorded_at(position) // 1_000
            node = kind.message(
                id=node_id,
                type_id=type_id,
                create_time_since_epoch=recorded_ms,
                last_update_time_since_epoch=recorded_ms,
            )
            node.custom_properties[ERASED_BY].int_value = number
            if declared is not None:
                node.type = read_message(kind.type.message, declared).name
            return Tombstone(node.SerializeToString(deterministic=True))

        self._tombstone = tombstone

    def entry(self, levels: LevelLookUps, table: int, entry: Entry) -> Entry:
        """What is answered for an entry that was found in levels."""
        kind = _NODES_IN.get(table)
        answer = None if kind is None else self._erasures.answer_of(entry[0])
        if kind is None or answer is None:
            return entry
        return entry[0], self._answer(levels, kind, entry, answer)

    def values(
        self, levels: LevelLookUps, table: int, positions: pa.Array, values: pa.Array
    ) -> pa.Array:
        """What is answered for the values at these positions, of which mostly few are erased."""
        import pyarrow.compute as compute

        from eventstore.log.arrow_values import array_of

        if table not in _NODES_IN:
            return values
        if self._erased is None:
            self._erased = positions_in(self._erasures.erased.content)
        is_erased = compute.is_in(positions, value_set=self._erased)
        columns = (column.filter(is_erased).to_pylist() for column in (positions, values))
        rows = zip(*columns, strict=True)
        answers = [self.entry(levels, table, entry)[1] for entry in rows]
        if not answers:
            return values
        return compute.replace_with_mask(values, is_erased, array_of(answers, values.type))

    def _answer(
        self, levels: LevelLookUps, kind: NodeKind, entry: Entry, answer: tuple[int, int]
    ) -> bytes:
        (position, payload), (number, replaced_by) = entry, answer
        node = read_message(kind.message, payload)
        if replaced_by:
            found = levels.newest_stored(TABLES_OF[kind].stored, node.id, replaced_by)
            if found is not None and found[0] == replaced_by:
                return found[1]
        declared = levels.newest_stored(TABLES_OF[kind.type].stored, node.type_id, position)
        payload_of_type = None if declared is None else declared[1]
        return self._tombstone(kind, node.id, node.type_id, payload_of_type, position, number)
