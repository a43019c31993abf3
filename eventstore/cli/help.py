"""Help as it is printed: words whole, first sentences uncut, examples that stay commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from eventstore.cli.table_layout import wrapped
from eventstore.shown_text import shown_lines, shown_text

_GAP = 2


class HelpFormatter(click.HelpFormatter):
    """Click's, which would break words at their hyphens."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        self._write(f"{prefix or 'Usage: '}{prog} {args}", indent=4)

    def write_text(self, text: str) -> None:
        for number, paragraph in enumerate(text.split("\n\n")):
            if number:
                self.write("\n")
            self._write(" ".join(paragraph.split()))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = _GAP
    ) -> None:
        rows = list(rows)
        names = [len(name) for name, _ in rows if len(name) <= col_max]
        start = self.current_indent + max(names, default=0) + col_spacing
        for name, text in rows:
            line = " " * self.current_indent + name
            words = " ".join(text.split())
            if len(line) + col_spacing > start:
                self.write(line + "\n")
                line = ""
            lines = list(wrapped(words, max(self.width - start, 1))) if words else [""]
            for part in lines:
                self.write((line.ljust(start) + part).rstrip() + "\n")
                line = ""

    def _write(self, text: str, indent: int = 0) -> None:
        space = " " * self.current_indent
        for line in wrapped(text, self.width - self.current_indent, indent):
            self.write(space + line + "\n")


class Context(click.Context):
    """One whose help is formatted so."""

    formatter_class = HelpFormatter


class ErrorInLines(click.ClickException):
    """An error that is shown in lines, since it points to a place in what was asked."""

    def show(self, file: Any = None) -> None:
        click.echo(f"eventstore: {shown_lines(self.message)}", file=file, err=file is None)


class Command(click.Command):
    """A command whose help ends in examples, and whose texts are texts."""

    context_class = Context

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Click's; refuses bytes that are no UTF-8, which only paths may have."""
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            if parameter.type is click.STRING and parameter.name is not None:
                value = ctx.params.get(parameter.name)
                for text in value if isinstance(value, tuple) else (value,):
                    _require_utf_8(text, parameter, ctx)
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


class CommandGroup(click.Group):
    """A command of several, each shown with the whole first sentence of its help."""

    context_class = Context

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            near = nearest(args[0], known) or f": use one of {', '.join(known)}"
            ctx.fail(f"there is no command {shown_text(args[0])!r}{near}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None
            rows.append((name, command.get_short_help_str(limit=1_000)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _require_utf_8(text: Any, parameter: click.Parameter, ctx: click.Context) -> None:
    try:
        str(text).encode()
    except UnicodeEncodeError:
        raise click.BadParameter(
            f"'{shown_text(str(text))}' is no text in UTF-8", ctx, parameter
        ) from None


def write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """Write command lines, which can be copied however narrow the terminal is."""
    import shutil

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    formatter.write("\nExamples:\n")
    for example in examples:
        lines = list(wrapped(f"  {example}", width and width - len(" \\"), indent=6))
        formatter.write(" \\\n".join(lines) + "\n")


def nearest(word: str, known: Sequence[str]) -> str:
    """`: did you mean 'artifact'?` for a word that is nearly a known one, else nothing."""
    import difflib

    by_folded = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return f": did you mean '{shown_text(by_folded[found[0]])}'?" if found else ""
