"""Erasing what must not be kept, so that every proof of what was there stays valid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from eventstore.errors import InvalidArgumentError
from eventstore.log import Progress
from eventstore.metadata_store.served import served
from eventstore.metadata_store.source import SourceMethods

if TYPE_CHECKING:
    from eventstore.answers import ErasureReport
    from eventstore.retention.planning import Plan


class ErasureMethods(SourceMethods):
    """Erasures, each a record of the log."""

    @served("admin")
    def erase(
        self,
        kind: str,
        entity_id: int,
        *,
        reason: str,
        version: int | None = None,
        redact: Sequence[str] | None = None,
        content: bool = True,
        who: bool = False,
        ticket: str = "",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ErasureReport:
        """Erase what an artifact, execution or context says, in all versions or one (`version`).

        It takes effect at once, now and as of any moment: a get by id answers a tombstone, with
        id, type, times and the custom property `erased_by`, and no other question finds it; links
        to it stay. When this returns, no file of the store has the content any more, and all
        checkpoints and proofs hold as before. `version` is a position that `history` gives.

        With `redact` only these properties, or the fields `name`, `uri` and `external_id`, go: each
        version that has one of them is replaced by what is left of it. With `who` also who put the
        versions goes: actor, reason and request id; of types and links, which have no content to
        erase, that alone. `content=False` leaves the content.

        `reason` is the code of the legal basis, such as GDPR-17(1)(b), `ticket` another code: both
        are kept for ever, and so is the actor of the erasure. What is erased already is passed
        over. With `dry_run` nothing is erased, and the report says what would be, what forbids it,
        and what lies outside of the store.

        Raises InvalidArgumentError for another kind, or codes and names that are none,
        NotFoundError for an unknown entity, version or property, FailedPreconditionError when a
        hold or rule forbids it. Any error after the erasure is recorded, such as a full disk,
        leaves it in effect: the next opening of the store, or the next erasure, completes it.

        >>> report = store.erase("artifact", model.id, reason="GDPR-17(1)(b)")
        >>> report.number, report.stage, report.contents_erased
        (1, 'completed', 2)
        >>> [tombstone] = store.get_artifacts_by_id([model.id])
        >>> tombstone.uri, tombstone.custom_properties["erased_by"].int_value
        ('', 1)
        """
        return self._erase(
            [(kind, entity_id)],
            version,
            reason=reason,
            redact=redact,
            content=content,
            who=who,
            ticket=ticket,
            dry_run=dry_run,
            progress=progress,
        )

    @served("admin")
    def erase_many(
        self,
        entities: Iterable[tuple[str, int]],
        *,
        reason: str,
        redact: Sequence[str] | None = None,
        content: bool = True,
        who: bool = False,
        ticket: str = "",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ErasureReport:
        """Erase all versions of some entities, each a kind and an id, in one erasure.

        It is as `erase` for each of them, or for none, and each file is rewritten once.
        """
        return self._erase(
            entities,
            None,
            reason=reason,
            redact=redact,
            content=content,
            who=who,
            ticket=ticket,
            dry_run=dry_run,
            progress=progress,
        )

    @served("admin")
    def approve_erasure(self, number: int, progress: Progress | None = None) -> ErasureReport:
        """Erase what another actor has proposed, where a rule demands two persons.

        What `erase` would do then is proposed, and its report says so (`stage`). Raises
        NotFoundError for an unknown erasure, FailedPreconditionError for one that is not proposed,
        for the actor who proposed it, and as `erase` does.
        """
        from eventstore.retention.erasing import approve_erasure

        return self._erased(number, approve_erasure(self._source.engine, number), progress)

    @served("admin")
    def withdraw_erasure(self, number: int) -> None:
        """End an erasure that is proposed.

        Raises NotFoundError for an unknown one, FailedPreconditionError for one that is not.
        """
        from eventstore.retention.erasing import withdraw_erasure

        withdraw_erasure(self._source.engine, number)

    @served("admin")
    def complete_erasures(self, progress: Progress | None = None) -> list[int]:
        """Destroy what is erased and still in files, as every opening does; numbers of erasures.

        For a store whose opening or last erasure could not, since the disk was full. Raises
        `eventstore.errors` classes, such as ResourceExhaustedError, when it still cannot.
        """
        from eventstore.retention.erasing import complete

        return complete(self._source.engine, progress)

    def _erase(
        self,
        entities: Iterable[tuple[str, int]],
        version: int | None,
        *,
        reason: str,
        redact: Sequence[str] | None,
        content: bool,
        who: bool,
        ticket: str,
        dry_run: bool,
        progress: Progress | None,
    ) -> ErasureReport:
        from eventstore.retention.erasing import plan_of, request_erasure
        from eventstore.retention.planning import Wanted, check_wanted
        from eventstore.retention.reports import planned_report

        if isinstance(redact, str) or (redact is not None and not redact):
            # An empty list is no wish to erase all.
            raise InvalidArgumentError(
                f"redact is {redact!r}: use a list of names, or leave it out"
            )
        names = () if redact is None else tuple(redact)
        wanted = Wanted(basis=reason, ticket=ticket, content=content, who=who, redact=names)
        check_wanted(wanted)
        engine = self._source.engine
        choose = plan_of(engine.log, _pairs(entities), wanted, version)
        if dry_run:
            snapshot = engine.snapshot()
            return planned_report(engine.log, snapshot, choose(snapshot))
        number, made = request_erasure(engine, choose)
        return self._erased(number, made, progress)

    def _erased(self, number: int | None, made: Plan, progress: Progress | None) -> ErasureReport:
        from eventstore.retention.erasing import complete
        from eventstore.retention.reports import erasure_report

        complete(self._source.engine, progress)
        return erasure_report(
            self._source.engine.log, self._source.engine.snapshot().index, made, number
        )


def _pairs(entities: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Kinds and ids. Raises InvalidArgumentError for what is no pair."""
    try:
        return [(kind, entity_id) for kind, entity_id in entities]
    except (TypeError, ValueError):
        raise InvalidArgumentError(
            f"{entities!r} names no entities: use pairs of a kind and an id, such as "
            "[('artifact', 7)]"
        ) from None
