"""Files that are named on the command line, and what small ones say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from eventstore.errors import DataLossError, InvalidArgumentError, NotFoundError
from eventstore.log.os_errors import translated
from eventstore.log.places import is_url, place_of


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
        if isinstance(value, str) and is_url(value):
            # It would be taken for a folder, perhaps with a password in its name.
            self.fail("a URL is no path: name a file or directory of this machine", param, ctx)
        return super().convert(value, param, ctx)


class PlaceName(PathName):
    """The path of a store's directory, or its URL; a `Place`."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if not (isinstance(value, str) and is_url(value)):
            return super().convert(value, param, ctx)
        try:
            return place_of(value)
        except InvalidArgumentError as error:
            return self.fail(error.message, param, ctx)


class PathOrAddress(PathName):
    """The path of a folder, or the address of one that a web server has; a text."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        return value if "://" in str(value) else str(super().convert(value, param, ctx))


def file_option(name: str, parameter: str, help_text: str, **others: Any) -> Callable[[Any], Any]:
    """An option for a file that is there, which reaches the command as this parameter."""
    existing = PathName(exists=True, dir_okay=False)
    return click.option(name, parameter, metavar="FILE", type=existing, help=help_text, **others)


def text_of(file: Path) -> str:
    """What a small file says, its lines ending as they do there.

    Raises InvalidArgumentError for one that is no text.
    """
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{file} is no text") from None
    except OSError as error:
        raise translated(error, "reading", file) from None


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Have an error say which file it is of."""
    try:
        yield
    except (DataLossError, InvalidArgumentError) as error:
        raise type(error)(f"{file}: {error}") from None


@contextmanager
def checked() -> Iterator[None]:
    """Around what a command is to check: if that is not what it should be, it does not hold."""
    try:
        yield
    except (InvalidArgumentError, NotFoundError) as error:
        raise DataLossError(str(error)) from None
