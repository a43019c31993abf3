"""Sealed segments of made-up records: commits, salts, leaves and heads around the rows of blocks.

Leaves of a block need nothing of other blocks, and are a complete subtree. Heads need the
frontier of the tree before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.large_history import world
from benchmarks.large_history.plan import Block, History
from benchmarks.large_history.rows import COLUMNS, block_rows, chosen, joined
from benchmarks.large_history.world import MARKING
from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.leaf import SALT_BYTES, encode_attribution
from eventstore.log.manifest import Segment, sealed_name
from eventstore.log.merkle import Frontier
from eventstore.log.record import KIND_NAMES
from eventstore.log.sealing import ROWS_PER_GROUP, write_parquet
from eventstore.times import Microseconds

_ENVELOPE: Final = np.dtype(
    [
        ("leaf", "u1"),
        ("store_id", "V16"),
        ("position", ">i8"),
        ("commit", ">i8"),
        ("recorded_at", ">i8"),
        ("kind", "u1"),
        ("entity_id", ">i8"),
        ("has_type_id", "u1"),
        ("type_id", ">i8"),
        ("has_previous", "u1"),
        ("previous", ">i8"),
    ]
)
"""The first bytes of a leaf, as FORMAT.md has them."""


class MadeBlock:
    """The records of a block, without heads, and the levels of their tree."""

    def __init__(self, history: History, store_id: UUID, number: int) -> None:
        block = history.block(number)
        self.plan = block
        self.is_whole = block.records == history.block_records
        commits = np.repeat(np.arange(len(block.commits.sizes)), block.commits.sizes)
        numbers = (block.before.commits + 1 + np.arange(len(block.commits.sizes)))[commits]
        times = block.commits.times[commits]
        rows = block_rows(history, block)
        who = _who(block)
        of_commits = pa.array(commits)
        salts = _salts(block)
        levels = [
            _leaves(
                _envelopes(store_id, rows, numbers, times),
                _after_salts(salts[0], rows["payload"].chunk(0)),
                _after_salts(salts[1], _attributions(who).take(of_commits)),
            )
        ]
        while len(levels[-1]) > 1:
            heads = iter(levels[-1])
            level = [
                hashlib.sha256(b"\x01" + left + right).digest()
                for left, right in zip(heads, heads, strict=False)
            ]
            levels.append(level)
        self._levels = levels
        self._columns: dict[str, pa.Array] = {
            **{name: rows[name].chunk(0) for name in COLUMNS},
            "kind": chosen(KIND_NAMES, rows["kind"].to_numpy() - 1),
            "commit": pa.array(numbers),
            "recorded_at": pa.array(times).cast(RECORD_SCHEMA.field("recorded_at").type),
            **{name: texts.take(of_commits) for name, texts in who.items()},
            "salt": salts[0],
            "who_salt": salts[1],
        }

    def subtrees(self, size: int) -> list[bytes]:
        """The complete subtrees of its first records, the largest first."""
        return [
            self._levels[height][(size >> height) - 1]
            for height in range(size.bit_length() - 1, -1, -1)
            if size >> height & 1
        ]

    def head(self) -> list[bytes]:
        """The head of all its records, if it is as long as blocks are."""
        return self._levels[-1] if self.is_whole else []

    def groups(self, before: Sequence[bytes]) -> Iterator[pa.RecordBatch]:
        """Its records with heads, as row groups. `before` are the subtrees before the block."""
        heads: list[bytes | None] = [None] * self.plan.records
        for end in np.cumsum(self.plan.commits.sizes).tolist():
            heads[end - 1] = _head([*before, *self.subtrees(end)])
        self._columns["tree_head"] = pa.array(heads, pa.binary())
        for name in RECORD_SCHEMA.names:
            if name not in self._columns:
                missing = pa.nulls(self.plan.records, RECORD_SCHEMA.field(name).type)
                self._columns[name] = missing
        batch = pa.RecordBatch.from_arrays(
            [self._columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA
        )
        for start in range(0, self.plan.records, ROWS_PER_GROUP):
            yield batch.slice(start, ROWS_PER_GROUP)


def write_segment(
    folder: Path, store_id: UUID, number: int, blocks: Sequence[MadeBlock], before: Frontier
) -> Segment:
    """Write blocks as a segment; its entry for the manifest.

    `before` is the tree before them, which has the heads of blocks for leaves.
    """
    tree = before.copy()
    starts: list[list[bytes]] = []
    for made in blocks:
        starts.append([*tree.subtrees])
        tree.extend(made.head())
    path = folder / sealed_name(number)
    groups = chain.from_iterable(map(MadeBlock.groups, blocks, starts))
    digest = write_parquet(groups, path, store_id, number)
    first, last = blocks[0].plan, blocks[-1].plan
    rest = [] if blocks[-1].is_whole else blocks[-1].subtrees(last.records)
    frontier = [*tree.subtrees, *rest]
    return Segment(
        number=number,
        sealed=True,
        file=path.name,
        file_bytes=path.stat().st_size,
        file_sha256=digest,
        first_position=first.first_position,
        last_position=last.first_position + last.records - 1,
        first_commit=first.before.commits + 1,
        last_commit=last.before.commits + len(last.commits.sizes),
        first_recorded_at=Microseconds(int(first.commits.times[0])),
        last_recorded_at=Microseconds(int(last.commits.times[-1])),
        tree_head=_head(frontier).hex(),
        frontier=tuple(subtree.hex() for subtree in frontier),
    )


def _head(subtrees: Sequence[bytes]) -> bytes:
    head, sha256 = subtrees[-1], hashlib.sha256
    for subtree in reversed(subtrees[:-1]):
        head = sha256(b"\x01" + subtree + head).digest()
    return head


def _leaves(envelopes: bytes, contents: pa.Array, whos: pa.Array) -> list[bytes]:
    sha256, width = hashlib.sha256, _ENVELOPE.itemsize
    return [
        sha256(
            envelopes[start : start + width] + sha256(content).digest() + sha256(who).digest()
        ).digest()
        for start, content, who in zip(
            range(0, len(envelopes), width), contents.to_pylist(), whos.to_pylist(), strict=True
        )
    ]


def _envelopes(
    store_id: UUID, rows: pa.Table, commits: np.ndarray[Any, Any], times: np.ndarray[Any, Any]
) -> bytes:
    envelopes = np.zeros(len(rows), _ENVELOPE)
    envelopes["store_id"] = np.void(store_id.bytes)
    envelopes["commit"], envelopes["recorded_at"] = commits, times
    for name in ("position", "kind", "entity_id"):
        envelopes[name] = rows[name].to_numpy()
    for name in ("type_id", "previous"):
        column = rows[name].chunk(0)
        envelopes[f"has_{name}"] = column.is_valid().to_numpy(zero_copy_only=False)
        envelopes[name] = column.fill_null(0).to_numpy()
    return envelopes.tobytes()


def _salts(block: Block) -> tuple[pa.Array, pa.Array]:
    """Of content and of who."""
    random = block.random("salts")
    kind = pa.binary(SALT_BYTES)
    first, second = (
        pa.FixedSizeBinaryArray.from_buffers(
            kind, block.records, [None, pa.py_buffer(random.bytes(SALT_BYTES * block.records))]
        )
        for _ in range(2)
    )
    return first, second


def _after_salts(salts: pa.Array, contents: pa.Array) -> pa.Array:
    binary = pa.binary()
    return pc.binary_join_element_wise(salts.cast(binary), contents, pa.scalar(b"", binary))


def _who(block: Block) -> dict[str, pa.Array]:
    """Actor, reason and request id of each commit."""
    runs, random = block.commits.runs, block.random("who")
    count = len(runs)
    is_of_run = runs >= 0
    is_marking = is_of_run & (block.shapes[runs] == MARKING)
    reasons = random.choice(len(world.REASONS) - 1, count, p=(0.85, 0.12, 0.03))
    reasons[is_marking] = len(world.REASONS) - 1
    has_reason = is_marking | (is_of_run & (random.random(count) < 0.3))
    # The first commit of a run stands under a request id, so that a scheduler can send it again.
    is_first = is_of_run & np.isin(np.arange(count), np.unique(runs, return_index=True)[1])
    nothing = pa.scalar(None, pa.utf8())
    return {
        "actor": chosen(world.ACTORS, block.commits.actors),
        "reason": pc.if_else(pa.array(has_reason), chosen(world.REASONS, reasons), nothing),
        "request_id": pc.if_else(
            pa.array(is_first), joined("start-run-", block.before.runs + runs), nothing
        ),
    }


def _attributions(who: dict[str, pa.Array]) -> pa.Array:
    texts = (column.to_pylist() for column in who.values())
    return pa.array(map(encode_attribution, *texts), pa.binary())
