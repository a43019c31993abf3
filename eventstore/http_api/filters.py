"""Filters as they are written: what is wrong and where, and what could come next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.catalog import node_kind, types, used_properties, value_field
from eventstore.log.kinds import NodeKind
from eventstore.metadata_store.source import Source
from eventstore.projections.filter import compile_filter
from eventstore.projections.filter.lexing import pieces
from eventstore.projections.filter.schema import COLUMNS, NEIGHBOURS, PROPERTY_MEMBERS
from eventstore.proto import metadata_store_pb2 as mlmd

_PREFIX: Final = "Invalid `filter_query`: "
_AT: Final = re.compile(r"at character (\d+)")
_NAMED: Final = re.compile(r"(?:Unrecognized name:|Field name) (\S+?)[;,.]?(?: |$)")
_UNFINISHED: Final = ("end of expression", "at the end", "unclosed")
_PIECES_MAX: Final = 200
"""Longer filters are said to be wrong, and not where."""

_WORD: Final = re.compile(r"(?:[\w.]|`[^`]*`?)*\Z")
_STATES: Final[Mapping[str, Any]] = {
    "state": mlmd.Artifact.State,
    "last_known_state": mlmd.Execution.State,
    "events.type": mlmd.Event.Type,
}
_COMPARED: Final = re.compile(
    r"([\w.]+|`[^`]*`)\s*(?:=|!=|<>|\bIN\s*\((?:[^()]*,)?)\s*(['\"]?)[\w./:-]*\Z", re.IGNORECASE
)
_KEYWORDS: Final = ("AND", "OR", "NOT", "IN", "LIKE", "BETWEEN", "IS NULL")
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`")
_QUOTE: Final = re.compile("['\"]")
_VALUE: Final = re.compile(r"[\w./:-]*\Z")
_SHOWN_MAX: Final = 50


class FilterCheck(msgspec.Struct, frozen=True):
    """Whether a filter can be asked, and if not, why, and from which character on (from 0).

    It is unfinished where all of it could stand in a filter, and more has to come.
    """

    is_valid: bool
    error: str | None = None
    position: int | None = None
    is_unfinished: bool = False


class Completion(msgspec.Struct, frozen=True):
    """What could stand at a place. `nodes` is how many nodes have it, where that is known.

    `kind` is column, property, value, neighbour, type, state or keyword.
    """

    text: str
    kind: str
    type: str | None = None
    nodes: int | None = None


class Completions(msgspec.Struct, frozen=True):
    """What could stand in the place of the characters from `start` to the cursor (from 0)."""

    start: int
    completions: list[Completion]


def check(kind: str, text: str) -> FilterCheck:
    """Whether a text is a filter on nodes of a kind, or nothing at all."""
    node_kind(kind)
    if not text.strip():
        return FilterCheck(is_valid=True)
    error = _error(kind, text)
    if error is None:
        return FilterCheck(is_valid=True)
    if any(said in error for said in _UNFINISHED):
        return FilterCheck(False, error, len(text.rstrip()), is_unfinished=True)
    return FilterCheck(False, error, _position(kind, text, error))


def complete(source: Source, kind: str, text: str, cursor: int) -> Completions:
    """What could stand at a cursor, by what there is as of the moment: the most frequent first."""
    of_kind = node_kind(kind)
    before = text[: max(0, cursor)]
    values = _values(source, of_kind, before)
    if values is not None:
        return values
    if _is_in_text(before):
        return Completions(len(before), [])
    match = _WORD.search(before)
    assert match is not None
    word = match.group()
    known = [*_names(source, of_kind, word)]
    lowered = word.lower()
    fitting = [one for one in known if one.text.lower().startswith(lowered)]
    within = [
        one for one in known if one not in fitting and len(word) > 1 and lowered in one.text.lower()
    ]
    return Completions(match.start(), (fitting + within)[:_SHOWN_MAX])


def parts_of(text: str) -> list[str]:
    """The conditions of a filter that AND connects; none where they are not only connected so."""
    depth, is_between, start = 0, False, 0
    parts = []
    try:
        found = pieces(text)
    except InvalidArgumentError:
        return []
    for begin, end in found:
        word = text[begin:end].upper()
        if word in ("(", "CASE"):
            depth += 1
        elif word in (")", "END"):
            depth -= 1
        elif depth:
            continue
        elif word == "OR":
            return []
        elif word == "BETWEEN":
            is_between = True
        elif word == "AND":
            if not is_between:
                parts.append(text[start:begin].strip())
                start = end
            is_between = False
    return [*parts, text[start:].strip()]


def _error(kind: str, text: str) -> str | None:
    try:
        compile_filter(text, kind)
    except InvalidArgumentError as error:
        return error.message.removeprefix(_PREFIX)
    return None


def _position(kind: str, text: str, error: str) -> int | None:
    """The first character of what is wrong; None where that is not told."""
    said = _AT.search(error)
    if said is not None:
        return min(int(said.group(1)) - 1, len(text))
    named = _NAMED.search(error)
    if named is not None:
        place = _place_of(text, named.group(1))
        if place is not None:
            return place
    try:
        found = pieces(text)
    except InvalidArgumentError:
        return None
    if len(found) > _PIECES_MAX:
        return None
    # Parsed from the left: from the piece on that is wrong, the error stays the same.
    for start, end in found:
        if end < len(text.rstrip()) and _error(kind, text[:end]) == error:
            return start
    return found[-1][0] if found else 0


def _place_of(text: str, name: str) -> int | None:
    match = re.search(rf"(?<![\w`]){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    return None if match is None else match.start()


def _is_in_text(before: str) -> bool:
    """Whether a quoted text has begun and not ended."""
    return bool(_QUOTE.search(_QUOTED.sub("", before)))


def _values(source: Source, kind: NodeKind, before: str) -> Completions | None:
    """The types or states that a name could be compared with; None where that is no such."""
    compared = _COMPARED.search(before)
    if compared is None:
        return None
    name, quote = compared.group(1).lower(), compared.group(2)
    value = _VALUE.search(before)
    assert value is not None
    start = value.start() - len(quote)
    typed = before[start:].strip("'\"").lower()
    alias, _, field = name.rpartition(".")
    prefix = next((p for p in NEIGHBOURS[kind.name] if alias.startswith(f"{p}_")), None)
    found: list[Completion] = []
    if name == "type" or (field == "type" and prefix not in (None, "events")):
        of = kind.name if prefix is None else _kind_of(prefix)
        found = [
            Completion(_quoted(one.name), "type", "STRING", one.count)
            for one in types(source, of)
            if one.count or kind.name == of
        ]
    else:
        enum = _STATES.get(f"{prefix}.{field}" if prefix == "events" else field)
        if enum is None:
            return None
        found = [Completion(state, "state") for state in enum.DESCRIPTOR.values_by_name]
    shown = [one for one in found if typed in one.text.lower()]
    return Completions(start, shown[:_SHOWN_MAX])


def _kind_of(prefix: str) -> str:
    return "context" if prefix.endswith("contexts") else prefix.removesuffix("s")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _names(source: Source, kind: NodeKind, word: str) -> Iterator[Completion]:
    alias = word.partition(".")[0]
    prefix = next((p for p in NEIGHBOURS[kind.name] if alias.lower().startswith(f"{p}_")), None)
    if prefix is not None and "." in word:
        neighbour = NEIGHBOURS[kind.name][prefix]
        names = [*neighbour.fields, *(("type",) if neighbour.has_type else ())]
        for name in names:
            column = neighbour.fields.get(name)
            yield Completion(
                f"{alias}.{name}", "column", "STRING" if column is None else column.type
            )
        return
    for name, column in {"type": None, **COLUMNS[kind.name]}.items():
        yield Completion(name, "column", "STRING" if column is None else column.type)
    for used in used_properties(source, kind.name):
        yield from _members(used.name, used.types, used.nodes)
    yield from _declared(source, kind)
    for known in NEIGHBOURS[kind.name]:
        yield Completion(f"{known}_a.", "neighbour")
    if word.isalpha() or not word:
        for keyword in _KEYWORDS:
            yield Completion(keyword, "keyword")


def _declared(source: Source, kind: NodeKind) -> Iterator[Completion]:
    """Properties of types that no node has yet."""
    used = {one.name for one in used_properties(source, kind.name)}
    declared = {
        f"properties.{one.name}": one.type
        for node_type in types(source, kind.name)
        for one in node_type.properties
    }
    for name, type_ in declared.items():
        if name not in used:
            yield from _members(name, [type_], 0)


def _members(name: str, value_types: Sequence[str], nodes: int) -> Iterator[Completion]:
    map_name, _, bare = name.partition(".")
    written = bare if re.fullmatch(r"\w+", bare, re.ASCII) else f"`{bare}`"
    if "`" in bare:
        # No filter can name it.
        return
    for value_type in value_types:
        member = value_field(value_type)
        if member in PROPERTY_MEMBERS:
            yield Completion(f"{map_name}.{written}.{member}", "property", value_type, nodes)
