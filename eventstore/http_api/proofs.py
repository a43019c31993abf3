"""Proofs of records, for whoever checks them, and the signed checkpoints that the server has."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from eventstore.answers import ErasedByAnswer
from eventstore.audit import Checkpoint
from eventstore.audit.proofs import OtherHistoryError
from eventstore.audit.signed_note import Note
from eventstore.errors import InvalidArgumentError, NotFoundError, UnavailableError
from eventstore.history.marks import marks_of
from eventstore.http_api.entities import erasures_told
from eventstore.http_api.routes import Asked, Nothing, Route
from eventstore.log.leaf import leaf_hashes
from eventstore.server.roles import Role
from eventstore.wording import quoted

_BYTES_MAX: Final = 256 * 1024
_SHOWN_MAX: Final = 100


class CheckpointRow(msgspec.Struct, frozen=True):
    """A signed checkpoint of this store; whether its signatures hold, its reader has to check.

    `name` is that of its file, "" for one that came with the request. `signers` are those who are
    said to have signed, each as NAME+ID of the key.
    """

    name: str
    size: int
    commit: int
    recorded_at: datetime
    signed_at: datetime
    signers: list[str]
    text: str


class CheckpointList(msgspec.Struct, frozen=True):
    """The checkpoints in the folder that the server was told of, those of most records first."""

    checkpoints: list[CheckpointRow]


class ProofQuery(msgspec.Struct, frozen=True):
    """Against which checkpoint: its text, or the name of its file in the server's folder.

    Without either it is the newest one in the folder that covers the record.
    """

    position: int
    checkpoint: str | None = None
    name: str | None = None


class RecordProof(msgspec.Struct, frozen=True):
    """That a record is part of what a checkpoint states, for `eventstore prove --check`.

    `proof` is a C2SP `tlog-proof`, `leaf` the SHA-256 of the record's leaf, in hexadecimal. Where
    something of the record was erased, the record of each erasure is proved likewise.
    """

    position: int
    leaf: str
    proof: str
    checkpoint: CheckpointRow
    erasures: list[ErasedByAnswer]


def checkpoints(asked: Asked, query: Nothing) -> CheckpointList:  # noqa: ARG001
    """Signed checkpoints of this store that the server has."""
    return CheckpointList(_kept(asked)[:_SHOWN_MAX])


def proof(asked: Asked, query: ProofQuery) -> RecordProof:
    """Prove the record at a position to be part of what a signed checkpoint states."""
    row = _chosen(asked, query)
    try:
        made = asked.whole_store.prove(query.position, Checkpoint.unchecked(row.text))
    except OtherHistoryError:
        if query.checkpoint is None:
            raise
        # Whoever sent it may have written it, too.
        raise InvalidArgumentError(
            "this checkpoint states another history than the store has; whether anybody signed it "
            "was not checked: verify the store with it and with the signer's key, which tells "
            "whether the checkpoint or the history was changed"
        ) from None
    log = asked.engine.log
    (leaf,) = leaf_hashes(log.store_id, [made.record])
    marks = marks_of(log, asked.engine.projections.index).of(query.position)
    return RecordProof(query.position, leaf.hex(), made.to_text(), row, erasures_told(marks))


def _chosen(asked: Asked, query: ProofQuery) -> CheckpointRow:
    if query.checkpoint is not None:
        if query.name is not None:
            raise InvalidArgumentError("say the checkpoint's text or the name of its file")
        return _row("", query.checkpoint)
    for row in _kept(asked):
        if row.name == query.name or (query.name is None and row.size >= query.position):
            return row
    if query.name is not None:
        raise NotFoundError(
            f"the server has no checkpoint of this store named {quoted(query.name)}"
        )
    raise NotFoundError(
        f"the server has no checkpoint that covers position {query.position}: give one"
    )


def _kept(asked: Asked) -> list[CheckpointRow]:
    folder, store_id = asked.serving.checkpoints, asked.engine.log.store_id
    if folder is None:
        return []
    try:
        paths = [*folder.iterdir()]
    except OSError as error:
        raise UnavailableError(
            f"the folder of checkpoints cannot be read ({error.strerror}): make it again, or start "
            "the server with another"
        ) from None
    found = [row for path in paths if (row := _row_of(path, store_id)) is not None]
    return sorted(found, key=lambda row: (-row.size, row.signed_at, row.name))


def _row_of(path: Path, store_id: UUID) -> CheckpointRow | None:
    """The checkpoint in a file; None where it has something else or is another store's."""
    try:
        if not path.is_file() or path.stat().st_size > _BYTES_MAX:
            return None
        text = path.read_bytes().decode()
        return _row(path.name, text) if text.startswith(f"eventstore/{store_id}\n") else None
    except (OSError, UnicodeDecodeError, InvalidArgumentError):
        return None


def _row(name: str, text: str) -> CheckpointRow:
    found = Checkpoint.unchecked(text)
    signers = [f"{signer}+{signed[:4].hex()}" for signer, signed in Note.parse(text).signatures]
    return CheckpointRow(
        name, found.size, found.commit, found.recorded_at, found.signed_at, signers, text
    )


ROUTES = (
    # The folder changes without a put.
    Route("/checkpoints", checkpoints, kept=False),
    Route("/records/{position:int}/proof", proof, need=Role.AUDIT, posts=True, kept=False),
)
