"""MLMD's messages, alone and in lists, as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from eventstore.history.fields import plain_fields
from eventstore.notebook.html import (
    ROWS_MAX,
    Html,
    block,
    bold,
    fields,
    heading,
    soft,
    table,
)
from eventstore.plain_json import moment_of_milliseconds
from eventstore.plain_values import shown_struct
from eventstore.proto import metadata_store_pb2 as mlmd

KINDS: Final = {
    mlmd.Artifact: "artifact",
    mlmd.Execution: "execution",
    mlmd.Context: "context",
    mlmd.ArtifactType: "artifact_type",
    mlmd.ExecutionType: "execution_type",
    mlmd.ContextType: "context_type",
    mlmd.Event: "event",
    mlmd.Attribution: "attribution",
    mlmd.Association: "association",
    mlmd.ParentContext: "parent_context",
}
_NODES: Final = (mlmd.Artifact, mlmd.Execution, mlmd.Context)
_TYPES: Final = (mlmd.ArtifactType, mlmd.ExecutionType, mlmd.ContextType)
_PROPERTY_COLUMNS_MAX: Final = 4


def message_html(message: Any) -> Html:
    """What a message says, field by field."""
    kind = KINDS[type(message)]
    said = _plain(message)
    if isinstance(message, _NODES):
        title = heading(
            soft(f"{kind} {message.id}" if message.HasField("id") else f"{kind}, not put yet"),
            *([message.type] if message.type else []),
            bold(said.pop("name", "")),
        )
        times = [
            (name, moment_of_milliseconds(getattr(message, field)))
            for name, field in (
                ("created", "create_time_since_epoch"),
                ("updated", "last_update_time_since_epoch"),
            )
            if message.HasField(field)
        ]
        return block(title, fields([*said.items(), *times]))
    title = heading(soft(kind.replace("_", " ")), bold(said.pop("name", "")))
    if isinstance(message, mlmd.Event) and "milliseconds_since_epoch" in said:
        said["time"] = moment_of_milliseconds(said.pop("milliseconds_since_epoch"))
    return block(title, fields(said.items()))


def messages_html(messages: Sequence[Any]) -> Html:
    """A list of messages of one class: the first as rows, and how many there are."""
    kind = KINDS[type(messages[0])]
    shown = list(islice(messages, ROWS_MAX))
    said = [_plain(message) for message in shown]
    names: dict[str, None] = {}
    if isinstance(shown[0], _NODES):
        used = Counter(name for fields_ in said for name in fields_ if "." in name)
        properties = sorted(used, key=lambda name: (-used[name], name))[:_PROPERTY_COLUMNS_MAX]
        others = ["name", "state", "last_known_state", "uri", "external_id"]
        names = dict.fromkeys(
            [*(name for name in others if any(f.get(name) for f in said)), *properties]
        )
        columns = ["id", "type", *names, "updated"]
        rows = [
            [
                message.id if message.HasField("id") else None,
                message.type,
                *(values.get(name) for name in names),
                moment_of_milliseconds(message.last_update_time_since_epoch)
                if message.HasField("last_update_time_since_epoch")
                else None,
            ]
            for message, values in zip(shown, said, strict=True)
        ]
    elif isinstance(shown[0], _TYPES):
        columns = ["id", "name", "version", "properties"]
        rows = [
            [
                message.id,
                message.name,
                message.version,
                ", ".join(
                    f"{name}: {mlmd.PropertyType.Name(message.properties[name])}"
                    for name in sorted(message.properties)
                ),
            ]
            for message in shown
        ]
    else:
        columns = list(dict.fromkeys(name for values in said for name in values))
        rows = [[values.get(name) for name in columns] for values in said]
    labels = [name.split(".", 1)[1] if "." in name else name for name in columns]
    return block(table(labels, rows, len(messages), f"{kind.replace('_', ' ')}s"))


def _plain(message: Any) -> dict[str, Any]:
    fields = plain_fields(KINDS[type(message)], message)
    said = {name: shown_struct(value) for name, value in fields.items()}
    if isinstance(message, _TYPES):
        return {"id": message.id, **said} if message.HasField("id") else said
    return said
