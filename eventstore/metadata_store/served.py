"""Marks what servers answer, too: each method exists once, and runs where the store is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import cached_property, wraps
from importlib import import_module
from inspect import Parameter, Signature, signature
from typing import (
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from eventstore.errors import UnimplementedError
from eventstore.metadata_store.source import SourceMethods

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=SourceMethods)

OWN_SERVICE: Final = "eventstore.EventStoreService"
"""That of protos/eventstore_service.proto."""

Need = Literal["read", "audit", "admin"]
"""The role that a method needs at a server."""

_IMPORTED_LATE: Final = {
    **dict.fromkeys(
        ("CommitChanges", "EntityDifference", "LineageDifference", "Version"), "eventstore.history"
    ),
    **dict.fromkeys(("Comparison", "Graph", "Run"), "eventstore.lineage"),
    "PropertyValue": "eventstore.lineage.reuse",
    **dict.fromkeys(("Checkpoint", "ConsistencyProof", "InclusionProof"), "eventstore.audit"),
    "Statement": "eventstore.audit.statement",
    **dict.fromkeys(
        ("DueAnswer", "ErasureReport", "Explanation", "RuleAnswer", "StoreInfo"),
        "eventstore.answers",
    ),
    "Progress": "eventstore.log",
    "HoldAnswer": "eventstore.retention.holds",
    "ListOptions": "eventstore.metadata_store.options",
}
"""What signatures name that is not imported where they are, with its module."""

_HERE: Final = frozenset(("self", "progress", "stop"))
"""Parameters that do not go to a server: what they are cannot."""


class Served:
    """A method that a server answers, by the name of its RPC."""

    def __init__(self, function: Callable[..., Any], need: Need, rpc: str | None) -> None:
        self.function = function
        self.need = need
        self.rpc = rpc or "".join(map(str.capitalize, function.__name__.split("_")))

    @cached_property
    def signature(self) -> Signature:
        return signature(self.function)

    @cached_property
    def answer(self) -> Any:
        """The type of the answer."""
        return self._hints["return"]

    @property
    def element(self) -> Any:
        """The type of each value that is sent: of the elements, if the answer has many."""
        return get_args(self.answer)[0] if self.is_list or self.is_lazy else self.answer

    @property
    def is_list(self) -> bool:
        return get_origin(self.answer) is list

    @property
    def is_lazy(self) -> bool:
        """Whether the answer comes as it is read."""
        return get_origin(self.answer) is Iterator

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The types of the parameters that are sent, by name."""
        return {
            name: hint
            for name, hint in self._hints.items()
            if name not in _HERE and name != "return"
        }

    @cached_property
    def required(self) -> frozenset[str]:
        """The parameters that have no default."""
        parameters = self.signature.parameters
        return frozenset(
            name for name in self.arguments if parameters[name].default is Parameter.empty
        )

    @property
    def takes_progress(self) -> bool:
        return "progress" in self.signature.parameters

    @cached_property
    def _hints(self) -> dict[str, Any]:
        written = " ".join(map(str, self.function.__annotations__.values()))
        named = {
            name: getattr(import_module(_IMPORTED_LATE[name]), name)
            for name in re.findall(r"\w+", written)
            if name in _IMPORTED_LATE
        }
        # Whatever could be iterated over arrives as a list.
        return get_type_hints(self.function, localns={**named, "Iterable": Collection})


def served_by(store: type) -> dict[str, Served]:
    """The methods of a class of stores that servers answer, by RPC."""
    found = [getattr(getattr(store, name), "served", None) for name in dir(store)]
    return {method.rpc: method for method in found if method is not None}


def served(
    need: Need, *, rpc: str | None = None
) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """For a method that answers from its source: one behind a server is asked for the answer.

    Without a name of its own the RPC is named after the method: `Prove`, `ContextHistory`.
    """

    def decorated(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        known = Served(method, need, rpc)

        @wraps(method)
        def answered(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            source: Any = self._source
            if source.is_here:
                return method(self, *args, **kwargs)
            try:
                given = known.signature.bind(self, *args, **kwargs).arguments
            except TypeError:
                # The method says more of arguments that it cannot be called with.
                return method(self, *args, **kwargs)
            answer: R = source.ask(known, given)
            return answer

        marked: Any = answered
        marked.served = known
        return answered

    return decorated


def where_the_store_is(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """For a method that works on files: it raises UnimplementedError in a store behind a server."""

    @wraps(method)
    def refused_elsewhere(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        source: Any = self._source
        if source.is_here:
            return method(self, *args, **kwargs)
        raise UnimplementedError(
            f"{method.__name__} works on files, and this store is behind a server "  # type: ignore[attr-defined, unused-ignore]
            f"({source.address}): run it on a machine that opens the store itself, with "
            "eventstore.open or the command line"
        )

    return refused_elsewhere
