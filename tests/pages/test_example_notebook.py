"""The example notebook runs from its first cell to its last, and a browser shows what it shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pages.browser import BROWSER, FAULTS, browser_page

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "example.ipynb"
PROGRESS = """
import eventstore.notebook.progress as progress
progress.PATIENCE_SECONDS = progress.BETWEEN_UPDATES_SECONDS = 0
store.rebuild()
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The example as it stands after a run, and the outputs of a cell that takes long."""
    reason = "nbclient and ipykernel are not installed: pip install nbclient ipykernel"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    folder = tmp_path_factory.mktemp("example")
    document = nbformat.read(EXAMPLE, as_version=4)
    cells = len(document.cells)
    document.cells.append(nbformat.v4.new_code_cell(PROGRESS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        # The kernel of this environment, whichever is installed for the user.
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
        patch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
        client = nbclient.NotebookClient(
            document, timeout=120, resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    long_cell = document.cells.pop()
    assert len(document.cells) == cells
    if os.environ.get("RENEW_PICTURES"):
        for cell in document.cells:
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.outputs = list(answers(cell))
        nbformat.write(document, EXAMPLE)
    return document, long_cell.outputs


def answers(cell: Any) -> Iterator[Any]:
    """A cell's outputs but for progress bars, which a slow machine shows."""
    return (output for output in cell.outputs if output.output_type == "execute_result")


def shown(document: Any) -> list[str]:
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    return [output.data["text/html"] for cell in code for output in answers(cell)]


def test_every_answer_is_html(executed: tuple[Any, Any]) -> None:
    document, _ = executed
    outputs = shown(document)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    assert len(outputs) == len(code)
    together = "\n".join(outputs)
    for said in ("churn-store", "<svg", "sales-march", "March was counted twice", "ana@example"):
        assert said in together
    # What a reader sees in the repository is what a run gives.
    stored = EXAMPLE.read_text(encoding="utf-8")
    assert stored.count('"text/html"') == len(outputs)


def test_long_work_shows_how_far_it_is(executed: tuple[Any, Any]) -> None:
    _, outputs = executed
    (bar,) = [output for output in outputs if output.output_type == "display_data"]
    assert "Rebuilding" in bar.data["text/plain"]
    assert "Rebuilding" in bar.data["text/html"]


def test_a_browser_shows_it(executed: tuple[Any, Any], tmp_path: Path) -> None:
    if BROWSER is None:
        pytest.skip("no Chromium is installed: make engines")
    document, _ = executed
    page_file = tmp_path / "example.html"
    parts = []
    for cell in document.cells:
        if cell.cell_type == "code":
            parts.append(f"<pre>{_escaped(cell.source)}</pre>")
            parts += shown_of(cell)
        else:
            title, _, text = cell.source.partition("\n")
            mark = title.startswith("#")
            parts.append(
                f"<h2>{title.lstrip('# ')}</h2>{text}" if mark else f"<p>{cell.source}</p>"
            )
    style = (
        "body{font:14px/1.5 sans-serif;max-width:62rem;margin:1.5rem auto;padding:0 1rem}"
        "pre{background:#f5f5f5;padding:.7rem;white-space:pre-wrap}"
    )
    page_file.write_text(
        f'<meta charset="utf-8"><style>{style}</style>{"".join(parts)}', encoding="utf-8"
    )
    with browser_page(tmp_path / "profile") as page:
        page.show(page_file, width=1100)
        assert page.ask(FAULTS) == []
        if os.environ.get("RENEW_PICTURES"):
            page.picture(ROOT / "docs" / "notebook.png", height=2200)


def shown_of(cell: Any) -> list[str]:
    return [output.data["text/html"] for output in answers(cell)]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
