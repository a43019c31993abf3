"""A second person's approval: whoever proposed something does not approve it."""

from __future__ import annotations

from eventstore.errors import FailedPreconditionError
from eventstore.history.versions import records_at
from eventstore.store import Engine


def refuse_same_person(engine: Engine, proposed_at: int, what: str) -> None:
    """Raise FailedPreconditionError unless another actor puts now than at a position.

    An actor is who a program says it is: what makes sure of that is whoever lets people in.
    """
    (proposal,) = records_at(engine.log, [proposed_at])
    actor = engine.attribution.actor
    if actor is None or proposal.actor is None:
        raise FailedPreconditionError(
            f"{what} needs a second person, and there is no telling who "
            f"{'approves' if actor is None else 'proposed'} it: put with an actor"
        )
    if actor == proposal.actor:
        raise FailedPreconditionError(
            f"{what} needs a second person: {actor!r} proposed it at position {proposed_at}, and "
            "somebody else has to approve it"
        )
