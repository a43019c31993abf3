"""How a store shows itself in a notebook."""

from __future__ import annotations

from eventstore.errors import StatusError
from eventstore.metadata_store.source import SourceMethods
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.repr_html import repr_html

# The generated classes cannot be subclassed, but take attributes.
for _message in (
    *(mlmd.Artifact, mlmd.Execution, mlmd.Context),
    *(mlmd.ArtifactType, mlmd.ExecutionType, mlmd.ContextType),
    *(mlmd.Event, mlmd.Attribution, mlmd.Association, mlmd.ParentContext),
):
    _message._repr_html_ = repr_html  # type: ignore[attr-defined, unused-ignore]


class NotebookMethods(SourceMethods):
    """The store as HTML, now or as of a position."""

    def _repr_html_(self) -> str | None:
        from eventstore.notebook import store_html
        from eventstore.times import moment_of

        try:
            log, position = self._source.log, self._source.position()
            return store_html(
                name=log.name,
                store_id=str(log.store_id),
                position=position,
                recorded_at=moment_of(log.recorded_at(position)) if position else None,
                is_past=position < log.position,
                counts=self._source.projections.counts(position),
            )
        except (StatusError, ValueError):
            # A display must not raise: a store that is closed, or damaged, is shown by its repr.
            return None
