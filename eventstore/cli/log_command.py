"""`eventstore log`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
from google.protobuf import json_format

import eventstore
from eventstore.cli.output import print_table, shown_moment, standard_output
from eventstore.errors import InvalidArgumentError
from eventstore.log import Log, Record
from eventstore.log.columns import MESSAGES
from eventstore.log.record import KINDS


@click.command(
    "log",
    epilog="""\b
Examples:
  eventstore log my-store
  eventstore log my-store --kind artifact --id 7
  eventstore log my-store --since 2026-11-20T08:00+00:00 --actor pipeline
  eventstore log my-store --after 1000 --limit 0 --json > records.jsonl
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), help="Only records of this kind.")
@click.option("--id", "entity_id", type=int, help="Only records of the entity with this id.")
@click.option("--actor", help="Only records that this actor put.")
@click.option("--after", type=int, default=0, help="Only records behind this position.")
@click.option("--upto", type=int, help="Only records up to this position.")
@click.option("--since", help="Only records recorded at or after this moment (ISO 8601, zoned).")
@click.option("--until", help="Only records recorded at or before this moment (ISO 8601, zoned).")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="0 for all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, contents included.")
def command(
    directory: Path,
    kind: str | None,
    entity_id: int | None,
    actor: str | None,
    after: int,
    upto: int | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the records of a store, the oldest first."""
    since_at, until_at = _microseconds("--since", since), _microseconds("--until", until)
    with eventstore.open(directory, read_only=True) as store:
        found = (
            record
            for record in _records(store.log, after, upto)
            if (kind is None or record.kind == kind)
            and (entity_id is None or record.entity_id == entity_id)
            and (actor is None or record.actor == actor)
            and (since_at is None or record.recorded_at >= since_at)
            and (until_at is None or record.recorded_at <= until_at)
        )
        shown = islice(found, limit) if limit else found
        if as_json:
            for record in shown:
                click.echo(json.dumps(_as_json(record), ensure_ascii=False))
            return
        rows = [
            (
                record.position,
                record.commit,
                shown_moment(record.recorded_at).removesuffix("+00:00"),
                record.kind.replace("_", " "),
                record.entity_id,
                _summary(record),
                record.actor,
            )
            for record in shown
        ]
        has_more = next(found, None) is not None
    columns = ("position", "commit", "recorded at (UTC)", "kind", "id", "what", "actor")
    console = standard_output()
    print_table(f"Records of {directory}", columns, rows, console=console)
    if has_more:
        console.print(f"There are more: say --limit 0 for all, or --after {rows[-1][0]}.")


def _records(log: Log, after: int, upto: int | None) -> Iterator[Record]:
    # A range may start or end inside a commit; commits are read whole.
    for commit in log.commits(log.commit_end(after)):
        if upto is not None and commit.first_position > upto:
            return
        for record in commit.records:
            if record.position > after and (upto is None or record.position <= upto):
                yield record


def _summary(record: Record) -> str:
    if record.payload is None:
        return "(erased)"
    content = MESSAGES[record.kind].FromString(record.payload)
    change = "new" if record.previous is None else f"replaces {record.previous}"
    if record.kind == "event":
        kind = content.Type.Name(content.type)
        return f"artifact {content.artifact_id} {kind} of execution {content.execution_id}"
    if record.kind == "attribution":
        return f"artifact {content.artifact_id} in context {content.context_id}"
    if record.kind == "association":
        return f"execution {content.execution_id} in context {content.context_id}"
    if record.kind == "parent_context":
        return f"context {content.child_id} below context {content.parent_id}"
    words = [getattr(content, "type", ""), repr(content.name) if content.name else "", change]
    return " ".join(word for word in words if word)


def _as_json(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "position": record.position,
        "commit": record.commit,
        "recorded_at": shown_moment(record.recorded_at),
        "kind": record.kind,
        "entity_id": record.entity_id,
        "type_id": record.type_id,
        "previous": record.previous,
        "actor": record.actor,
        "reason": record.reason,
        "request_id": record.request_id,
    }
    if record.payload is not None:
        content = MESSAGES[record.kind].FromString(record.payload)
        try:
            fields["content"] = json_format.MessageToDict(content, preserving_proto_field_name=True)
        except (json_format.Error, TypeError):
            # An Any of a message that is not known here, or a NaN, has no JSON form.
            fields["content_text"] = str(content)
    return fields


def _microseconds(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(
            f"{option} {text!r} is no moment: write it as 2026-11-20T08:00:00+00:00"
        ) from None
    if moment.tzinfo is None:
        raise InvalidArgumentError(f"{option} {text!r} has no time zone: add one, such as +00:00")
    return round(moment.timestamp() * 1_000_000)
