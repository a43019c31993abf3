"""What the log no longer has of erased records, made up as far as the point index needs it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from eventstore.log import Log, records_at
from eventstore.log.erased import Spans
from eventstore.log.forking import renew_in_children
from eventstore.log.kinds import ERASURE, NODE_KINDS_BY_NAME, NodeKind
from eventstore.log.scattered import positions_in
from eventstore.projections.erasures import NONE_KNOWN, Erasures

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS: Final = ("name", "external_id", "uri")
"""The columns of nodes that others are found by."""


def stub(kind: NodeKind, node_id: int, type_id: int | None) -> bytes:
    """What the index holds of a node whose content the log no longer has."""
    payload: bytes = kind.message(id=node_id, type_id=type_id).SerializeToString(deterministic=True)
    return payload


def erasure_records(log: Log, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
    """The records of erasures after a position, and up to one: their positions and payloads."""
    import pyarrow as pa
    import pyarrow.compute as compute

    from eventstore.log.arrow_values import scalar_of

    erasure = scalar_of(ERASURE.name, pa.string())
    found = []
    for batch in log.scan(after, upto, ["position", "kind"]):
        is_erasure = compute.equal(batch["kind"], erasure)
        found += batch["position"].filter(is_erasure).to_pylist()
    return [
        (position, batch["payload"][0].as_py())
        for position in found
        for batch in log.scan(position - 1, position, ["payload"])
    ]


class ErasedRecords:
    """Knows what takes the place of erased records that are folded.

    A log that no longer has the content of a record has the record that erased it farther on: that
    is read then, before it is folded itself.
    """

    def __init__(self, log: Log, erasures: Erasures = NONE_KNOWN) -> None:
        """`erasures` are those up to where the log is folded."""
        self._log = log
        self.erasures = erasures
        self._seen = 0
        """How far the log has been read ahead."""
        self._all, self._all_to = erasures, erasures.position
        """All erasures up to a position; those read ahead may lack one that comes before."""
        self._mutex = threading.RLock()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        self._mutex = threading.RLock()

    def learn(self, erasures: Erasures, folded: int) -> None:
        """Know all erasures up to the position that is folded, unless they were read already."""
        with self._mutex:
            if erasures.position >= self._all.position:
                self._all = erasures
            self._all_to = max(self._all_to, folded, erasures.position)
            if erasures.position > self.erasures.position:
                self.erasures = erasures
                self._log.conceal(erasures.all_pending())

    def note_folded(self, position: int) -> None:
        """Know that there is no erasure up to a position that was not learned."""
        self._all_to = max(self._all_to, position)

    def all_by_now(self) -> Erasures:
        """All erasures that anybody has recorded by now; the log is read as they say from here."""
        self._log.refresh()
        with self._mutex:
            end = self._log.position
            if end > self._all_to:
                found = erasure_records(self._log, self._all_to, end)
                # Others may have learned them meanwhile.
                found = [record for record in found if record[0] > self._all.position]
                if found:
                    self._all = self.erasures = self._all.with_records(found)
                    self._log.conceal(self.erasures.all_pending())
                self._all_to = max(self._all_to, end)
            return self._all

    def is_erased(self, position: int) -> bool:
        """Whether the content of a record is erased, as far as is known."""
        return self.erasures.span_of(position) is not None

    def replacement_of(self, position: int) -> bytes | None:
        """The payload that is answered for a record without content, if there is one."""
        self._look_ahead_of(position)
        _, replaced_by = self.erasures.answer_of(position) or (0, 0)
        if not replaced_by:
            return None
        (batch,) = self._log.scan(replaced_by - 1, replaced_by, ["payload"])
        payload: bytes | None = batch["payload"][0].as_py()
        return payload

    def completed(self, records: pa.RecordBatch) -> pa.RecordBatch:
        """Records with the columns that entries are made of, as if nothing were erased of nodes.

        What is answered for such a node is in the columns by which it is found, and a stub is its
        payload. A version after one that is erased is as good as the first.
        """
        import pyarrow.compute as compute

        from eventstore.log.arrow_values import array_of, scalar_of

        if records["payload"].null_count:
            names = array_of([*NODE_KINDS_BY_NAME], records["kind"].type)
            is_node = compute.is_in(records["kind"], value_set=names)
            is_bare = compute.and_(is_node, records["payload"].is_null())
            bare = records.filter(is_bare)
            if bare.num_rows:
                records = self._with_keys(records, bare)
                of_each = (bare[name].to_pylist() for name in ("kind", "entity_id", "type_id"))
                stubs = [
                    stub(NODE_KINDS_BY_NAME[kind], *ids)
                    for kind, *ids in zip(*of_each, strict=True)
                ]
                records = _replaced(records, "payload", is_bare, stubs)
        if not self.erasures:
            return records
        is_after = compute.is_in(
            records["previous"], value_set=positions_in(self.erasures.erased.content)
        )
        nothing = scalar_of(None, records["previous"].type)
        return _with(records, "previous", compute.if_else(is_after, nothing, records["previous"]))

    def _with_keys(self, records: pa.RecordBatch, bare: pa.RecordBatch) -> pa.RecordBatch:
        """Records in which those that are `bare` have the keys of what is answered for them."""
        positions = bare["position"].to_pylist()
        for position in positions:
            self._look_ahead_of(position)
        answers = [(position, self.erasures.answer_of(position)) for position in positions]
        replaced = {position: found[1] for position, found in answers if found and found[1]}
        if not replaced:
            return records
        import pyarrow as pa
        import pyarrow.compute as compute

        from eventstore.log.arrow_values import array_of

        contents = self._rows(replaced.values())
        is_replaced = compute.is_in(
            records["position"], value_set=array_of([*replaced], pa.int64())
        )
        for name in _KEYS:
            values = [contents[by][name] for by in replaced.values()]
            records = _replaced(records, name, is_replaced, values)
        return records

    def _rows(self, positions: Iterable[int]) -> dict[int, dict[str, str | None]]:
        """By position the keys of records."""
        wanted = {*positions}
        found = {position: dict.fromkeys(_KEYS) for position in wanted}
        spans = Spans.of((position, position) for position in wanted)
        for batch in records_at(self._log, spans, ["position", *_KEYS]):
            found |= {row.pop("position"): row for row in batch.to_pylist()}
        return found

    def _look_ahead_of(self, position: int) -> None:
        """Read the erasures that come after a record, unless they are known."""
        with self._mutex:
            if self.is_erased(position) or self._seen >= self._log.position:
                return
            after, self._seen = max(position, self.erasures.position), self._log.position
            self.erasures = self.erasures.with_records(erasure_records(self._log, after))
            self._log.conceal(self.erasures.all_pending())


def _replaced(
    records: pa.RecordBatch, name: str, mask: pa.Array, values: list[bytes] | list[str | None]
) -> pa.RecordBatch:
    """Records with other values of a column in the rows of a mask."""
    import pyarrow.compute as compute

    from eventstore.log.arrow_values import array_of

    column = records[name]
    return _with(
        records, name, compute.replace_with_mask(column, mask, array_of(values, column.type))
    )


def _with(records: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    place = records.schema.get_field_index(name)
    return records.set_column(place, records.schema.field(place), column)
