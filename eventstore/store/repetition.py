"""A put whose request id is known: acknowledged again if it says the same, refused if not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eventstore.errors import AlreadyExistsError, StatusError
from eventstore.log import Commit, Draft, Log, Position, Record
from eventstore.log import record as kind_names
from eventstore.log.kinds import KINDS
from eventstore.projections import Projections
from eventstore.projections.index_tables import REQUEST_IDS, hash64
from eventstore.store.transaction import Transaction
from eventstore.times import Milliseconds
from eventstore.wording import quoted

_NOW_IN_REPETITION = Milliseconds(-(2**62))
"""The time while a put is run again: one that no clock showed when it was first run."""

_OUTPUT_TIMES = ("create_time_since_epoch", "last_update_time_since_epoch")


def commit_of_request(log: Log, projections: Projections, request_id: str) -> Commit | None:
    """The commit that was put under a request id, None when there is none."""
    index = projections.index
    entries = index.entries(REQUEST_IDS, hash64(request_id), index.position)
    if not entries:
        return None
    # They all belong to one commit, unless hashes collide. Of others of its records who put them
    # may be erased.
    for commit in log.commits(log.commit_end(entries[0][0] - 1)):
        if commit.first_position > entries[-1][0]:
            break
        if commit.who[2] == request_id:
            return commit
    return None


def acknowledged_again(
    projections: Projections,
    put: Callable[[Transaction, Any], Any],
    request: Any,
    commit: Commit,
) -> Any:
    """The response to a put that `commit` has applied already.

    The put is run again on the state before the commit, and must lead to the same records, apart
    from times that the store has set. Raises AlreadyExistsError when it does not.
    """
    transaction = Transaction(
        projections,
        Position(commit.first_position - 1),
        clock=lambda: _NOW_IN_REPETITION,
        last_ids=_ids_before(commit),
    )
    try:
        response = put(transaction, request)
    except StatusError as error:
        raise _other_content(commit) from error
    if not _is_same(transaction, commit.records):
        raise _other_content(commit)
    return response


def _ids_before(commit: Commit) -> dict[str, int]:
    """The last id of each sequence that the commit took ids from."""
    last: dict[str, int] = {}
    for record in commit.records:
        if record.previous is None:
            sequence = KINDS[record.kind].sequence
            last[sequence] = min(last.get(sequence, record.entity_id), record.entity_id - 1)
    return last


def _is_same(transaction: Transaction, records: Sequence[Record]) -> bool:
    drafts = transaction.drafts
    return len(drafts) == len(records) and all(
        (draft.kind, draft.entity_id, draft.type_id, draft.previous)
        == (record.kind, record.entity_id, record.type_id, record.previous)
        and (_is_erased(transaction, record) or _says_the_same(draft, record))
        for draft, record in zip(drafts, records, strict=True)
    )


def _is_erased(transaction: Transaction, record: Record) -> bool:
    """Whether its content, or that of the version that it replaces, is no more to compare."""
    if record.payload is None:
        return True
    # None for the first version of an entity, which is made from nothing.
    return record.previous is not None and bool(transaction.index.erasures.span_of(record.previous))


def _says_the_same(draft: Draft, record: Record) -> bool:
    if draft.payload == record.payload:
        return True
    message = KINDS[record.kind].message
    put, stored = message.FromString(draft.payload), message.FromString(record.payload)
    if record.kind == kind_names.EVENT:
        if put.milliseconds_since_epoch == _NOW_IN_REPETITION:
            put.milliseconds_since_epoch = stored.milliseconds_since_epoch
    elif record.kind in (kind_names.ARTIFACT, kind_names.EXECUTION, kind_names.CONTEXT):
        for field in _OUTPUT_TIMES:
            setattr(put, field, getattr(stored, field))
    return bool(put == stored)


def _other_content(commit: Commit) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"request id {quoted(commit.who[2] or '')} was used before, for other content, at "
        f"position {commit.first_position}: nothing was put; use a new request id"
    )
