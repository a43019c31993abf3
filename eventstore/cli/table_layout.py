"""How rows are laid out as text: in columns where they fit, else one under the other.

Words are never broken: a line is wrapped between words, and a word that is wider than the terminal
is left to the terminal, so that it is copied whole. What is cut is marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

_GAP: Final = 2
_CHARACTERS_MAX: Final = 500
"""How many characters of a cell are shown on a terminal; elsewhere all of them are."""

Cell = tuple[str, ...]
"""The lines of a cell, which are harmless text."""

Row = tuple[Cell, ...]


def laid_out(
    names: Sequence[str],
    rows: Sequence[Row],
    right: Sequence[bool],
    width: int | None,
    *,
    is_full: bool = False,
) -> Iterator[str]:
    """The lines of a table under its header; `right` tells which columns are flushed right.

    `width` is the terminal's; without one no line is wrapped and nothing cut. With
    `is_full` long values are not cut on a terminal, either.
    """
    if width is None:
        yield from _in_lines(names, rows, right)
        return
    if not is_full:
        rows = [tuple(map(cut, row)) for row in rows]
    widths = _column_widths(names, rows, width)
    if widths is None:
        yield from _under_each_other(names, rows, width)
        return
    if any(names):
        yield from _row([(name,) for name in names], widths, right)
        yield (" " * _GAP).join("─" * column for column in widths)
    for row in rows:
        yield from _row(row, widths, right)


def wrapped(text: str, width: int | None, indent: int = 0) -> Iterator[str]:
    """The text in lines of at most `width`, broken between words; lines after the first indented.

    Without a width it is one line.
    """
    if width is None or _cell_len(text) <= width:
        yield text
        return
    line, *words = text.split(" ")
    for word in words:
        if line.strip() and _cell_len(line) + 1 + _cell_len(word) > width:
            yield line
            line = " " * indent + word
        else:
            line = f"{line} {word}"
    yield line


def cut(cell: Cell) -> Cell:
    """The beginning of a long cell, and how much more there is, and how to see it."""
    size = sum(map(len, cell))
    if size <= _CHARACTERS_MAX:
        return cell
    kept: list[str] = []
    room = _CHARACTERS_MAX
    for line in cell:
        kept.append(line[:room])
        room -= len(line)
        if room <= 0:
            break
    kept[-1] += "…"
    return (*kept, f"({size - sum(map(len, kept)) + 1:,} more characters: say --full)")


def _in_lines(names: Sequence[str], rows: Sequence[Row], right: Sequence[bool]) -> Iterator[str]:
    """A line per row, in columns as wide as most of their values."""
    texts = [tuple(names)] + [tuple("; ".join(cell) for cell in row) for row in rows]
    widths = [
        min(max(_cell_len(text[column]) for text in texts), 60) for column in range(len(names))
    ]
    for text in texts if any(names) else texts[1:]:
        yield _side_by_side(text, widths, right)


def _column_widths(names: Sequence[str], rows: Sequence[Row], width: int) -> list[int] | None:
    """How wide each column is, or None when words of all of them do not fit side by side."""
    least: list[int] = []
    most: list[int] = []
    for column, name in enumerate(names):
        lines = [name, *(line for row in rows for line in row[column])]
        least.append(max(_cell_len(word) for line in lines for word in line.split(" ")))
        most.append(max(map(_cell_len, lines)))
    room = width - _GAP * (len(names) - 1)
    if sum(least) > room:
        return None
    widths = list(least)
    room -= sum(widths)
    # What is left goes to the columns that lack least, so that as few as possible are wrapped.
    for column in sorted(range(len(names)), key=lambda column: most[column] - least[column]):
        given = min(most[column] - widths[column], room)
        widths[column] += given
        room -= given
    return widths


def _row(cells: Sequence[Cell], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    lines = [
        [part for line in cell for part in wrapped(line, width)] or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    for number in range(max(map(len, lines))):
        texts = [line[number] if number < len(line) else "" for line in lines]
        yield _side_by_side(texts, widths, right)


def _under_each_other(names: Sequence[str], rows: Sequence[Row], width: int) -> Iterator[str]:
    """A line per value, with its column's name; an empty line between rows."""
    indent = max(map(_cell_len, names)) + _GAP if any(names) else 0
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(names, row, strict=True):
            start = _padded(name, indent, False) if any(names) else ""
            for line in cell:
                if not line:
                    continue
                for part in wrapped(line, max(width - indent, 1)):
                    yield start + part
                    start = " " * indent


def _side_by_side(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = (_padded(*part) for part in zip(texts, widths, right, strict=True))
    return (" " * _GAP).join(parts).rstrip(" ")


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - _cell_len(text))
    return space + text if right else text + space


def _cell_len(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
