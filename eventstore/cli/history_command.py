"""`eventstore history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from eventstore.answers import VersionAnswer
from eventstore.cli.commands import (
    as_of_option,
    command,
    kind_argument,
    output_options,
    store_argument,
)
from eventstore.cli.entities import (
    CHANGE_COLUMNS,
    change_rows,
    erasure_answers,
    field_answers,
    shown_fields,
    spoken,
)
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.results import Grid, Output
from eventstore.cli.stores import opened_store
from eventstore.log.places import Place
from eventstore.log.record import ENTITY_KIND_NAMES

if TYPE_CHECKING:
    from eventstore.history import Version


_COLUMNS = ("kind", "id", "position", "commit", "recorded_at", "actor", "reason", "request_id")


@command(
    "history",
    examples=(
        "eventstore history my-store artifact 7",
        "eventstore history my-store context 3 --touching",
        "eventstore history my-store artifact_type 10 --as-of 2026-11-20 --json",
    ),
)
@store_argument
@kind_argument(ENTITY_KIND_NAMES)
@click.argument("entity_id", metavar="ID", type=int)
@click.option(
    "--touching", is_flag=True, help="Of a context: all that touched it, links from and to it."
)
@click.option("--reverse", is_flag=True, help="The newest version first.")
@as_of_option
@output_options
def history_command(
    place: Place,
    kind: str,
    entity_id: int,
    touching: bool,
    reverse: bool,
    as_of: Moment | None,
    output: Output,
) -> None:
    """Show every version of an entity: when, by whom, why, and what changed.

    KIND is that of a node (artifact, execution, context), of a type (artifact_type, ...) or of a
    link (event, attribution, association, parent_context). The oldest version comes first.
    """
    if touching and kind != "context":
        raise click.UsageError("--touching is for contexts")
    with opened_store(place) as opened:
        store = store_as_of(opened, as_of, output)
        if touching:
            versions = store.context_history(entity_id)
        else:
            versions = store.history(kind, entity_id)
    if reverse:
        versions.reverse()
    output.grid(
        Grid(
            ("position", "recorded_at", "actor", "reason", "what", "changes"),
            [
                (
                    version.position,
                    version.recorded_at,
                    version.actor,
                    version.reason,
                    f"{spoken(version.kind)} {version.id}",
                    shown_fields(version.changes, output, version.erasures, version.replaces),
                )
                for version in versions
            ],
            f"History of {spoken(kind)} {entity_id}",
        ),
        objects=lambda: map(_answer, versions),
        csv=lambda: Grid(
            (*_COLUMNS, *CHANGE_COLUMNS),
            [
                row
                for version in versions
                for row in change_rows(
                    tuple(getattr(version, name) for name in _COLUMNS),
                    version.changes,
                    version.erasures,
                )
            ],
        ),
    )


def _answer(version: Version) -> VersionAnswer:
    return VersionAnswer(
        kind=version.kind,
        id=version.id,
        position=version.position,
        commit=version.commit,
        recorded_at=version.recorded_at,
        actor=version.actor,
        reason=version.reason,
        request_id=version.request_id,
        changes=field_answers(version.changes),
        message=version.message,
        erasures=erasure_answers(version.erasures),
        replaces=UNSET if version.replaces is None else version.replaces,
    )
