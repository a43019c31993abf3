"""What must be kept and what a court wants kept, and what has expired by these rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from eventstore.log import Progress
from eventstore.metadata_store.served import served
from eventstore.metadata_store.source import SourceMethods

if TYPE_CHECKING:
    from eventstore.answers import DueAnswer, ErasureReport, RuleAnswer
    from eventstore.retention.holds import HoldAnswer


class RetentionReads(SourceMethods):
    """The holds and rules that there are, now or as of a moment."""

    @served("audit")
    def holds(self) -> list[HoldAnswer]:
        """All holds, by number, those that were released, too."""
        from eventstore.retention.holds import holds

        return holds(self._source.log, self._source.snapshot())

    @served("audit")
    def retention_rules(self) -> list[RuleAnswer]:
        """All rules, by number, those that were withdrawn, too."""
        from eventstore.retention.rules import rules

        return rules(self._source.log, self._source.snapshot())


class RetentionMethods(RetentionReads):
    """Legal holds and retention rules. Each is a record of the log, and so is each change of one.

    What a hold or a rule is about is said by `kinds` (of records), `type_ids` (of nodes),
    `context_ids` (these contexts and what is in them), `entities` (kinds and ids) and
    `filter_query` (of MLMD, on nodes): whatever fits all that are given, now and as new records
    come. A node that a filter found once stays, whatever is put afterwards. Codes and filters are
    kept for ever: let them name nobody.
    """

    @served("admin")
    def place_hold(
        self,
        *,
        kinds: Sequence[str] = (),
        type_ids: Sequence[int] = (),
        context_ids: Sequence[int] = (),
        entities: Sequence[tuple[str, int]] = (),
        filter_query: str = "",
        basis: str,
        ticket: str = "",
        needs_approval: bool = False,
    ) -> int:
        """Keep what is in scope, all upstream of it, its links and types; the number of the hold.

        Nothing of that can be erased until the hold is released, which takes a second person where
        it `needs_approval`. Raises InvalidArgumentError for a scope that nothing can be in, such as
        an id that no entity has, and for a `basis` or `ticket` that is no code.

        >>> store.place_hold(entities=[("artifact", dataset.id)], basis="CASE-2026-11")
        1
        """
        from eventstore.retention.holds import place_hold
        from eventstore.retention.scopes import new_scope

        scope = new_scope(kinds, type_ids, context_ids, entities, filter_query)
        return place_hold(
            self._source.engine, scope, basis=basis, ticket=ticket, needs_approval=needs_approval
        )

    @served("admin")
    def release_hold(self, number: int, *, ticket: str) -> HoldAnswer:
        """End a hold, or propose its end where that needs approval: another actor calls this again.

        Raises NotFoundError for an unknown hold, FailedPreconditionError for one that was released
        before, for whoever would approve what they proposed, and for another ticket than the
        proposal has, InvalidArgumentError for a `ticket` that is no code.
        """
        from eventstore.retention.holds import release_hold

        return release_hold(self._source.engine, number, ticket=ticket)

    @served("admin")
    def set_retention_rule(
        self,
        *,
        kinds: Sequence[str] = (),
        type_ids: Sequence[int] = (),
        context_ids: Sequence[int] = (),
        entities: Sequence[tuple[str, int]] = (),
        filter_query: str = "",
        keep_at_least: timedelta | None = None,
        keep_at_most: timedelta | None = None,
        includes_current: bool = False,
        needs_approval: bool = False,
        basis: str,
        ticket: str = "",
        number: int | None = None,
    ) -> int:
        """Record a rule, or put it in the place of the one with a `number`; its number.

        Until a record is `keep_at_least` old, it cannot be erased. A version that has been
        superseded for `keep_at_most` expires, and with `includes_current` a current one that is so
        old. With `needs_approval` an erasure of anything in scope takes a second person.

        What a rule locks stays locked when the rule is replaced or withdrawn. Raises
        InvalidArgumentError for a rule that says nothing or contradicts itself, and for a scope or
        codes as `place_hold` does; NotFoundError for an unknown number; FailedPreconditionError for
        a shorter lock than before, for one that asks for a second person no more, and in the place
        of a rule that was withdrawn.
        """
        from eventstore.retention.rules import put_rule
        from eventstore.retention.scopes import new_scope

        return put_rule(
            self._source.engine,
            new_scope(kinds, type_ids, context_ids, entities, filter_query),
            keep_at_least=keep_at_least,
            keep_at_most=keep_at_most,
            includes_current=includes_current,
            needs_approval=needs_approval,
            basis=basis,
            ticket=ticket,
            number=number,
        )

    @served("admin")
    def withdraw_retention_rule(self, number: int, *, ticket: str) -> RuleAnswer:
        """End a rule: nothing expires by it any more, and it locks nothing that is put from now on.

        Raises NotFoundError for an unknown rule, FailedPreconditionError for one withdrawn before,
        InvalidArgumentError for a `ticket` that is no code.
        """
        from eventstore.retention.rules import withdraw_rule

        return withdraw_rule(self._source.engine, number, ticket=ticket)

    @served("audit")
    def expired(self) -> DueAnswer:
        """What has expired by the rules, what of it is held or locked, and what is in use."""
        from eventstore.retention.expiry import due

        return due(self._source.engine.log, self._source.engine.snapshot())

    @served("admin")
    def apply_retention(self, progress: Progress | None = None) -> list[ErasureReport]:
        """Erase what has expired by the rules, as `expired` tells: an erasure for each rule.

        Where a rule demands a second person, they are proposed. It can be called again at any time,
        as by a timer. Raises what `erase` does when a file cannot be written; the erasures are
        in effect then, and completed later.
        """
        from eventstore.retention.applying import request_expired
        from eventstore.retention.erasing import complete
        from eventstore.retention.reports import erasure_report

        made = request_expired(self._source.engine)
        complete(self._source.engine, progress)
        log, index = self._source.engine.log, self._source.engine.snapshot().index
        return [erasure_report(log, index, plan, number) for number, plan in made]
