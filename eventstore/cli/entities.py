"""How entities and what changed in them are shown, in every form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from eventstore.answers import ErasedByAnswer, FieldAnswer
from eventstore.cli.results import Grid, Lines, Output
from eventstore.log.record import ENTITY_KIND_NAMES
from eventstore.plain_json import moment_of_milliseconds
from eventstore.plain_values import shown_struct

if TYPE_CHECKING:
    from eventstore.history import FieldChange
    from eventstore.history.marks import ErasedBy

CHANGE_COLUMNS = ("field", "before", "after", "erasures")
"""Of CSV; `erasures` is the text of the JSON that has them."""


def described(kind: str, message: Any) -> dict[str, object]:
    """What a node or type says, by field: numbers, texts, times; properties by their names."""
    fields: dict[str, object] = {"id": message.id}
    if kind in ("artifact", "execution", "context"):
        fields |= {"type_id": message.type_id, "type": message.type}
    from eventstore.history.fields import plain_fields

    said = {name: shown_struct(value) for name, value in plain_fields(kind, message).items()}
    fields |= {name: value for name, value in said.items() if "." not in name}
    if "last_known_state" in fields:
        fields["state"] = fields.pop("last_known_state")
    for column, field in (
        ("created_at", "create_time_since_epoch"),
        ("updated_at", "last_update_time_since_epoch"),
    ):
        if getattr(message, field, 0):
            fields[column] = moment_of_milliseconds(getattr(message, field))
    return fields | {name: value for name, value in said.items() if "." in name}


def entity_table(
    described_entities: Iterable[dict[str, object]], columns: Sequence[str] = ()
) -> Grid:
    """A row per entity: the given columns, then every other field that any of them has."""
    found = list(described_entities)
    names = dict.fromkeys([*columns, *(name for entity in found for name in entity)])
    # Properties after fields, each in the order of their names.
    ordered = sorted(names, key=lambda name: ("." in name, name if "." in name else ""))
    return Grid(ordered, [tuple(entity.get(name) for name in ordered) for entity in found])


def shown_fields(
    fields: Iterable[FieldChange],
    output: Output,
    erasures: Iterable[ErasedBy] = (),
    replaces: int | None = None,
) -> Lines:
    """A line per field: `uri: a -> b`, `state: + LIVE` for what is new, `- LIVE` for what went.

    Before them one for the redacted version that it took the place of, and one for each erasure.
    """
    lines = [] if replaces is None else [f"takes the place of position {replaces}"]
    lines += shown_erasures(erasures, output)
    for change in fields:
        before, after = (
            output.shown(_parts_of_erasure(change.field, value)) for value in _shown_values(change)
        )
        if change.before is None:
            lines.append(f"{change.field}: + {after}")
        elif change.after is None:
            lines.append(f"{change.field}: - {before}")
        else:
            lines.append(f"{change.field}: {before} -> {after}")
    return Lines(tuple(lines))


def _parts_of_erasure(field: str, value: Any) -> object:
    """What an erasure says of positions and files, as text; other values as they are."""
    if not isinstance(value, list):
        return value
    if field == "ranges":
        return "; ".join(map(_range_words, value))
    if field == "files":
        return "; ".join(
            f"segment {file['segment']} was {file['old_sha256']}, "
            f"{'is ' + file['new_sha256'] if 'new_sha256' in file else 'is dropped'}"
            for file in value
        )
    return value


def _range_words(found: dict[str, Any]) -> str:
    first, last = found["first_position"], found["last_position"]
    where = f"position {first}" if first == last else f"positions {first} to {last}"
    redacted = found.get("redacted_properties", ())
    by = f", replaced by position {found['replaced_by']}" if "replaced_by" in found else ""
    return f"{where}: {taken('content' in found, 'who' in found, redacted)}{by}"


def taken(content: bool, who: bool, redacted: Iterable[str]) -> str:
    """What an erasure takes of a record: `content`, `owner and who`."""
    words = [", ".join(redacted) or "content"] if content else []
    return " and ".join([*words, *(["who"] if who else [])])


def shown_erasures(erasures: Iterable[ErasedBy], output: Output) -> tuple[str, ...]:
    """A line per erasure: what it took, by whom, when, and on which basis."""
    return tuple(
        f"{mark.what} erased by erasure {mark.number}: {mark.basis}"
        f"{f', {mark.ticket}' if mark.ticket else ''}, {mark.by}, "
        f"{output.moment(mark.requested_at)}"
        for mark in erasures
    )


def codes_of(kind: str, message: Any) -> str:
    """The basis and ticket of a rule, hold or erasure; nothing for other kinds."""
    if kind in ENTITY_KIND_NAMES:
        return ""
    return ", ".join(code for code in (message.basis, message.ticket) if code)


def erasure_answers(erasures: Iterable[ErasedBy]) -> list[ErasedByAnswer] | UnsetType:
    """As JSON has them; left out where nothing was erased."""
    found = [
        ErasedByAnswer(**{name: getattr(mark, name) for name in ErasedByAnswer.__struct_fields__})
        for mark in erasures
    ]
    return found or UNSET


def erasure_cell(erasures: Iterable[ErasedBy]) -> list[ErasedByAnswer] | None:
    """As CSV has them: JSON, or nothing."""
    found = erasure_answers(erasures)
    return None if found is UNSET else found


def change_rows(
    start: tuple[object, ...], fields: Iterable[FieldChange], erasures: Iterable[ErasedBy]
) -> Iterable[tuple[object, ...]]:
    """Rows for CSV: one per field that changed, or one without a field where none did."""
    marks = erasure_cell(erasures)
    rows = [(*start, change.field, *_shown_values(change), marks) for change in fields]
    return rows or [(*start, None, None, None, marks)]


def _shown_values(change: FieldChange) -> tuple[object, object]:
    """Before and after, times as such."""
    if not change.field.endswith("since_epoch"):
        return shown_struct(change.before), shown_struct(change.after)
    before, after = (
        value if value is None else moment_of_milliseconds(value)
        for value in (change.before, change.after)
    )
    return before, after


def field_answers(fields: Iterable[FieldChange]) -> list[FieldAnswer]:
    return [FieldAnswer(c.field, shown_struct(c.before), shown_struct(c.after)) for c in fields]


def spoken(kind: str) -> str:
    """A kind in words: `artifact type`."""
    return kind.replace("_", " ")
