"""The results of commands: typed rows, written as text for people, as JSON or as CSV.

A command says what it found and never prints by itself. Results alone go to standard output, or
where --output says; what is said about them (notes, progress, the moment meant) goes to standard
error.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
from msgspec import Struct
from msgspec.structs import asdict, astuple

from eventstore.answers import ExportAnswer, ReportAnswer
from eventstore.cli.table_layout import Cell, cut, laid_out, wrapped
from eventstore.errors import AlreadyExistsError, InvalidArgumentError
from eventstore.log.os_errors import translated, translating
from eventstore.log.stores import is_store
from eventstore.log.syncing import sync_directory
from eventstore.plain_json import json_text, members, moment_text, plain
from eventstore.plain_values import number_text
from eventstore.shown_text import harmless_json, shown_lines, shown_text

_ROWS_AT_ONCE: Final = 1_000
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


class Lines(Struct, frozen=True):
    """A value of several lines: one below the other on a terminal, else after semicolons."""

    lines: tuple[str, ...]


class Grid(Struct, frozen=True):
    """Rows under names such as `recorded_at`, of numbers, texts, times, booleans, None, `Lines`.

    As JSON a row is an object on its own line.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[object]]
    title: str = ""
    is_named_by_query: bool = False
    """Whether the columns' names are somebody's own, and so are shown as they are."""


class Paragraph(Struct, frozen=True):
    """A line of text for people, and those that belong below it."""

    text: str
    below: Sequence[str] = ()


class Output(Struct, frozen=True):
    """Where a command's result goes, and in which form: `text`, `json` or `csv`."""

    form: str = "text"
    local: bool = False
    full: bool = False
    """Whether values of any length are shown whole on a terminal."""
    file: Path | None = None
    force: bool = False
    grows: bool = False
    """Whether --output's file is there from the start, and each line of it at once."""
    is_wrapped: bool = True
    """Whether text is laid out for the terminal; if not, it is whole, as in a pipe."""
    says_where: bool = False
    """Whether --output was given, be it for standard output."""

    def grid(
        self,
        grid: Grid,
        *,
        objects: Callable[[], Iterable[object]] | None = None,
        csv: Callable[[], Grid] | None = None,
    ) -> None:
        """Write rows. `objects` are the lines of JSON and `csv` the CSV where they say more."""
        if self.form == "json":
            self.json_lines(objects() if objects is not None else _row_objects(grid))
        elif self.form == "csv":
            self.csv(csv() if csv is not None else grid)
        else:
            self.grids(grid)

    def grids(self, *grids: Grid) -> None:
        """Write grids for people."""
        with self.opened() as written:
            width = self.width()
            for number, grid in enumerate(grids):
                if number:
                    written.line()
                # In a pipe a single grid is its rows alone.
                if grid.title and (width is not None or len(grids) > 1):
                    for line in wrapped(shown_text(grid.title), width):
                        written.line(line, bold=True)
                self._grid(grid, width, written)

    def paragraphs(self, paragraphs: Iterable[Paragraph]) -> None:
        """Write lines for people, each at once."""
        with self.opened() as written:
            width = self.width()
            for paragraph in paragraphs:
                for line in wrapped(self._shortened(paragraph.text, width), width, indent=2):
                    written.line(line)
                for below in paragraph.below:
                    shown = "    " + self._shortened(below, width)
                    for line in wrapped(shown, width, indent=6):
                        written.line(line)
                written.flush()

    def json(self, value: object) -> None:
        """Write one JSON value."""
        self.json_lines([value])

    def json_lines(self, values: Iterable[object]) -> None:
        """Write one line of JSON per value, each at once where somebody may wait for it."""
        with self.opened() as written:
            for value in values:
                written.line(json_text(self._in_zone(value)))
                if self.file is None or self.grows:
                    written.flush()

    def csv(self, grid: Grid) -> None:
        """Write comma-separated values under a header: texts quoted, nothing for None.

        A text that a spreadsheet would take for a formula has an apostrophe put in front.
        """
        with self.opened() as written:
            written.line(",".join(_csv_text(name) for name in grid.columns))
            for row in grid.rows:
                written.line(",".join(self._csv_value(value) for value in row))
                if self.grows:
                    written.flush()

    def text(self, text: str) -> None:
        """Write text of a form of its own, such as Graphviz's; harmless on a terminal."""
        with self.opened() as written:
            written.text(shown_lines(text) if written.is_terminal else text)

    def text_or(self, text: str, answer: Struct) -> None:
        """Write text of a form of its own, or the same as a JSON object or a row."""
        if self.form == "text":
            self.text(text)
        else:
            self.said("", answer)

    def said(self, sentence: str, answer: Struct) -> None:
        """Write a result that is one sentence, or the same as a JSON object or a row."""
        if self.form == "json":
            self.json(answer)
        elif self.form == "csv":
            self.csv(Grid(answer.__struct_fields__, [astuple(answer)]))
        else:
            self.paragraphs([Paragraph(sentence)])

    def document(self, parts: Iterable[bytes], answer: ExportAnswer | ReportAnswer) -> None:
        """Write what has a form of its own, and tell of it: as JSON or CSV, or in a note."""
        if self.form != "text" and self.file is None:
            raise click.UsageError(f"--{self.form} tells of a file: name it with --output")
        with self.opened() as written:
            for part in parts:
                # Each byte counts in a file, and what a terminal would obey on a terminal.
                shown = harmless_json(part.decode()).encode() if written.is_terminal else part
                written.stream.write(shown)
        if self.form != "text":
            Output(self.form, self.local).said("", answer)
        elif self.file is not None:
            _, (name, count) = asdict(answer).items()
            note(f"{self.file}: {count} {name}")

    def check(self) -> None:
        """Refuse early a file that exists, or that would lie in a store.

        Raises AlreadyExistsError, InvalidArgumentError.
        """
        if self.file is None:
            return
        refuse_inside_of_store(self.file)
        if not self.force and self.file.is_file():
            raise _exists(self.file)

    @contextmanager
    def opened(self) -> Iterator[_Written]:
        """Where the result is written; a file appears when it is complete, unless it grows."""
        if self.file is None:
            yield _Written(sys.stdout.buffer, is_terminal=sys.stdout.isatty())
            return
        opening = growing_file if self.grows else written_file
        with opening(self.file, force=self.force) as stream:
            yield _Written(stream, is_terminal=False)

    def width(self) -> int | None:
        """The terminal's width; None where the result goes elsewhere, or is not laid out for it."""
        if not self.is_wrapped or self.file is not None or not sys.stdout.isatty():
            return None
        return _columns()

    @property
    def file_name(self) -> str | None:
        """The file that the result goes into, as it was named."""
        return None if self.file is None else str(self.file)

    @property
    def _zone(self) -> tzinfo | None:
        """The zone that times are shown in; None for this machine's."""
        return None if self.local else timezone.utc

    def moment(self, moment: datetime) -> str:
        """A time as results have it."""
        return moment_text(moment.astimezone(self._zone))

    def shown(self, value: object) -> str:
        """A value as text for people has it, on one line."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, datetime) and value.tzinfo is not None:
            return self.moment(value)
        if isinstance(value, str):
            return shown_text(value)
        if isinstance(value, float):
            return repr(value) if value - value == 0 else number_text(value)
        held = plain(self._in_zone(value))
        return shown_text(held) if isinstance(held, str) else json_text(held)

    def _grid(self, grid: Grid, width: int | None, written: _Written) -> None:
        names = [
            shown_text(name if grid.is_named_by_query else name.replace("_", " "))
            for name in grid.columns
        ]
        rows = iter(grid.rows)
        is_first = True
        while (part := list(islice(rows, _ROWS_AT_ONCE))) or is_first:
            right = [all(map(_is_flushed_right, column)) for column in zip(*part, strict=True)]
            texts = [tuple(map(self._cell, row)) for row in part]
            lines = laid_out(names, texts, right or [False] * len(names), width, is_full=self.full)
            if not is_first and width is None:
                # The header is above already.
                next(lines)
            for line in lines:
                written.line(line)
            is_first = False

    def _shortened(self, text: str, width: int | None) -> str:
        shown = shown_text(text)
        return shown if self.full or width is None else " ".join(cut((shown,)))

    def _cell(self, value: object) -> Cell:
        if isinstance(value, Lines):
            return tuple(shown_text(line) for line in value.lines)
        return (self.shown(value),)

    def _csv_value(self, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, Lines):
            return _csv_text("\n".join(value.lines))
        if isinstance(value, str):
            return _csv_text(value)
        text = self.shown(value)
        is_bare = isinstance(value, (bool, int, float, datetime)) or not isinstance(
            plain(value), (str, list, dict)
        )
        return text if is_bare else _csv_text(text)

    def _in_zone(self, value: Any) -> Any:
        """The value with its times in the zone that is asked for."""
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(self._zone)
        if isinstance(value, Struct):
            value = members(value)
        if isinstance(value, dict):
            return {key: self._in_zone(held) for key, held in value.items()}
        # Other tuples, such as Arrow's intervals, are one value.
        if type(value) in (list, tuple):
            return [self._in_zone(held) for held in value]
        return value


class _Written(Struct):
    """A stream that lines are written to."""

    stream: BinaryIO
    is_terminal: bool
    _is_bold: bool = False

    def __post_init__(self) -> None:
        self._is_bold = self.is_terminal and not os.environ.get("NO_COLOR")

    def line(self, text: str = "", *, bold: bool = False) -> None:
        self.text((f"\x1b[1m{text}\x1b[0m" if bold and self._is_bold else text) + "\n")

    def text(self, text: str) -> None:
        self.stream.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self.stream.flush()


@contextmanager
def written_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A new file, which appears under its name when it is complete; `force` replaces one.

    Raises AlreadyExistsError when it exists, InvalidArgumentError when it would lie in a store, and
    the errors of the disk.
    """
    refuse_inside_of_store(path)
    try:
        exists = os.path.lexists(path)
        if exists and not path.is_file():
            # A device or a pipe is written to as it is; a directory is refused by the system.
            with open(path, "wb") as written:
                yield written
            return
        if exists and not force:
            raise _exists(path)
        target = path.resolve()
        unfinished = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
        try:
            with open(unfinished, "xb") as written:
                if exists:
                    _take_after(target, written.fileno())
                yield written
            os.replace(unfinished, target)
        finally:
            with suppress(OSError):
                unfinished.unlink()
    except OSError as error:
        raise translated(error, "writing", path) from None


def write_durably(path: Path, text: str) -> None:
    """Replace a file, or make it, so that it lasts when this returns; raises as `written_file`."""
    with written_file(path, force=True) as written:
        written.write(text.encode())
        written.flush()
        os.fsync(written.fileno())
    with translating("writing", path):
        sync_directory(path.resolve().parent)


@contextmanager
def growing_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A new file that is there at once, for a result without an end; raises as `written_file`."""
    refuse_inside_of_store(path)
    try:
        if path.is_file() and not force:
            raise _exists(path)
        with open(path, "wb" if os.path.lexists(path) else "xb") as written:
            yield written
    except OSError as error:
        raise translated(error, "writing", path) from None


def _take_after(replaced: Path, descriptor: int) -> None:
    """Give a file the owner and mode of the one that it will replace, before it has content."""
    status = replaced.stat()
    # Nobody but root may give files away; a group of one's own can be kept.
    for owner in (status.st_uid, -1):
        with suppress(OSError):
            os.fchown(descriptor, owner, status.st_gid)
            break
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def refuse_inside_of_store(path: Path) -> None:
    """Raise InvalidArgumentError for a path inside of a store's directory, whichever store it is.

    Links are followed, since what they lead to is what is written.
    """
    try:
        folders = path.resolve().parents
        store = next((folder for folder in folders if is_store(folder)), None)
    except RuntimeError:
        # Links that lead to each other, as Python before 3.13 says it: opening fails, too.
        return
    except OSError as error:
        raise translated(error, "writing", path) from None
    if store is not None:
        raise InvalidArgumentError(
            f"{path} is inside of the store {store}: choose a file outside of it"
        )


def _exists(path: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{path} exists: choose another file, or say --force")


def note(sentence: str) -> None:
    """Say something about the result on standard error."""
    width = _columns() if sys.stderr.isatty() else None
    # The result is what counts, even if nothing can be said about it.
    with suppress(OSError):
        for line in wrapped(shown_text(sentence), width):
            click.echo(line, err=True)


def _columns() -> int:
    """Of the terminal, as far as it can be told."""
    import shutil

    return max(shutil.get_terminal_size().columns, 20)


def _is_flushed_right(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _row_objects(grid: Grid) -> Iterator[dict[str, object]]:
    for row in grid.rows:
        yield {
            name: value.lines if isinstance(value, Lines) else value
            for name, value in zip(grid.columns, row, strict=True)
        }


def _csv_text(text: str) -> str:
    if text.lstrip(" ").startswith(_FORMULA_STARTS):
        text = "'" + text
    return '"' + shown_lines(text).replace('"', '""') + '"'
