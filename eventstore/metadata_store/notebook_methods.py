"""How a store shows itself in a notebook."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict

from eventstore.errors import StatusError
from eventstore.metadata_store.served import served
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


class Overview(Struct, frozen=True):
    """A store as a notebook shows it: `counts` of entities by kind, as of `position`.

    `recorded_at` is of the newest record by then, in UTC; None when there is none.
    """

    store_id: str
    position: int
    recorded_at: datetime | None
    is_past: bool
    counts: dict[str, int]


class NotebookMethods(SourceMethods):
    """The store as HTML, now or as of a position."""

    def _repr_html_(self) -> str | None:
        from eventstore.notebook import store_html

        try:
            return store_html(name=self._source.name, **asdict(self._overview()))
        except (StatusError, ValueError):
            # A display must not raise: a store that is closed, or damaged, is shown by its repr.
            return None

    @served("read", rpc="Overview")
    def _overview(self) -> Overview:
        from eventstore.times import moment_of

        log, position = self._source.log, self._source.position()
        return Overview(
            store_id=str(log.store_id),
            position=position,
            recorded_at=moment_of(log.recorded_at(position)) if position else None,
            is_past=position < log.position,
            counts=self._source.projections.counts(position),
        )
