"""The inputs of a run, where each of them stands, and their events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from eventstore.errors import InvalidArgumentError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.texts import shown, text_of

Input: TypeAlias = mlmd.Artifact | int
Inputs: TypeAlias = Iterable[Input] | Mapping[str, Input | Iterable[Input]]

Place: TypeAlias = tuple[str | int, ...]
"""The steps of an event's path: a name, then indices and keys; none for an input without a name."""

_INT64_MAX = 2**63 - 1


def places_of(inputs: Inputs) -> list[tuple[Input, Place]]:
    """Each input, and its place: those of a mapping have their name and an index."""
    if isinstance(inputs, mlmd.Artifact | int) or not isinstance(inputs, Iterable):
        raise InvalidArgumentError(
            f"inputs takes a list of artifacts, or a mapping from names, not {shown(inputs)}"
        )
    if not isinstance(inputs, Mapping):
        return [(_checked(member), ()) for member in inputs]
    return list(_named(inputs))


def input_events(places: Iterable[tuple[Input, Place]]) -> list[mlmd.Event]:
    """An event for each artifact, for MLMD holds one; its path bears all of its places in turn."""
    events = dict[int, mlmd.Event]()
    for member, place in places:
        artifact_id = id_of(member)
        event = events.setdefault(
            artifact_id, mlmd.Event(type=mlmd.Event.INPUT, artifact_id=artifact_id)
        )
        add_steps(event, place)
    return list(events.values())


def add_steps(event: mlmd.Event, place: Place) -> None:
    """Add a place to the path of an event."""
    for step in place:
        if isinstance(step, int):
            event.path.steps.add().index = step
        else:
            event.path.steps.add().key = step


def id_of(member: Input) -> int:
    """The id of an input."""
    if isinstance(member, int):
        if not 0 < member <= _INT64_MAX:
            raise InvalidArgumentError(f"inputs: {member} is no id of an artifact")
        return member
    if not member.HasField("id"):
        raise InvalidArgumentError(
            f"inputs: the artifact with uri {member.uri!r} has no id: put it first, or use "
            "`run.input(type, uri=...)`"
        )
    return int(member.id)


def without_taken(
    places: Sequence[tuple[Input, Place]], taken: Iterable[tuple[Input, Place]]
) -> Iterator[tuple[Input, Place]]:
    """Places, with indices that come after those that are taken under the same name."""
    taken_to = dict[str | int, int]()
    for _, place in taken:
        if len(place) > 1 and isinstance(place[1], int):
            taken_to[place[0]] = max(taken_to.get(place[0], 0), place[1] + 1)
    for member, place in places:
        if place and isinstance(place[1], int):
            yield member, (place[0], taken_to.get(place[0], 0) + place[1])
        else:
            yield member, place


def _named(inputs: Mapping[str, Any]) -> Iterator[tuple[Input, Place]]:
    for given_name, members in inputs.items():
        name = text_of("the name of an input", given_name)
        is_one = isinstance(members, mlmd.Artifact | int) or not isinstance(members, Iterable)
        for index, member in enumerate([members] if is_one else members):
            yield _checked(member), (name, index) if name else ()


def _checked(member: object) -> Input:
    if isinstance(member, bool) or not isinstance(member, mlmd.Artifact | int):
        raise InvalidArgumentError(
            f"inputs: {shown(member)} is neither an artifact nor an id; `run.input(type, uri=...)` "
            "takes an input that may not be recorded yet"
        )
    return member
