"""All pages."""

from __future__ import annotations

from typing import Final

from eventstore.http_api.application import Pages
from eventstore.page import log_pages, node_lists, nodes, overview, static_files
from eventstore.page.showing import problem_page

PAGES: Final = Pages(
    (*overview.ROUTES, *node_lists.ROUTES, *nodes.ROUTES, *log_pages.ROUTES),
    problem_page,
    static_files.ROUTES,
)
"""A page's routes are added here."""
