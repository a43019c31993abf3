"""The lines of the server's log, as text or as JSON: one for each thing that is told.

What callers have sent stands in quotes, escaped and cut: nobody outside writes a line of their own.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Final

from eventstore.shown_text import harmless_json, shown_text

FIELDS: Final = "fields"
"""The attribute of a record that has what it says by name."""

_TEXT_LENGTH_MAX: Final = 1_000
_PLAIN: Final = re.compile(r"[\w.:/-]{1,100}", re.ASCII)


class LogFormat(Enum):
    """How lines are written."""

    TEXT = "text"
    JSON = "json"


class TextLines(logging.Formatter):
    """`TIME LEVEL MESSAGE name=value ...`; lines of a traceback begin with `  | `."""

    def format(self, record: logging.LogRecord) -> str:
        told = [_time_of(record), record.levelname, shown_text(record.getMessage())]
        told += [f"{name}={_as_text(value)}" for name, value in _fields(record).items()]
        lines = [" ".join(told)]
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            lines += [f"  | {shown_text(line)}" for line in trace]
        return "\n".join(lines)


class JsonLines(logging.Formatter):
    """An object a line: `time`, `level`, `message`, then what else there is by name."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return harmless_json(json.dumps(told, ensure_ascii=False, default=str))


_FORMATTERS: Final = {LogFormat.TEXT: TextLines, LogFormat.JSON: JsonLines}


def log_to_standard_error(form: LogFormat, level: str) -> None:
    """Write what this process logs, from a level on, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_FORMATTERS[form]())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("eventstore").setLevel(level)


def cut(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= _TEXT_LENGTH_MAX else text[:_TEXT_LENGTH_MAX] + "..."


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, FIELDS, {})
    return fields


def _time_of(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_text(value: object) -> str:
    text = str(value)
    if not isinstance(value, str) or _PLAIN.fullmatch(text):
        return text
    return shown_text(json.dumps(text, ensure_ascii=False))
