"""What a store tells about its past beyond single reads as of a moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from eventstore.metadata_store.served import served
from eventstore.metadata_store.source import SourceMethods
from eventstore.moments import Moment, position_of, range_of

if TYPE_CHECKING:
    from eventstore.history import (
        CommitChanges,
        EntityDifference,
        LineageDifference,
        Version,
    )


class HistoryMethods(SourceMethods):
    """Versions, changes and differences. A moment is a position, datetime or milliseconds."""

    @served("read")
    def history(self, kind: str, entity_id: int) -> list[Version]:
        """Every version of an entity, the oldest first: when, by whom, why, and what changed.

        `kind` is `artifact`, `execution`, `context`, `artifact_type`, `execution_type`,
        `context_type`, or that of a link: `event`, `attribution`, `association`, `parent_context`.
        Raises InvalidArgumentError for another kind, NotFoundError for an unknown entity.

        >>> for version in store.history("artifact", model.id):
        ...     print(version.actor, [change.field for change in version.changes])
        ana ['name', 'state', 'uri', 'properties.accuracy']
        ana ['state']
        """
        from eventstore.history import history

        return history(self._source.log, self._source.snapshot(), kind, entity_id)

    @served("read")
    def context_history(self, context_id: int) -> list[Version]:
        """Everything that touched a context, in order: its versions, and links from and to it.

        Raises NotFoundError for an unknown context.
        """
        from eventstore.history import context_history

        return context_history(self._source.log, self._source.snapshot(), context_id)

    @served("read")
    def changes(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        kinds: Collection[str] | None = None,
        types: Collection[str] | None = None,
        actors: Collection[str] | None = None,
    ) -> Iterator[CommitChanges]:
        """The commits after one moment and up to another, the oldest first, read lazily.

        Without `since`, or when it is before the first commit, they start at the beginning; without
        `until` they go to the end. Given `actors`, only their commits count. Of the changes, only
        those of entities of `kinds` count, and of nodes of the `types` and of these types
        themselves, by name. Commits without such a change are left out.

        Rules, holds and erasures are told as well: the kinds `retention_rule`, `hold` and
        `erasure`, by their numbers.

        Raises InvalidArgumentError for moments that `as_of` refuses or that are swapped, and for an
        unknown kind.
        """
        from eventstore.history import changes

        source = self._source
        newest = source.position()
        after, upto = range_of(source.log, since, until)
        return changes(
            source.log,
            source.projections.index,
            after,
            min(newest, upto),
            kinds=kinds,
            types=types,
            actors=actors,
        )

    @served("read")
    def diff(self, first: Moment, second: Moment | None = None) -> list[EntityDifference]:
        """What is new or different at a second moment (now), by kind and id, field by field.

        Raises InvalidArgumentError for moments that `as_of` refuses or that are swapped.
        """
        from eventstore.history import differences

        source = self._source
        earlier = position_of(source.log, first, or_start=True)
        return differences(source.log, source.projections, earlier, source.position(second))

    @served("read")
    def lineage_diff(
        self,
        kind: str,
        node_id: int,
        first: Moment,
        second: Moment | None = None,
        *,
        direction: str = "both",
        max_hops: int | None = None,
        max_nodes: int | None = None,
    ) -> LineageDifference:
        """How the lineage of an artifact or execution differs at a second moment (now).

        `direction` (`upstream`, `downstream`, `both`) and `max_hops`, None for any number, say
        which lineage that is, as of the second. With `max_nodes` only that many of its nodes, the
        nearest, are compared, at no more cost than theirs; `after.left_out` counts what the next
        hop has beyond them. Raises InvalidArgumentError as `diff` does, for another kind or
        direction and for no nodes, NotFoundError when the node was not there at the second moment.
        """
        from eventstore.history import lineage_difference

        source = self._source
        earlier = position_of(source.log, first, or_start=True)
        return lineage_difference(
            source.log,
            source.projections,
            kind,
            node_id,
            earlier,
            source.position(second),
            max_nodes,
            direction,
            max_hops,
        )
