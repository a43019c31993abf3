"""Classes that show themselves in a notebook; `eventstore.notebook` writes what is shown."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def repr_html(value: Any) -> str | None:
    """The value as HTML, for the display of a notebook; None for what is shown as text."""
    # Imported by name: this module is below all that is shown, and the notebook's is above it.
    html: str | None = import_module("eventstore.notebook").html_of(value)
    return html


class ShownInNotebooks:
    """Its instances are shown as HTML."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return repr_html(self)


class ShownList(list[T], ShownInNotebooks):
    """A list that is shown as a table."""

    __slots__ = ()
