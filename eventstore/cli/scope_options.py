"""Options that say what a hold or a rule is about, who acts, and how long something is."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from eventstore.answers import Scope
from eventstore.cli.commands import Kind
from eventstore.log.record import ENTITY_KIND_NAMES
from eventstore.shown_text import shown_text

_UNITS = {
    "s": timedelta(seconds=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=366),
}
_LONGEST = 1_000 * _UNITS["y"]
_SPAN = re.compile(r"([0-9]{1,9})([shdwy])")


class Span(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A span of time: a whole number and its unit."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        found = _SPAN.fullmatch(str(value))
        if found is None:
            self.fail(
                f"{shown_text(str(value))!r} is no span of time: write 10y (of 366 days), 90d, 2w, "
                "12h or 30s",
                param,
                ctx,
            )
        # Not multiplied before it is known to fit.
        if not 0 < int(found[1]) <= _LONGEST // _UNITS[found[2]]:
            self.fail(f"{value!r} is no span to keep anything for: write 1s to 1000y", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


class _EntityName(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A kind and an id, such as artifact:7."""

    name = "entity"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        kind, _, number = str(value).partition(":")
        if not (number.isascii() and number.isdecimal()):
            self.fail(
                f"{shown_text(str(value))!r} is no entity: write a kind and an id, as artifact:7",
                param,
                ctx,
            )
        return Kind(ENTITY_KIND_NAMES).convert(kind, param, ctx), int(number)


def scope_options(run: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a scope: the command gets them as keywords that `new_scope` takes."""
    for option in reversed(
        (
            click.option(
                "--kind",
                "kinds",
                metavar="KIND",
                type=Kind(ENTITY_KIND_NAMES),
                multiple=True,
                help="What is of this kind, such as artifact or event.",
            ),
            click.option(
                "--type-id", "type_ids", type=int, multiple=True, help="Nodes of this type."
            ),
            click.option(
                "--context",
                "context_ids",
                metavar="ID",
                type=int,
                multiple=True,
                help="This context, and the nodes that are in it, now or later.",
            ),
            click.option(
                "--entity",
                "entities",
                metavar="KIND:ID",
                type=_EntityName(),
                multiple=True,
                help="This one, such as artifact:7.",
            ),
            click.option(
                "--filter",
                "filter_query",
                default="",
                help="Nodes that a filter of MLMD finds, now or later. It is kept for ever.",
            ),
        )
    ):
        run = option(run)
    return run


actor_option = click.option(
    "--actor", help="Who does it; by default the user of the operating system."
)
basis_option = click.option(
    "--basis",
    metavar="CODE",
    required=True,
    help="The code of the law, policy or case. It is kept for ever: name nobody.",
)


def ticket_option(*, required: bool) -> Callable[[Any], Any]:
    # A default of None would be taken for what was said.
    otherwise: dict[str, Any] = {"required": True} if required else {"default": ""}
    return click.option(
        "--ticket",
        metavar="CODE",
        help="The code of the ticket. It is kept for ever: name nobody.",
        **otherwise,
    )


def scope_in_words(scope: Scope) -> str:
    """What a scope is about, for people."""
    parts = [
        ", ".join(kind.replace("_", " ") + "s" for kind in scope.kinds),
        ", ".join(f"type {type_id}" for type_id in scope.type_ids),
        ", ".join(f"context {context_id}" for context_id in scope.context_ids),
        ", ".join(f"{kind.replace('_', ' ')} {id_}" for kind, id_ in scope.entities),
        scope.filter_query,
    ]
    return "; ".join(filter(None, parts)) or "everything"
