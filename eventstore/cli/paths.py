"""Files that are named on the command line, and what small ones say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from eventstore.log.os_errors import translated


class PathName(click.Path):  # type: ignore[type-arg, unused-ignore]
    """The path of a file or folder. Whether it may be read shows when it is read."""

    def __init__(self, **others: Any) -> None:
        super().__init__(readable=False, path_type=Path, **others)

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if value == "":
            # It would be taken for the current folder.
            self.fail("an empty text is no path: write . for the current folder", param, ctx)
        return super().convert(value, param, ctx)


def file_option(name: str, parameter: str, help_text: str, **others: Any) -> Callable[[Any], Any]:
    """An option for a file that is there, which reaches the command as this parameter."""
    existing = PathName(exists=True, dir_okay=False)
    return click.option(name, parameter, metavar="FILE", type=existing, help=help_text, **others)


def text_of(file: Path) -> str:
    """What a small file says, its lines ending as they do there.

    Raises click.UsageError for one that is no text.
    """
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is no text") from None
    except OSError as error:
        raise translated(error, "reading", file) from None
