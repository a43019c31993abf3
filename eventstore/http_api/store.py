"""The store as a whole, and its types."""

from __future__ import annotations

import msgspec

from eventstore.answers import StoreInfo
from eventstore.http_api.catalog import totals
from eventstore.http_api.routes import Asked, Kind, Nothing, Route
from eventstore.plain_json import plain


class StoreAnswer(msgspec.Struct, frozen=True):
    """A store: `info` is as `eventstore info --json` has it, and of now whatever the moment.

    `counts` are the entities by kind, as of the moment.
    """

    name: str | None
    info: StoreInfo
    counts: dict[str, int]


class TypeAnswer(msgspec.Struct, frozen=True):
    """A type, and the kinds of its properties by name (`INT`, `STRING`, …)."""

    kind: Kind
    id: int
    name: str
    version: str | None
    description: str | None
    properties: dict[str, str]


class TypesAnswer(msgspec.Struct, frozen=True):
    """All types, by kind and id."""

    types: list[TypeAnswer]


class TypesQuery(msgspec.Struct, frozen=True):
    """Which types: those of a kind of nodes, of a name."""

    kind: Kind | None = None
    name: str | None = None


def store_answer(asked: Asked, query: Nothing) -> StoreAnswer:  # noqa: ARG001
    """What the store is, and how much is in it."""
    # The tables are folded then, and count faster.
    counts = totals(asked.source).counts
    return StoreAnswer(asked.name, asked.whole_store.info(), counts)


def types_answer(asked: Asked, query: TypesQuery) -> TypesAnswer:
    """The types, with their properties."""
    store, found = asked.store, list[TypeAnswer]()
    kinds: list[Kind] = ["artifact", "execution", "context"]
    for kind in kinds:
        if query.kind not in (None, kind):
            continue
        for one in getattr(store, f"get_{kind}_types")():
            if query.name in (None, one.name):
                known = plain(one)
                found.append(
                    TypeAnswer(
                        kind,
                        one.id,
                        one.name,
                        one.version if one.HasField("version") else None,
                        one.description if one.HasField("description") else None,
                        known.get("properties", {}),
                    )
                )
    return TypesAnswer(found)


ROUTES = (
    # Sizes of files change without a put.
    Route("/store", store_answer, kept=False),
    Route("/types", types_answer),
)
