"""How changes are shown: as lines for people, as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format

from eventstore.history import FieldChange


def shown_fields(fields: Iterable[FieldChange]) -> str:
    """A line a field: `uri: a -> b`, `state: + LIVE` for what is new, `- LIVE` for what went."""
    lines = []
    for change in fields:
        if change.before is None:
            lines.append(f"{change.field}: + {change.after}")
        elif change.after is None:
            lines.append(f"{change.field}: - {change.before}")
        else:
            lines.append(f"{change.field}: {change.before} -> {change.after}")
    return "\n".join(lines)


def fields_as_json(fields: Iterable[FieldChange]) -> list[dict[str, Any]]:
    return [{"field": c.field, "before": c.before, "after": c.after} for c in fields]


def message_as_json(message: Any) -> Any:
    """A message as protobuf's JSON; None stays None."""
    return None if message is None else json_format.MessageToDict(message)
