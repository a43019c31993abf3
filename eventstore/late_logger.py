"""Loggers that import `logging`, which takes long, when they have something to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import logging


class _LateLogger:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import logging

        return getattr(logging.getLogger(self._name), method)


def late_logger(name: str) -> logging.Logger:
    """The logger of this name, as far as its methods are called."""
    return cast("logging.Logger", _LateLogger(name))
