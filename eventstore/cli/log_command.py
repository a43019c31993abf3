"""`eventstore log`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice, starmap
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from eventstore.answers import RecordAnswer
from eventstore.cli.commands import (
    Kind,
    command,
    limit_option,
    moment_option,
    output_options,
    store_argument,
)
from eventstore.cli.entities import codes_of, erasure_answers, erasure_cell, spoken
from eventstore.cli.moments import EXAMPLES, Moment
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import opened_store, positions_between, windows
from eventstore.errors import InvalidArgumentError
from eventstore.log import Log, Record
from eventstore.log.commit import records_of
from eventstore.log.places import Place
from eventstore.log.record import ENTITY_KIND_NAMES, KIND_NAMES
from eventstore.times import moment_of

if TYPE_CHECKING:
    from eventstore.history import ErasedBy

_COLUMNS = ("position", "commit", "recorded_at", "what", "actor")
_FIELDS = (
    *("position", "commit", "recorded_at", "kind", "entity_id", "type_id", "previous"),
    *("actor", "reason", "request_id", "what", "erasures"),
)


@command(
    "log",
    examples=(
        "eventstore log my-store",
        "eventstore log my-store --kind artifact --id 7",
        "eventstore log my-store --since yesterday --actor pipeline",
        "eventstore log my-store --reverse --limit 0 --json --output records.jsonl",
    ),
)
@store_argument
@click.option("--kind", metavar="KIND", type=Kind(KIND_NAMES), help="Only records of this kind.")
@click.option("--id", "entity_id", type=int, help="Only records of the entity with this id.")
@click.option("--actor", help="Only records that this actor put.")
@click.option("--after", type=int, default=0, help="Only records after this position.")
@click.option("--upto", type=int, help="Only records up to this position.")
@moment_option("--since", f"Only what was put since: {EXAMPLES}.")
@moment_option("--until", "Only what was put by then.")
@limit_option("0 for all.")
@click.option("--reverse", is_flag=True, help="The oldest record first.")
@output_options
def log_command(
    place: Place,
    kind: str | None,
    entity_id: int | None,
    actor: str | None,
    after: int,
    upto: int | None,
    since: Moment | None,
    until: Moment | None,
    limit: int,
    reverse: bool,
    output: Output,
) -> None:
    """Show the records of a store, the newest first.

    --since with a position means after it, with a day from its start. A position inside a commit
    stands for the end of the one before, as for `eventstore changes`; with --after and --upto it
    stands for itself. KIND is as for `eventstore history`.
    """
    with opened_store(place) as store:
        _check(store.log_position(), after, upto)
        begins, ends = positions_between(store, since, until)
        start, end = max(begins, after), ends if upto is None else min(ends, upto)
        found = (
            record
            for record in _records(store.log, start, end, oldest_first=reverse)
            if (kind is None or record.kind == kind)
            and (entity_id is None or record.entity_id == entity_id)
            and (actor is None or record.actor == actor)
        )
        last = None

        def shown() -> Iterator[Record]:
            nonlocal last
            for record in islice(found, min(limit, sys.maxsize)) if limit else found:
                last = record
                yield record

        records = shown()
        from eventstore.history.marks import marks_of

        index = store._source.snapshot().index

        def marked() -> Iterator[tuple[Record, Sequence[ErasedBy]]]:
            for record in records:
                is_whole = record.payload is not None and record.who_commitment is None
                yield record, () if is_whole else marks_of(store.log, index).of(record.position)

        output.grid(
            Grid(_COLUMNS, starmap(_row, marked()), f"Records of {place}"),
            objects=lambda: starmap(_answer, marked()),
            csv=lambda: Grid(_FIELDS, starmap(_fields, marked())),
        )
        has_more = next(found, None) is not None
    if has_more and last is not None:
        other = f"--after {last.position}" if reverse else f"--upto {last.position - 1}"
        note(f"There are more than these {limit}: say --limit 0 for all, or {other}.")


def _check(newest: int, after: int, upto: int | None) -> None:
    for position in (after, upto or 0):
        if position > newest:
            raise InvalidArgumentError(
                f"position {position} is beyond the end of the log: the newest is {newest}"
            )
    if upto is not None and after > upto:
        raise InvalidArgumentError(
            f"after {after} up to {upto}: that ends before it begins; swap the positions"
        )


def _records(log: Log, after: int, upto: int, *, oldest_first: bool) -> Iterator[Record]:
    if after >= upto:
        return
    for start, end in [(after, upto)] if oldest_first else windows(after, upto):
        batches = log.scan(start, end, Record.__struct_fields__)
        if oldest_first:
            yield from (record for batch in batches for record in records_of(batch))
        else:
            yield from reversed([record for batch in batches for record in records_of(batch)])


def _row(record: Record, erasures: Sequence[ErasedBy]) -> tuple[object, ...]:
    return (
        record.position,
        record.commit,
        moment_of(record.recorded_at),
        f"{spoken(record.kind)} {record.entity_id}: {_summary(record, erasures)}",
        record.actor,
    )


def _summary(record: Record, erasures: Sequence[ErasedBy]) -> str:
    if record.payload is None:
        by = next((f" by erasure {mark.number}" for mark in erasures if mark.content), "")
        return f"(erased{by})"
    from eventstore.history.fields import parsed

    content = parsed(record.kind, record.payload)
    if record.kind not in ENTITY_KIND_NAMES:
        return " ".join(filter(None, (_stage(content), codes_of(record.kind, content))))
    change = "new" if record.previous is None else f"replaces {record.previous}"
    if record.kind == "event":
        known = content.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
        kind = known[content.type].name if content.type in known else content.type
        return f"artifact {content.artifact_id} {kind} of execution {content.execution_id}"
    if record.kind == "attribution":
        return f"artifact {content.artifact_id} in context {content.context_id}"
    if record.kind == "association":
        return f"execution {content.execution_id} in context {content.context_id}"
    if record.kind == "parent_context":
        return f"context {content.child_id} below context {content.parent_id}"
    words = [getattr(content, "type", ""), f"'{content.name}'" if content.name else "", change]
    return " ".join(word for word in words if word)


def _stage(content: Any) -> str:
    """Of a hold or erasure in small letters; of a rule whether it is withdrawn."""
    if "stage" not in content.DESCRIPTOR.fields_by_name:
        return "withdrawn" if content.is_withdrawn else ""
    return str(type(content).Stage.Name(content.stage)).lower().replace("_", " ")


def _fields(record: Record, erasures: Sequence[ErasedBy]) -> tuple[object, ...]:
    return (
        *(record.position, record.commit, moment_of(record.recorded_at), record.kind),
        *(record.entity_id, record.type_id, record.previous),
        *(record.actor, record.reason, record.request_id, _summary(record, erasures)),
        erasure_cell(erasures),
    )


def _answer(record: Record, erasures: Sequence[ErasedBy]) -> RecordAnswer:
    answer = RecordAnswer(
        position=record.position,
        commit=record.commit,
        recorded_at=moment_of(record.recorded_at),
        kind=record.kind,
        entity_id=record.entity_id,
        type_id=record.type_id,
        previous=record.previous,
        actor=record.actor,
        reason=record.reason,
        request_id=record.request_id,
        erasures=erasure_answers(erasures),
    )
    if record.payload is None:
        return answer
    from eventstore.history.fields import parsed

    return replace(answer, content=parsed(record.kind, record.payload))
