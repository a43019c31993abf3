"""Who puts, why, and on which request: what every record of a commit says of its put."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.wording import quoted

TEXT_BYTES_MAX = 65_536


class Attribution(msgspec.Struct, frozen=True):
    """`request_id` tells a put from its repetition; None where there is nothing to say."""

    actor: str | None = None
    reason: str | None = None
    request_id: str | None = None

    def overlaid(self, other: Attribution) -> Attribution:
        """The other's values, and this one's where the other has none."""
        return Attribution(
            self.actor if other.actor is None else other.actor,
            self.reason if other.reason is None else other.reason,
            self.request_id if other.request_id is None else other.request_id,
        )


def checked_attribution(
    actor: str | None, reason: str | None, request_id: str | None
) -> Attribution:
    """Raises InvalidArgumentError for what is no text, empty, or longer than 64 KiB."""
    for name, text in (("actor", actor), ("reason", reason), ("request_id", request_id)):
        if text is None:
            continue
        if not isinstance(text, str) or not text:
            raise InvalidArgumentError(f"{name} is {text!r}: use a text that is not empty, or None")
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                f"{name} {quoted(text)} cannot be written as UTF-8"
            ) from None
        if len(encoded) > TEXT_BYTES_MAX:
            raise InvalidArgumentError(
                f"{name} has {len(encoded)} bytes: use {TEXT_BYTES_MAX} at most"
            )
    return Attribution(actor, reason, request_id)


# The blocks that the running thread or task is in, each with the object that it is for.
_BLOCKS: ContextVar[tuple[tuple[object, Attribution], ...]] = ContextVar("blocks", default=())


@contextmanager
def acting_for(subject: object, attribution: Attribution) -> Iterator[None]:
    """Attribute what this thread or task puts to `subject` within the block."""
    token = _BLOCKS.set((*_BLOCKS.get(), (subject, attribution)))
    try:
        yield
    finally:
        _BLOCKS.reset(token)


def current_attribution(subject: object, default: Attribution) -> Attribution:
    """What the blocks around say for `subject`, the innermost first."""
    for block_subject, attribution in _BLOCKS.get():
        if block_subject is subject:
            default = default.overlaid(attribution)
    return default
