"""Make IPython show what belongs to this package: lists of nodes, and how far long work is."""

from __future__ import annotations

import sys
from typing import Any

from eventstore.long_work import show_long_work
from eventstore.notebook.progress import notebook_bar
from eventstore.notebook.showing import list_html


def register() -> None:
    """Register with this process's IPython, if it runs in one. A second call changes nothing."""
    shell = _shell()
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["text/html"]
    if list not in formatter.type_printers:
        formatter.for_type(list, _list_html)
    if getattr(shell, "kernel", None) is not None:
        show_long_work(notebook_bar)


def _shell() -> Any:
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def _list_html(values: Any) -> str | None:
    # IPython uses this for lists of other classes, too, in place of their own representation.
    if type(values) is not list:
        own = getattr(values, "_repr_html_", None)
        return own() if own is not None else None
    return list_html(values)
