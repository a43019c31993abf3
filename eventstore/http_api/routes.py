"""What a handler gets, what it gives, and how it says at which address it answers.

A handler is a function from what is `Asked`, and a struct of the query, to an answer:

    class CommitsQuery(msgspec.Struct, frozen=True):
        actor: str | None = None
        limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 50

    def newest(asked: Asked, query: CommitsQuery) -> CommitList:
        "The newest commits as of the moment."

    ROUTES = (Route("/commits", newest),)

Fields of the query are the parameters of the address, and those in braces of its path, as in
`/artifacts/{id:int}`; a field that is a list takes a parameter again and again. They are converted
and checked before, and of the API those that are not known are refused. The answer is a struct
(JSON, to which `at` and `until` are added), `Html`, `Streamed` or `Elsewhere`. Annotations are read
while the program runs: import their names outside of TYPE_CHECKING. The docstring is what OpenAPI
says. A handler runs in a thread, and raises the classes of `eventstore.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from eventstore.http_api.request_moment import Moments
from eventstore.http_api.serving import Serving
from eventstore.log.record import Position
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.metadata_store.source import Source
from eventstore.server.roles import Role
from eventstore.store import Engine

Kind = Literal["artifact", "execution", "context"]
"""A kind of nodes, as queries name it."""


class Asked(msgspec.Struct, frozen=True):
    """A request, and what it is answered from.

    `name` is the store's among those of a server, None where there is one; `prefix` is what its
    addresses begin with, "" or `/stores/NAME`. `path` comes after that. `parameters` are those of
    the address, in order. `accept` is the media type that is asked for: "" for any. `is_signed_in`
    says that a browser asks whose user has signed in, and could sign out.
    """

    engine: Engine
    moments: Moments
    roles: frozenset[Role]
    actor: str | None
    serving: Serving
    name: str | None = None
    prefix: str = ""
    path: str = "/"
    parameters: Sequence[tuple[str, str]] = ()
    accept: str = ""
    is_signed_in: bool = False

    @property
    def source(self) -> Source:
        """The store as of `at`."""
        return self.source_at(self.moments.at.position)

    def source_at(self, position: int) -> Source:
        """The store as of a position."""
        return Source(self.engine, Position(position))

    @property
    def store(self) -> AsOfStore:
        """The public API as of `at`."""
        return AsOfStore._of(self.engine, Position(self.moments.at.position))

    @property
    def whole_store(self) -> MetadataStore:
        """The public API now, for what is asked of the store as a whole: its files, its rules."""
        return MetadataStore._of(self.engine)


class Nothing(msgspec.Struct, frozen=True):
    """The query of a handler that takes no parameters."""


class Html(msgspec.Struct, frozen=True):
    """A page."""

    text: str
    status: int = 200


class Streamed(msgspec.Struct, frozen=True):
    """An answer in parts, each made when the one before has been sent.

    With a `file_name` browsers save it under that.
    """

    media_type: str
    parts: Iterator[bytes]
    file_name: str | None = None


class Elsewhere(msgspec.Struct, frozen=True):
    """The answer is at another address, which begins with the prefix already."""

    address: str


class Route(msgspec.Struct, frozen=True):
    """A handler and its address, below `/api/v1` or, for a page, below the store's.

    `need` is the role that it takes. With `posts` its query may come as a JSON body, too; with
    `starts` it begins some work of the server, and only a POST does that, with a JSON body. Where
    it `is_query`, which may take long, few are answered at once, as of all that is streamed. What
    differs though nothing was put, as it depends on the clock or the server, is not `kept` by
    browsers. `seconds` is how long it may take, None for what the server says. `media_types` are
    those that it may answer beside its own.
    """

    path: str
    answer: Callable[[Asked, Any], Any]
    need: Role = Role.READ
    posts: bool = False
    starts: bool = False
    is_query: bool = False
    kept: bool = True
    seconds: float | None = None
    media_types: Sequence[str] = ()

    @property
    def methods(self) -> list[str]:
        """Those of HTTP that it answers, beside HEAD where it answers GET."""
        return ["POST"] if self.starts else ["GET", "POST"] if self.posts else ["GET"]
