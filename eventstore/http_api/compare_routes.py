"""The addresses of comparisons and of what is plotted beside them."""

from __future__ import annotations

from typing import Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.compare import Comparison, compare
from eventstore.http_api.node_routes import Id
from eventstore.http_api.points import Points, points
from eventstore.http_api.routes import Asked, Kind, Route
from eventstore.wording import quoted


class CompareQuery(msgspec.Struct, frozen=True):
    """Ids of artifacts, executions or contexts, in order, with commas; the first is the base."""

    artifacts: str = ""
    executions: str = ""
    contexts: str = ""


class PointsQuery(msgspec.Struct, frozen=True):
    """Nodes of a type, and two fields: created_at, properties.NAME or custom_properties.NAME."""

    kind: Kind
    type: str
    y: str
    x: str = "created_at"


def chosen_nodes(query: CompareQuery) -> tuple[Kind, list[Id]]:
    """The kind and the ids that a query names.

    Raises InvalidArgumentError unless they are of one kind, and numbers.
    """
    named: list[tuple[Kind, str]] = [
        ("artifact", query.artifacts),
        ("execution", query.executions),
        ("context", query.contexts),
    ]
    given = [(kind, text) for kind, text in named if text]
    if len(given) != 1:
        raise InvalidArgumentError("compare artifacts=, executions= or contexts=, such as 4,9")
    ((kind, text),) = given
    ids = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 19 for word in ids):
        raise InvalidArgumentError(f"{quoted(text)} are no ids: write numbers with commas")
    return kind, [int(word) for word in ids]


def compare_answer(asked: Asked, query: CompareQuery) -> Comparison:
    """Several nodes side by side, with settings, inputs and metrics."""
    return compare(asked.source, *chosen_nodes(query))


def points_answer(asked: Asked, query: PointsQuery) -> Points:
    """Two numbers of all nodes of a type, for a plot."""
    return points(asked.source, query.kind, query.type, query.x, query.y)


ROUTES: Final = (Route("/compare", compare_answer), Route("/points", points_answer))
