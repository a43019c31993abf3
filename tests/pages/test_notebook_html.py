"""What a notebook shows of answers: whole, harmless, and in its place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.notebook import html_of
from eventstore.notebook.html import CELL_CHARACTERS_MAX
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.shown_text import shown_text
from tests.command_line.hostile import LONG, TEXTS, make_store
from tests.pages import stores
from tests.pages.browser import BROWSER, FAULTS, WITHOUT_BROWSER, browser_page

ROOT = Path(__file__).parents[2]
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e0fff]"
)
ELEMENTS = {
    *("div", "span", "strong", "del", "br", "table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "g", "path", "rect", "text", "title"),
}


class Shown(HTMLParser):
    """The elements, and the texts in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {name for name, _ in attrs} & {"class", "id"} or tag in ("g", "rect", "path")
        assert not any(name.startswith("on") or name in ("href", "src") for name, _ in attrs)
        self.elements.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def hostile_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetadataStore]:
    directory = tmp_path_factory.mktemp("notebook") / "store"
    make_store(directory)
    with eventstore.open(directory) as store:
        yield store


def answers(store: MetadataStore) -> dict[str, Any]:
    """One answer of every kind."""
    artifacts, executions = store.get_artifacts(), store.get_executions()
    shown: dict[str, Any] = {
        "store": store,
        "as of": store.as_of(12),
        "artifact": artifacts[0],
        "new artifact": mlmd.Artifact(name=TEXTS[0]),
        "execution": executions[0],
        "context": store.get_contexts()[0],
        "type": store.get_artifact_types()[0],
        "event": store.get_events_by_artifact_ids([1])[0],
        "history": store.history("artifact", 2),
        "version": store.history("artifact", 2)[0],
        "touching": store.context_history(2),
        "diff": store.diff(12),
        "difference": store.diff(12)[0],
        "commit": next(store.changes(12)),
        "change": next(store.changes(12)).changes[0],
        "lineage": store.lineage("artifact", 1),
        "context graph": store.context_graph(1),
        "lineage difference": store.lineage_diff("artifact", 1, 12),
        "runs": store.find_runs("=Train\x1b", [], states=()),
        "comparison": store.compare("artifact", 1, 2),
        "verification": store.verify(),
        "sql": store.sql("SELECT name, uri, id FROM artifacts ORDER BY id"),
    }
    return shown


LISTS = {
    "artifacts": lambda store: store.get_artifacts(),
    "executions": lambda store: store.get_executions(),
    "contexts": lambda store: store.get_contexts(),
    "types": lambda store: store.get_execution_types(),
    "events": lambda store: store.get_events_by_execution_ids([1, 2]),
    "commits": lambda store: list(store.changes()),
    "differences": lambda store: list(store.diff(0)),
}


def test_every_answer_is_shown_and_harmless(hostile_store: MetadataStore) -> None:
    found = {name: value._repr_html_() for name, value in answers(hostile_store).items()}
    found |= {name: html_of(read(hostile_store)) for name, read in LISTS.items()}
    for name, html in found.items():
        assert UNSEEN.search(html) is None, name
        shown = Shown(html)
        assert shown.elements <= ELEMENTS, name
        assert "".join(shown.texts).strip(), name


def test_nodes_are_shown_whole(hostile_store: MetadataStore) -> None:
    for artifact in hostile_store.get_artifacts():
        together = "".join(Shown(artifact._repr_html_()).texts)
        if artifact.name != LONG:
            assert shown_text(artifact.name) in together
        else:
            assert "x" * 2_000 + "\u2026 (8,000 more characters)" in together


def test_long_lists_show_their_beginning_and_say_how_long_they_are(
    hostile_store: MetadataStore,
) -> None:
    artifacts = hostile_store.get_artifacts()
    html = html_of(artifacts)
    assert html is not None
    assert html.count("<tr") == 21
    assert f"20 of {len(artifacts)} artifacts" in html
    assert "20 of" not in (html_of(artifacts[:3]) or "")
    assert "1 artifact<" in (html_of(artifacts[:1]) or "")
    assert "3 artifacts" in (html_of(artifacts[:3]) or "")
    rows = hostile_store.sql("SELECT range AS n FROM range(12345)")._repr_html_()
    assert "20 of 12,345 rows" in rows
    long = hostile_store.sql(f"SELECT '{LONG}' AS text")._repr_html_()
    assert f"{10_000 - CELL_CHARACTERS_MAX:,} more characters" in long


def test_other_lists_are_not_taken() -> None:
    for value in ([], [1, 2], ["x"], [mlmd.Artifact(), 1], [[mlmd.Artifact()]], {}, None, "x"):
        assert html_of(value) is None


def test_answers_stay_lists(hostile_store: MetadataStore) -> None:
    assert type(hostile_store.get_artifacts()) is list
    for found in (hostile_store.history("artifact", 1), hostile_store.diff(12)):
        assert isinstance(found, list)
        assert found == list(found)


def test_a_large_lineage_is_drawn_in_part() -> None:
    store, kind, node_id = stores.deep()
    html = store.lineage(kind, node_id)._repr_html_()
    assert html is not None
    assert html.count('class="box"') == 61
    assert "341 of these are not drawn" in html
    assert "341 nodes left out" in html
    assert ">origin<" in html


def test_a_store_that_is_closed_has_no_html(tmp_path: Path) -> None:
    store = eventstore.open(tmp_path / "store")
    store.close()
    assert store._repr_html_() is None


@pytest.mark.skipif(BROWSER is None, reason=WITHOUT_BROWSER)
def test_a_browser_shows_it_light_and_dark(hostile_store: MetadataStore, tmp_path: Path) -> None:
    shown = [value._repr_html_() for value in answers(hostile_store).values()]
    small, kind, node_id = stores.small()
    shown.append(small.lineage(kind, node_id)._repr_html_())
    page_file = tmp_path / "page.html"
    outputs = "".join(f'<div style="overflow:auto;margin:1em 0">{html}</div>' for html in shown)
    style = (
        "body{font:13px sans-serif}"
        "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}}"
    )
    page_file.write_text(f'<meta charset="utf-8"><style>{style}</style>{outputs}', encoding="utf-8")
    # Texts have the colour of the page's, whichever that is.
    coloured = """
      [...document.querySelectorAll('body *')].filter(e => e.firstChild?.nodeType === 3
        && getComputedStyle(e).color !== getComputedStyle(document.body).color).length
    """
    with browser_page(tmp_path / "profile") as page:
        for dark in (False, True):
            page.show(page_file, width=1200, dark=dark)
            faults = [fault for fault in page.ask(FAULTS) if not fault.startswith("broken")]
            assert faults == []
            assert page.ask(coloured) == 0


IPYTHON = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
store = eventstore.open(sys.argv[1])
show = shell.display_formatter.format

class Mine(list):
    def _repr_html_(self):
        return "mine"

artifacts = store.get_artifacts()
found = [show(v)[0].get("text/html") for v in (artifacts, [1, 2], Mine(artifacts), artifacts[0])]
print(json.dumps([html and html[:4] for html in found]))
"""


def test_ipython_shows_lists(hostile_store: MetadataStore) -> None:
    pytest.importorskip("IPython", reason="IPython is not installed: pip install ipykernel")
    directory = hostile_store.log.directory
    done = subprocess.run(
        [sys.executable, "-c", IPYTHON, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "IPYTHONDIR": str(directory) + "-ipython"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["<div", None, "mine", "<div"]


def test_nothing_of_it_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, eventstore; store = eventstore.open(sys.argv[1]); store.get_artifacts();"
        "print([m for m in sys.modules if m.startswith(('eventstore.notebook', 'IPython'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "[]"
