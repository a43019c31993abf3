"""The audit report on a node, as a file: its styles are inside, which no page here may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from eventstore.http_api.routes import Asked, Route, Streamed
from eventstore.server.roles import Role


class ReportQuery(msgspec.Struct, frozen=True):
    """The report on the node of an id."""

    id: int


def _reporting(kind: str) -> Callable[[Asked, ReportQuery], Streamed]:
    def report(asked: Asked, query: ReportQuery) -> Streamed:
        """What `eventstore report` writes, as of the moment."""
        text = asked.store.report(kind, query.id)
        name = f"{kind}-{query.id}-position-{asked.moments.at.position}.html"
        return Streamed("text/html", iter([text.encode()]), name)

    return report


ROUTES: Final = tuple(
    Route(f"/{kind}s/{{id:int}}/report", _reporting(kind), need=Role.AUDIT)
    for kind in ("artifact", "execution")
)
