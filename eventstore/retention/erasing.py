"""Records an erasure, and completes it: destroys what it erases in every file of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from eventstore.errors import (
    DataLossError,
    FailedPreconditionError,
    NotFoundError,
    StatusError,
    restated,
)
from eventstore.late_logger import late_logger
from eventstore.log import Log, Progress
from eventstore.log.erased import Erased
from eventstore.log.kinds import ERASURE
from eventstore.long_work import long_work
from eventstore.projections.index_tables import RETENTION_TABLES, STORED_TABLES, TABLES_OF
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.approval import refuse_same_person
from eventstore.retention.checking import state_before, what_forbade
from eventstore.retention.choosing import chosen_versions, versions_at
from eventstore.retention.guards import refuse_other_guards
from eventstore.retention.planning import Plan, Replacement, Wanted, plan, require_names
from eventstore.retention.precedence import ChosenVersion, approval_demanded, refuse
from eventstore.store.engine import Engine
from eventstore.store.erasures import StoredErasure, all_erased, erasure_as_of, erasures_as_of
from eventstore.store.snapshot import Snapshot
from eventstore.store.transaction import Transaction
from eventstore.wording import are, plural

if TYPE_CHECKING:
    from eventstore.log import RewrittenFile

_LOGGER = late_logger("eventstore.retention")

Choice = Callable[[Snapshot], Plan]
"""Plans an erasure on the state that it is recorded on."""


def plan_of(
    log: Log, entities: Sequence[tuple[str, int]], wanted: Wanted, version: int | None = None
) -> Choice:
    """Plans the erasure of all versions of some entities, or of the one at a position."""

    def choose(snapshot: Snapshot) -> Plan:
        versions = chosen_versions(log, snapshot, entities, wanted, version)
        require_names(snapshot, versions, wanted.redact)
        return plan(log, snapshot, versions, wanted)

    return choose


def request_erasure(
    engine: Engine, choose: Choice, *, is_of_request: bool = True
) -> tuple[int | None, Plan]:
    """Record an erasure, which is in effect then; its number and plan.

    One that is not `is_of_request` is one of several, and does not have their request id. Where a
    rule demands a second person it is proposed, and nothing is erased. The number is None where
    nothing is left to erase. Raises FailedPreconditionError when anything outranks it, and
    PermissionDeniedError where nothing may be destroyed.
    """

    def put(transaction: Transaction, _: None) -> tuple[int | None, Plan]:
        made = choose(transaction)
        refuse(made.refused)
        if not made.ranges:
            return None, made
        if approval_demanded(transaction, made.versions) is None:
            engine.log.destroy(Erased())
            return _append(transaction, made, None), made
        (number,) = transaction.next_ids(ERASURE.sequence)
        transaction.write(ERASURE, made.erasure(number, retention.Erasure.PROPOSED, None))
        return number, made

    refuse_other_guards(engine.log, engine.snapshot())
    answer: tuple[int | None, Plan] = engine.put(put, None, is_of_request=is_of_request)
    return answer


def approve_erasure(engine: Engine, number: int) -> Plan:
    """Record a proposed erasure of another actor, which is in effect then; its plan.

    Raises NotFoundError for an unknown erasure, FailedPreconditionError for one that is not
    proposed, for whoever proposed it, when anything outranks it by now, and when what it was to
    erase whole has further versions.
    """

    def put(transaction: Transaction, _: None) -> Plan:
        proposed = _proposed(transaction, number)
        refuse_same_person(engine, proposed.position, f"erasure {number}")
        made = plan_proposed(engine.log, transaction, number)
        refuse(made.refused)
        engine.log.destroy(Erased())
        _append(transaction, made, proposed)
        return made

    refuse_other_guards(engine.log, engine.snapshot())
    answer: Plan = engine.put(put, None)
    return answer


def plan_proposed(log: Log, snapshot: Snapshot, number: int) -> Plan:
    """What the approval of a proposed erasure would erase now, by whomever; raises as that does."""
    proposed = _proposed(snapshot, number)
    ranges = proposed.message.ranges
    redacted = (tuple(r.redacted_properties) for r in ranges if r.redacted_properties)
    wanted = Wanted(
        basis=proposed.message.basis,
        ticket=proposed.message.ticket,
        content=any(planned.content for planned in ranges),
        who=any(planned.who for planned in ranges),
        redact=next(redacted, ()),
        rule_position=proposed.message.rule_position,
    )
    versions = [*versions_at(log, proposed.erased)]
    _refuse_further_versions(snapshot, proposed, versions)
    made = plan(log, snapshot, versions, wanted)
    if not made.ranges:
        raise FailedPreconditionError(f"nothing of erasure {number} is left to erase: withdraw it")
    return made


def _refuse_further_versions(
    snapshot: Snapshot, proposed: StoredErasure, versions: Iterable[ChosenVersion]
) -> None:
    """Raise FailedPreconditionError for an entity that was to go with its version of that time."""
    for version in versions:
        table = STORED_TABLES.get(version.kind)
        if table is None:
            continue
        then = snapshot.index.newest(table, version.id, proposed.position)
        now = snapshot.newest(table, version.id)
        if then is not None and then[0] == version.position and now is not None and now != then:
            raise FailedPreconditionError(
                f"{version.kind.replace('_', ' ')} {version.id} was put again, at position "
                f"{now[0]}, since erasure {proposed.number} was proposed: withdraw it, and propose "
                "another one that is of this version, too"
            )


def withdraw_erasure(engine: Engine, number: int) -> None:
    """Record that a proposed erasure will not be; raises as `approve_erasure`, but for anybody."""

    def put(transaction: Transaction, _: None) -> None:
        proposed = _proposed(transaction, number)
        message = retention.Erasure()
        message.CopyFrom(proposed.message)
        message.stage = retention.Erasure.WITHDRAWN
        before = transaction.newest(RETENTION_TABLES[ERASURE], number)
        transaction.write(ERASURE, message, previous=before)

    engine.put(put, None)


def _proposed(snapshot: Snapshot, number: int) -> StoredErasure:
    known = erasure_as_of(snapshot.index, number, snapshot.position)
    if known is None:
        raise NotFoundError(f"there is no erasure {number}")
    if known.message.stage != retention.Erasure.PROPOSED:
        stage = retention.Erasure.Stage.Name(known.message.stage).lower()
        raise FailedPreconditionError(
            f"erasure {number} is {stage}: only a proposed one can be approved or withdrawn"
        )
    return known


def _append(transaction: Transaction, made: Plan, proposed: StoredErasure | None) -> int:
    """Draft an erasure that is in effect, and after it the replacements; its number."""
    if proposed is None:
        (number,) = transaction.next_ids(ERASURE.sequence)
    else:
        number = proposed.number
    first = transaction.position + len(transaction.drafts) + 2
    before = transaction.newest(RETENTION_TABLES[ERASURE], number)
    erasure = made.erasure(number, retention.Erasure.REQUESTED, first)
    transaction.write(ERASURE, erasure, previous=before)
    write_replacements(transaction, made.replacements)
    return number


def write_replacements(transaction: Transaction, replacements: Iterable[Replacement]) -> None:
    """Draft what is left of redacted versions, and the repetitions of newest ones, in order."""
    for kind, message, base in replacements:
        transaction.rely_on(kind, message.id, base)
        before = transaction.newest(TABLES_OF[kind].stored, message.id)
        transaction.write(kind, message, previous=before)


@long_work("Erasing")
def complete(engine: Engine, progress: Progress | None = None) -> list[int]:
    """Destroy what is erased and still in files; the numbers of the erasures completed.

    May be interrupted at any moment, and called again. `progress` is called with (records done, in
    all). Raises `eventstore.errors` classes, such as ResourceExhaustedError on a full disk.
    """
    pending = pending_erasures(engine)
    if pending:
        so = "nothing of what is erased was destroyed yet"
        refuse_other_guards(engine.log, engine.snapshot(), so)
        pending = [erasure for erasure in pending if _was_allowed(engine, erasure)]
    if not pending:
        return []
    numbers = [erasure.number for erasure in pending]
    try:
        rewritten = engine.log.destroy(all_erased(pending), progress)
        engine.projections.scrub()
        for erasure in pending:
            # They are rewritten by now: another look tells which of them one of several had. Once
            # others have merged them, it cannot tell any more what they took the place of.
            files = rewritten if len(pending) == 1 else engine.log.destroy(erasure.erased)
            engine.put(_completed, (erasure.number, files), is_of_request=False)
    except ValueError as error:
        raise DataLossError(
            f"an erasure was recorded that no program of this kind records: {error}; nothing of it "
            "is destroyed; run `eventstore verify`"
        ) from None
    except StatusError as error:
        count = len(numbers)
        erases, them = ("it erases", "it") if count == 1 else ("they erase", "them")
        raise restated(
            error,
            f"{plural(count, 'erasure')} {', '.join(map(str, numbers))} {are(count)} in effect, "
            f"but files of {engine.log.name} may still have what {erases}: {error}; once that is "
            f"mended, the next opening for writing completes {them}, or `eventstore erase "
            "--unfinished`",
        ) from None
    return numbers


def _was_allowed(engine: Engine, erasure: StoredErasure) -> bool:
    """Whether nothing forbade an erasure as it was recorded: a forged one destroys nothing."""
    before = state_before(engine.projections, erasure)
    forbidding = what_forbade(engine.log, before, erasure)
    for _, why in forbidding:
        _LOGGER.error(
            "erasure %d of %s, at position %d, was not to be: %s; nothing is destroyed for it",
            erasure.number,
            engine.log.name,
            erasure.requested_at,
            why,
        )
    return not forbidding


def complete_at_opening(engine: Engine) -> None:
    """What `complete` does; what keeps it from that, such as a full disk, forbids no opening."""
    try:
        complete(engine)
    except (StatusError, ValueError) as error:
        # The latter for a forged one, of what is not there or never erased.
        _LOGGER.warning(
            "not everything that was erased of %s is destroyed: %s", engine.log.name, error
        )


def pending_erasures(engine: Engine) -> list[StoredErasure]:
    """The erasures that are in effect, and not complete."""
    snapshot = engine.snapshot()
    if not snapshot.index.erasures.pending:
        return []
    return [e for e in erasures_as_of(snapshot.index, snapshot.position) if e.is_pending]


def _completed(transaction: Transaction, done: tuple[int, Sequence[RewrittenFile]]) -> None:
    number, files = done
    known = erasure_as_of(transaction.index, number, transaction.position)
    if known is None or not known.is_pending:
        # Another process was faster.
        return
    erased, message = known.erased, retention.Erasure()
    message.CopyFrom(known.message)
    message.stage = retention.Erasure.COMPLETED
    message.contents_erased, message.whos_erased = len(erased.content), len(erased.who)
    for file in files:
        message.files.add(
            segment=file.segment,
            old_sha256=bytes.fromhex(file.old_sha256),
            new_sha256=bytes.fromhex(file.new_sha256),
        )
    before = transaction.newest(RETENTION_TABLES[ERASURE], number)
    transaction.write(ERASURE, message, previous=before)
