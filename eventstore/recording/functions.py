"""A function, each call of which is recorded as a run."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Set
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from eventstore.errors import InvalidArgumentError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.inputs import Input, Place
from eventstore.recording.texts import encodable, shown
from eventstore.recording.values import is_value

_DEPTH_MAX = 50
"""Structs are never nested deeper."""

_NOTHING = object()


class Arguments(NamedTuple):
    """What the arguments of a call hold: artifacts, with their places, and plain values."""

    places: list[tuple[Input, Place]]
    values: dict[str, Any]


Begin = Callable[[Arguments], AbstractContextManager[Any]]


def recorded(function: Any, begin: Begin) -> Any:
    """The function, with a run around each call that lasts until what it does is done."""
    if isinstance(function, classmethod | staticmethod):
        return type(function)(recorded(function.__func__, begin))
    if not callable(function):
        raise InvalidArgumentError(
            f"store.run(...) records functions, and {shown(function)} cannot be called: put the "
            "decorator next to the function, below the others"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _refused_generator(function)
    signature = _signature(function)
    run_parameter = signature.parameters.get("run")
    takes_run = run_parameter is not None and run_parameter.kind in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )

    def bound(
        positional: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[AbstractContextManager[Any], Callable[[Any], Any]]:
        """The run of a call, and the call itself, which takes the run once it has begun."""
        given = signature.bind_partial(*positional, **keywords)
        wants_run = takes_run and "run" not in given.arguments
        given.apply_defaults()

        def call(run: Any) -> Any:
            more = {"run": run} if wants_run else {}
            return _done_or_awaitable(function, function(*positional, **keywords, **more))

        return begin(_arguments(signature, given.arguments)), call

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def recorded_later(*positional: Any, **keywords: Any) -> Any:
            run, call = bound(positional, keywords)
            with run as begun:
                return _done_or_awaitable(function, await call(begun))

        return recorded_later

    @functools.wraps(function)
    def recorded_now(*positional: Any, **keywords: Any) -> Any:
        run, call = bound(positional, keywords)
        with contextlib.ExitStack() as stack:
            result = call(stack.enter_context(run))
            if not inspect.isawaitable(result):
                return result
            # Not a coroutine function, but it answers what one does: it is done once awaited.
            open_run = stack.pop_all()

        async def awaited() -> Any:
            with open_run:
                return _done_or_awaitable(function, await result)

        return awaited()

    return recorded_now


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        # Some functions that are written in C do not say what they take.
        of = inspect.Parameter
        return inspect.Signature(
            [of("arguments", of.VAR_POSITIONAL), of("keywords", of.VAR_KEYWORD)]
        )


def _done_or_awaitable(function: Any, result: Any) -> Any:
    """What a call has answered. Raises InvalidArgumentError for what runs when it is read only."""
    if inspect.isasyncgen(result) or (
        inspect.isgenerator(result) and not inspect.isawaitable(result)
    ):
        raise _refused_generator(function)
    return result


def _refused_generator(function: Any) -> InvalidArgumentError:
    name = getattr(function, "__qualname__", None) or shown(function)
    return InvalidArgumentError(
        f"{name} is, or answers, a generator, which runs only as it is read: use "
        "`with store.run(...)` inside of it"
    )


def _arguments(signature: inspect.Signature, given: Mapping[str, Any]) -> Arguments:
    arguments = Arguments([], {})
    for name, value in given.items():
        kind = signature.parameters[name].kind
        is_variable = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if name == "run" or (is_variable and not value):
            continue
        if isinstance(value, mlmd.Artifact):
            arguments.places.append((value, (name, 0)))
            continue
        found = value if is_value(value) else _without_artifacts(value, (name,), arguments, ())
        if found is value or (found is not _NOTHING and is_value(found)):
            arguments.values[name] = found
    return arguments


def _without_artifacts(
    value: Any, place: Place, arguments: Arguments, around: tuple[Any, ...]
) -> Any:
    """What can be recorded of a value; artifacts are noted with their places.

    In a list None stands for the rest, so that the others keep their places.
    """
    if isinstance(value, mlmd.Artifact):
        arguments.places.append((value, place))
        return _NOTHING
    is_mapping = isinstance(value, Mapping)
    if not is_mapping and not isinstance(value, list | tuple | Set):
        # In a list: a message, say, is a value as a property of its own alone.
        return value if is_value([value]) else _NOTHING
    if len(around) > _DEPTH_MAX or any(value is container for container in around):
        return _NOTHING
    around = (*around, value)
    if is_mapping:
        members = {
            key: _without_artifacts(member, (*place, _step(key)), arguments, around)
            for key, member in value.items()
        }
        kept: Any = {
            key: member
            for key, member in members.items()
            if member is not _NOTHING and is_value({key: None})
        }
    else:
        listed = [
            _without_artifacts(member, (*place, index), arguments, around)
            for index, member in enumerate(value)
        ]
        kept = [None if member is _NOTHING else member for member in listed]
        if all(member is _NOTHING for member in listed):
            kept = []
    return kept if kept or not value else _NOTHING


def _step(key: object) -> str:
    return encodable(key if isinstance(key, str) else shown(key))
