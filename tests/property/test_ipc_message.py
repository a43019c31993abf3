"""Arrow reads what is written as a commit's message, and would have written the same."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from eventstore.log import record as kind_names
from eventstore.log.columns import ACTIVE_SCHEMA
from eventstore.log.commit import records_of
from eventstore.log.ipc_message import (
    BODY_LENGTH_AT,
    BUFFERS_AT,
    CHECKSUM_BYTES,
    NODES_AT,
    ROWS_AT,
    commit_message,
    commit_of_message,
    lacks_values,
)
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
        lacks_content, lacks_who = draw(st.booleans()), draw(st.booleans())
        record = Record(
            position=first_position + index,
            commit=number,
            recorded_at=recorded_at,
            kind=draw(st.sampled_from(kind_names.KIND_NAMES)),
            entity_id=draw(INT64S),
            type_id=draw(st.none() | INT64S),
            previous=draw(st.none() | INT64S),
            actor=actor,
            reason=reason,
            request_id=request_id,
            salt=None if lacks_content else draw(st.binary(min_size=16, max_size=16)),
            payload=None if lacks_content else draw(st.binary(max_size=40)),
            commitment=None,
            who_salt=None if lacks_who else draw(st.binary(min_size=16, max_size=16)),
            who_commitment=None,
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


@given(commits())
def test_the_commit_is_read_from_the_message(commit: Commit) -> None:
    assert commit_of_message(commit_message(commit)) == commit


NUMBERS_AT = [BODY_LENGTH_AT, ROWS_AT, *range(BUFFERS_AT, NODES_AT - 8, 8)]
NUMBERS_AT += range(NODES_AT, NODES_AT + 240, 8)


@given(commits(), st.data())
def test_what_is_read_from_any_message_is_what_arrow_reads(commit: Commit, data: Any) -> None:
    message = bytearray(commit_message(commit))
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(message) - 1))
            message[place] ^= data.draw(st.integers(1, 255))
        else:
            place = data.draw(st.sampled_from(NUMBERS_AT))
            before = struct.unpack_from("<q", message, place)[0]
            number = before + data.draw(st.sampled_from([-8, -1, 1, 8, 2**40]))
            struct.pack_into("<q", message, place, number)
    read = commit_of_message(message)
    if read is not None:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), ACTIVE_SCHEMA)
        batch.validate(full=True)
        assert not lacks_values(memoryview(message))
        assert tuple(records_of(batch)) == read.records
        assert batch.column("tree_head").to_pylist()[-1] == read.tree_head


RECORD = Record(
    position=7,
    commit=3,
    recorded_at=1_700_000,
    kind=kind_names.ARTIFACT,
    entity_id=5,
    type_id=4,
    previous=2,
    actor="a",
    reason="b",
    request_id="c",
    salt=bytes(16),
    payload=b"p",
    commitment=None,
    who_salt=bytes(16),
    who_commitment=None,
)
EMPTY = structs.replace(
    RECORD, position=8, kind=kind_names.EVENT, salt=None, payload=None, who_salt=None
)


def test_what_precedes_the_body_is_arrows_own() -> None:
    columns = [pa.nulls(1, field.type) for field in ACTIVE_SCHEMA]
    made = pa.RecordBatch.from_arrays(columns, names=ACTIVE_SCHEMA.names)
    message = bytearray(made.serialize().to_pybytes())
    record = RECORD
    ours = bytearray(commit_message(Commit(3, 1_700_000, bytes(32), (record,))))
    for place in NUMBERS_AT:
        message[place : place + 8] = ours[place : place + 8] = bytes(8)
    end = 8 + int.from_bytes(message[4:8], "little")
    assert message[:end] == ours[:end]


def test_a_message_without_nulls_in_a_column_is_arrows_own_to_the_byte() -> None:
    record, empty = RECORD, EMPTY
    for records in ((record,), (empty,), (record, empty, record)):
        commit = Commit(3, 1_700_000, bytes(32), records)
        assert len(commit_message(commit)) == len(batch_of(commit).serialize().to_pybytes())
