"""Notebooks: stores, nodes, lists, histories, lineage and results as HTML, and progress bars."""

from eventstore.notebook.registering import register
from eventstore.notebook.showing import html_of
from eventstore.notebook.store_page import sql_html, store_html

__all__ = ["html_of", "register", "sql_html", "store_html"]
