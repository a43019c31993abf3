"""What all commands have in common: arguments, options, help with examples, near misses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from eventstore.cli.help import Command, nearest
from eventstore.cli.moments import EXAMPLES, given_moment, refuse_unknown_zone
from eventstore.cli.paths import PathName, PlaceName
from eventstore.cli.results import Output
from eventstore.shown_text import shown_text

NODE_KINDS = ("artifact", "execution", "context")
TYPE_KINDS = ("artifact_type", "execution_type", "context_type")


def command(name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., None]], Command]:
    """Make a function a command of this name."""
    return click.command(name, cls=Command, examples=examples)


class Kind(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """One of some kinds of entities; plurals, hyphens and capitals are understood."""

    name = "kind"

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = kinds

    def get_metavar(self, param: click.Parameter, ctx: Any = None) -> str:  # noqa: ARG002
        return "KIND"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        folded = str(value).casefold().replace("-", "_")
        for kind in self.kinds:
            if folded in (kind, f"{kind}s"):
                return kind
        suggestion = nearest(folded, self.kinds) or f": use one of {', '.join(self.kinds)}"
        return self.fail(f"{shown_text(str(value))!r} is no kind here{suggestion}", param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        return [CompletionItem(kind) for kind in self.kinds if kind.startswith(incomplete)]


class Choice(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """One of some words; a word that is nearly one of them is answered with it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            known = [str(choice) for choice in self.choices]
            suggestion = nearest(str(value), known) or f": use one of {', '.join(known)}"
            self.fail(f"{shown_text(str(value))!r} is unknown{suggestion}", param, ctx)
        return str(value)


store_argument = click.argument("place", metavar="STORE", type=PlaceName())


def kind_argument(kinds: Sequence[str]) -> Callable[[Any], Any]:
    return click.argument("kind", metavar="KIND", type=Kind(kinds))


def moment_option(name: str, help_text: str) -> Callable[[Any], Any]:
    """An option for a moment, which reaches the command as a `Moment` or None."""
    return click.option(name, metavar="MOMENT", help=help_text)


as_of_option = moment_option("--as-of", f"Answer as of a moment instead of now: {EXAMPLES}.")


def limit_option(help_text: str) -> Callable[[Any], Any]:
    """An option for how much is shown; 0 is all."""
    limit = click.IntRange(min=0)
    return click.option("--limit", type=limit, default=100, show_default=True, help=help_text)


_OUTPUT_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "json": click.option("--json", "as_json", is_flag=True, help="Write JSON."),
    "csv": click.option("--csv", "as_csv", is_flag=True, help="Write comma-separated values."),
    "full": click.option("--full", is_flag=True, help="Cut no long values on a terminal."),
    "local": click.option(
        "--local", is_flag=True, help="Read and show times in this machine's zone, not in UTC."
    ),
    "output": click.option(
        "--output",
        "output_file",
        metavar="FILE",
        type=PathName(),
        help="Write the result into FILE, which must be new; - is standard output.",
    ),
    "force": click.option("--force", is_flag=True, help="Let --output replace a file."),
}

_MOMENTS = ("as_of", "since", "until", "first", "second")


def output_options(run: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every result: the command gets them as one `Output` named `output`.

    Its arguments that are moments come as `Moment`, in the zone that is asked for.
    """
    return _with_options(run, set())


def output_options_without(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same without options that would do nothing, or what should not be done."""
    assert set(names) <= set(_OUTPUT_OPTIONS), names
    return lambda run: _with_options(run, set(names))


def _with_options(run: Callable[..., None], without: set[str]) -> Callable[..., None]:
    @functools.wraps(run)
    def with_output(
        *arguments: Any,
        as_json: bool,
        as_csv: bool,
        output_file: Path | None = None,
        force: bool = False,
        full: bool = False,
        local: bool = False,
        **others: Any,
    ) -> None:
        if as_json and as_csv:
            raise click.UsageError("--json and --csv exclude each other")
        if local:
            refuse_unknown_zone()
        output = Output(
            form="json" if as_json else "csv" if as_csv else "text",
            local=local,
            full=full,
            file=None if str(output_file) == "-" else output_file,
            force=force,
            says_where=output_file is not None,
        )
        for name in _MOMENTS:
            if isinstance(others.get(name), str):
                others[name] = given_moment(others[name], local=local)
        run(*arguments, output=output, **others)

    wrapped_run: Callable[..., None] = with_output
    for name, option in reversed(_OUTPUT_OPTIONS.items()):
        if name not in without:
            wrapped_run = option(wrapped_run)
    return wrapped_run
