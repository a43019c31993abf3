"""Arrow reads what is written as a commit's message, and would have written the same."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from eventstore.log import record as kinds
from eventstore.log.columns import ACTIVE_SCHEMA
from eventstore.log.ipc_message import CHECKSUM_BYTES, commit_message
from eventstore.log.record import Commit, Record

INT64S = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    number, recorded_at = draw(INT64S), draw(st.integers(0, 2**50))
    first_position = draw(st.integers(1, 2**62))
    actor, reason, request_id = draw(TEXTS), draw(TEXTS), draw(TEXTS)
    records = []
    for index in range(draw(st.integers(1, 20))):
        is_erased = draw(st.booleans())
        record = Record(
            position=first_position + index,
            commit=number,
            recorded_at=recorded_at,
            kind=draw(st.sampled_from(kinds.KINDS)),
            entity_id=draw(INT64S),
            type_id=draw(st.none() | INT64S),
            previous=draw(st.none() | INT64S),
            actor=actor,
            reason=reason,
            request_id=request_id,
            salt=None if is_erased else draw(st.binary(min_size=16, max_size=16)),
            payload=None if is_erased else draw(st.binary(max_size=40)),
            commitment=draw(st.binary(min_size=32, max_size=32)) if is_erased else None,
        )
        records.append(record)
    head = draw(st.binary(min_size=32, max_size=32))
    return Commit(number, recorded_at, head, tuple(records))


def batch_of(commit: Commit) -> pa.RecordBatch:
    names = Record.__struct_fields__
    rows = [{name: getattr(record, name) for name in names} for record in commit.records]
    rows[-1] |= {"tree_head": commit.tree_head, "checksum": bytes(CHECKSUM_BYTES)}
    return pa.RecordBatch.from_pylist(rows, schema=ACTIVE_SCHEMA)


@given(commits())
def test_arrow_reads_the_message_as_the_commit(commit: Commit) -> None:
    message = commit_message(commit)
    batch = pa.ipc.read_record_batch(pa.py_buffer(message), ACTIVE_SCHEMA)
    batch.validate(full=True)
    assert batch.equals(batch_of(commit))
    assert message.endswith(bytes(CHECKSUM_BYTES))
    assert len(message) % 8 == 0


def test_a_message_without_nulls_in_a_column_is_arrows_own_to_the_byte() -> None:
    record = Record(7, 3, 1_700_000, kinds.ARTIFACT, 5, 4, 2, "a", "b", "c", bytes(16), b"p", None)
    erased = Record(8, 3, 1_700_000, kinds.EVENT, 6, 4, 2, "a", "b", "c", None, None, bytes(32))
    for records in ((record,), (erased,), (record, erased, record)):
        commit = Commit(3, 1_700_000, bytes(32), records)
        assert len(commit_message(commit)) == len(batch_of(commit).serialize().to_pybytes())
