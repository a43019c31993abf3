"""How a block of code ended, and what is recorded of the exception that ended it."""

from __future__ import annotations

import traceback

from eventstore.recording.texts import encodable

_CHARACTERS_MAX = 10_000
_FIRST_CHARACTERS = 1_000
_MARK_CHARACTERS_MAX = 100


def is_success(exception: BaseException | None) -> bool:
    """Whether it ended well: `sys.exit()` and `sys.exit(0)` are no failures."""
    return exception is None or (isinstance(exception, SystemExit) and not exception.code)


def described_error(error: BaseException) -> dict[str, str]:
    """What is recorded of an error: its class and text, and where it came from."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return {"error": _shortened(text), "traceback": _shortened("".join(lines))}


def _shortened(text: str) -> str:
    """A text of at most 10,000 characters; in a longer one a mark takes the place of the middle."""
    text = encodable(text)
    if len(text) <= _CHARACTERS_MAX:
        return text
    # The end of a long text says most; its beginning is the class of the error.
    last = _CHARACTERS_MAX - _FIRST_CHARACTERS - _MARK_CHARACTERS_MAX
    left_out = len(text) - _FIRST_CHARACTERS - last
    mark = f"\n[... {left_out:,} characters left out ...]\n"
    return text[:_FIRST_CHARACTERS] + mark + text[-last:]
