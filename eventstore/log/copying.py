"""Copy a log into another one, or what it has more: the same records, times, heads and proofs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from eventstore import errors
from eventstore.log.concealing import concealed_commit
from eventstore.log.erased import Erased, Spans
from eventstore.log.erasure_check import erasures_in_effect
from eventstore.log.kinds import ERASURE
from eventstore.log.log import Log, PositionConflictError
from eventstore.log.record import Commit, Position
from eventstore.log.recorded import grouped
from eventstore.log.retention_stages import RetentionRecord
from eventstore.log.scattered import records_at


def copy_commits(
    source: Log,
    target: Log,
    *,
    before_destroying: Callable[[], None] = lambda: None,
    tell: Callable[[int, int], None] = lambda _, __: None,
) -> Erased:
    """Append to a log what it lacks of another one, whose beginning it has to be.

    It ends where the source is as this begins, or after the records of what is erased meanwhile.
    What an erasure in effect is of is not copied; what the target has of it is returned, and is to
    be destroyed: before anything is changed, `before_destroying` is called then. `tell` is called
    with positions: the one reached, and the one to be reached.

    Raises FailedPreconditionError for any other target, DataLossError for a damaged commit of the
    source, once all before it are copied, AbortedError when somebody else appends to the target.
    """
    refuse_other(source, target)
    reached = -1
    while True:
        seen = _seen(source)
        if _left(target, seen.erased):
            before_destroying()
        _append(source, target, seen, tell)
        if target.position == seen.upto:
            return _left(target, seen.erased)
        if not source.refresh() and target.position == reached:
            raise errors.DataLossError(
                f"{source.name}: of the records after position {reached} some are erased, and no "
                "erasure covers that: run `eventstore verify`"
            )
        reached = target.position


def refuse_other(source: Log, target: Log) -> None:
    """Raise FailedPreconditionError unless the target is what the source begins with."""
    if target.store_id != source.store_id:
        raise errors.FailedPreconditionError(
            f"{target.name} has another store ({target.store_id}) than {source.name} "
            f"({source.store_id}): copy to a place where there is none"
        )
    if not begins_with(source, target):
        raise errors.FailedPreconditionError(
            f"{target.name} is not what {source.name} begins with: they part at position "
            f"{_parted_at(source, target)}, as when both were put to; nothing was copied"
        )


def begins_with(log: Log, other: Log) -> bool:
    """Whether a log of the same store has all that another one has."""
    return not other.position or _are_alike_at(log, other, other.position)


def _parted_at(source: Log, target: Log) -> int:
    """The first position at which they differ; the target is not what the source begins with."""
    alike, differs = 0, int(target.position)
    while True:
        middle = int(target.commit_end((alike + differs) // 2))
        if middle <= alike:
            middle = next(target.commits(alike)).last_position
        if middle >= differs:
            return alike + 1
        if _are_alike_at(source, target, middle):
            alike = middle
        else:
            differs = middle


def _are_alike_at(source: Log, target: Log, position: int) -> bool:
    """Whether the same commits end at a position, by the head of the tree there."""
    return _head(target, position) == _head(source, position) != b""


def _head(log: Log, position: int) -> bytes:
    """The head of the tree at a position, b"" where no commit ends there."""
    for batch in log.scan(position - 1, position, ["tree_head"]):
        for head in batch["tree_head"].to_pylist():
            return head or b""
    return b""


class _Seen(NamedTuple):
    """What can be read of a log, up to what is damaged, and what is erased of that by now."""

    erased: Erased
    upto: Position
    damage: errors.DataLossError | None


def _seen(log: Log) -> _Seen:
    import pyarrow.compute as compute

    columns = ["kind", "position", "commit", "actor", "payload"]
    positions: list[int] = []
    upto, damage = 0, None
    try:
        for batch in log.scan(0, log.position, ["position", "kind"]):
            is_erasure = compute.equal(batch["kind"], ERASURE.name)
            positions += batch["position"].filter(is_erasure).to_pylist()
            upto += batch.num_rows
    except errors.DataLossError as error:
        damage = error
    records = [
        RetentionRecord(*(row[name] for name in columns))
        for position in positions
        for batch in log.scan(position - 1, position, columns)
        for row in batch.to_pylist()
    ]
    return _Seen(erasures_in_effect(records).erased, log.commit_end(upto), damage)


def _left(log: Log, erased: Erased) -> Erased:
    """What a log has yet of what is erased."""
    here = erased.within(1, log.position)
    content: list[tuple[int, int]] = []
    who: list[tuple[int, int]] = []
    columns = ["position", "salt", "who_salt"]
    for batch in records_at(log, here.content.union(here.who), columns):
        for position, salt, who_salt in zip(
            *(batch[name].to_pylist() for name in columns), strict=True
        ):
            if salt is not None and position in here.content:
                content.append((position, position))
            if who_salt is not None and position in here.who:
                who.append((position, position))
    return Erased(Spans.of(content), Spans.of(who))


def _append(source: Log, target: Log, seen: _Seen, tell: Callable[[int, int], None]) -> None:
    """Append what the target lacks, up to where more is erased than is known to be."""
    damage: list[errors.DataLossError] = []
    tell(target.position, seen.upto)
    for group in grouped(_known(source.commits(target.position, seen.upto), seen.erased, damage)):
        try:
            _append_sound(target, group)
        except PositionConflictError:
            raise errors.AbortedError(
                f"somebody else appended to {target.name} meanwhile; it was left with what it has: "
                "let one copy run at a time, and put nothing into a copy that is to go on"
            ) from None
        except errors.DataLossError as error:
            damage.append(error)
            break
        tell(target.position, seen.upto)
    if seen.damage is not None:
        damage.append(seen.damage)
    if damage:
        raise errors.DataLossError(
            f"{source.name} cannot be copied further than to position {target.position}: "
            f"{damage[0].message}"
        )


def _append_sound(target: Log, commits: Sequence[Commit]) -> None:
    """Append commits up to the first that is damaged. Raises DataLossError when one is."""
    try:
        target.append_recorded(commits, expected_position=Position(commits[0].first_position - 1))
    except errors.DataLossError:
        if len(commits) == 1:
            raise
        middle = len(commits) // 2
        _append_sound(target, commits[:middle])
        _append_sound(target, commits[middle:])


def _known(
    commits: Iterator[Commit], erased: Erased, damage: list[errors.DataLossError]
) -> Iterator[Commit]:
    """The commits with what is erased concealed, up to a damaged one, or one with more erased."""
    try:
        for commit in commits:
            for record in commit.records:
                position = record.position
                if (record.commitment is not None and position not in erased.content) or (
                    record.who_commitment is not None and position not in erased.who
                ):
                    return
            yield concealed_commit(commit, erased)
    except errors.DataLossError as error:
        damage.append(error)
