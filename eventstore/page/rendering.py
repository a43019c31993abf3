"""Templates, and how they become pages."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eventstore.page.formatting import FILTERS, GLOBALS, TESTS, finalized
from eventstore.page.links import web_address
from eventstore.page.static_files import address_of


def rendered(template: str, values: dict[str, Any]) -> str:
    """A page. All that it writes is escaped: see `texts`."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    made.tests.update(TESTS)
    made.globals.update(GLOBALS, web_address=web_address, static=address_of)
    return made
