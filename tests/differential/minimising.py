"""Cut a program that shows a difference down to what the difference needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from google.protobuf.message import Message

from tests.differential.answers import Step
from tests.differential.clients import Client
from tests.differential.ids import without
from tests.differential.programs import Difference, run_again

Try = Callable[[list[Step]], Difference | None]


def minimised(oracle: Client, ours: Client, difference: Difference) -> Difference:
    """The difference without the calls, and then the fields, that it does not need."""

    def still_differs(program: list[Step]) -> Difference | None:
        found = run_again(program, oracle, ours, read_all=difference.is_at_the_end)
        return found if found is not None and found.kind() == difference.kind() else None

    # Fields that are gone may make calls needless.
    fewer_calls = _with_fewest_calls(difference, still_differs)
    return _with_fewest_calls(_with_fewest_fields(fewer_calls, still_differs), still_differs)


def _with_fewest_calls(difference: Difference, still_differs: Try) -> Difference:
    """Leave out halves, then quarters, down to single calls."""
    size = max(1, len(difference.program) // 2)
    while size:
        start = 0
        while start < len(difference.program):
            shorter = still_differs(_without_calls(difference, start, start + size))
            if shorter is None:
                start += size
            else:
                difference = shorter
        size //= 2
    return difference


def _without_calls(difference: Difference, start: int, end: int) -> list[Step]:
    """The program without some steps; later ones follow the ids that then move up."""
    missing: dict[str, frozenset[int]] = {}
    for given_out in difference.given_out[start:end]:
        for sequence, ids in given_out.items():
            missing[sequence] = missing.get(sequence, frozenset()) | ids
    return [
        *difference.program[:start],
        *(
            step if step.request is None else replace(step, request=without(step.request, missing))
            for step in difference.program[end:]
        ),
    ]


def _with_fewest_fields(difference: Difference, still_differs: Try) -> Difference:
    for number in reversed(range(len(difference.program))):
        tried = 0
        while number < len(difference.program):
            program = list(difference.program)
            step = next(islice(_simpler(program[number]), tried, None), None)
            if step is None:
                break
            found = still_differs([*program[:number], step, *program[number + 1 :]])
            if found is None:
                tried += 1
            else:
                difference = found
    return difference


def _simpler(step: Step) -> Iterator[Step]:
    """The step with one thing removed."""
    if step.by_method:
        yield replace(step, by_method=False)
    if step.request is None:
        return
    for path in list(_paths(step.request)):
        request = type(step.request)()
        request.CopyFrom(step.request)
        _remove(request, path)
        yield replace(step, request=request)
    # A smaller number may need fewer calls: a limit that fewer nodes go beyond. Where none is said
    # it is not made up: that would be taken out again, and so on for ever.
    options = getattr(step.request, "options", None)
    if (
        options is not None
        and "max_result_size" in options.DESCRIPTOR.fields_by_name
        and options.HasField("max_result_size")
        and options.max_result_size > 1
    ):
        request = type(step.request)()
        request.CopyFrom(step.request)
        request.options.max_result_size = 1
        yield replace(step, request=request)


def _paths(message: Message) -> Iterator[tuple[Any, ...]]:
    """Where something can be taken out of a message: field names, indexes, keys of maps."""
    for field, value in message.ListFields():
        if isinstance(value, Message):
            yield (field.name,)
            yield from ((field.name, *rest) for rest in _paths(value))
        elif isinstance(value, (str, bytes, int, float)):
            yield (field.name,)
        elif hasattr(value, "keys"):
            yield from ((field.name, key) for key in value)
        else:
            for index in reversed(range(len(value))):
                yield field.name, index
                if isinstance(value[index], Message):
                    yield from ((field.name, index, *rest) for rest in _paths(value[index]))


def _remove(message: Any, path: tuple[Any, ...]) -> None:
    value = getattr(message, path[0])
    if len(path) == 1:
        message.ClearField(path[0])
    elif isinstance(value, Message):
        _remove(value, path[1:])
    elif len(path) == 2:
        del value[path[1]]
    else:
        _remove(value[path[1]], path[2:])
