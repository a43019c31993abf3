"""All pages."""

from __future__ import annotations

from typing import Final

from eventstore.http_api.application import Pages
from eventstore.page import (
    compare_page,
    go_to,
    lineage,
    log_pages,
    node_lists,
    nodes,
    overview,
    proof_page,
    reports,
    rules,
    sql_page,
    static_files,
    type_page,
    verification,
)
from eventstore.page.showing import problem_page, sign_in_form, stores_page

PAGES: Final = Pages(
    routes=(
        *overview.ROUTES,
        *node_lists.ROUTES,
        *nodes.ROUTES,
        *type_page.ROUTES,
        *log_pages.ROUTES,
        *proof_page.ROUTES,
        *compare_page.ROUTES,
        *sql_page.ROUTES,
        *lineage.ROUTES,
        *reports.ROUTES,
        *rules.ROUTES,
        *go_to.ROUTES,
        *verification.ROUTES,
    ),
    show_problem=problem_page,
    show_form=sign_in_form,
    show_stores=stores_page,
    files=static_files.ROUTES,
)
"""A page's routes are added here."""
