"""The audit report: what it says, that it needs nothing else, and how a browser shows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.audit import SigningKey
from eventstore.lineage import Edge, Graph, GraphNode
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.report.drawing import drawing_of
from tests.builders import put_types

BROWSER = os.environ.get("BROWSER_BINARY") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"


class _Wellformed(HTMLParser):
    """Every element that is opened is closed, in order; collects what is in them."""

    VOID = frozenset(("meta", "br", "img", "link", "input"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> _Wellformed:
    parser = _Wellformed()
    parser.feed(html)
    assert parser.open == []
    return parser


@pytest.fixture
def pipeline(store: MetadataStore) -> tuple[MetadataStore, int, int]:
    """A store, the id of a model whose names mean harm, and the position when it was pushed."""
    dataset, train, run = put_types(store)
    (data_id,) = store.put_artifacts([mlmd.Artifact(type_id=dataset, name="sales")])
    (data,) = store.get_artifacts_by_id([data_id])
    model = mlmd.Artifact(type_id=dataset, name=HOSTILE, uri="s3://model")
    model.custom_properties[HOSTILE].string_value = HOSTILE
    with store.acting(actor="ana", reason=f"retraining {HOSTILE}"):
        _, (_, model_id), _ = store.put_execution(
            mlmd.Execution(type_id=train, name="train"),
            [
                (data, mlmd.Event(type=mlmd.Event.INPUT)),
                (model, mlmd.Event(type=mlmd.Event.OUTPUT)),
            ],
            [mlmd.Context(type_id=run, name=HOSTILE)],
        )
    pushed = store.log_position()
    with store.acting(actor="bob", reason="it was bad"):
        (model,) = store.get_artifacts_by_id([model_id])
        model.state = mlmd.Artifact.MARKED_FOR_DELETION
        store.put_artifacts([model])
    return store, model_id, pushed


def test_it_tells_what_was_known_and_what_has_changed_since(
    pipeline: tuple[MetadataStore, int, int],
) -> None:
    store, model_id, pushed = pipeline
    now = store.report("artifact", model_id)
    then = store.as_of(pushed).report("artifact", model_id)
    for html in (now, then):
        found = parsed(html)
        assert HOSTILE not in html
        assert [tag for tag, _ in found.elements if tag in ("script", "img", "link")] == []
        boxes = [attrs for tag, attrs in found.elements if attrs.get("class") == "box"]
        assert len(boxes) == 3
        assert sum(attrs.get("class") == "arrow" for _, attrs in found.elements) == 2
        for _, attrs in found.elements:
            assert not {"src", "href", "onclick", "onerror"} & set(attrs)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
        assert "ana" in html
        assert str(store.log.store_id) in html
    assert "MARKED_FOR_DELETION" in now
    assert 'id="since"' not in now
    assert 'id="since"' in then
    assert "it was bad" in then
    (commit,) = [c for c in store.log.commits() if c.last_position == pushed]
    assert commit.tree_head.hex() in then
    execution = store.get_executions()[0]
    assert "train" in store.report("execution", execution.id)


def test_it_shows_verification_and_proofs(pipeline: tuple[MetadataStore, int, int]) -> None:
    store, model_id, _ = pipeline
    checkpoint = store.checkpoint(SigningKey.generate("ana@example.com"))
    report = store.verify()
    html = store.report("artifact", model_id, verification=report, checkpoint=checkpoint)
    parsed(html)
    assert f"{report.records} records" in html
    assert "ana@example.com" in html
    assert html.count("<details>") == 2


def test_what_cannot_be_reported_on(pipeline: tuple[MetadataStore, int, int]) -> None:
    store, _, _ = pipeline
    with pytest.raises(errors.NotFoundError, match="no artifact has id 99"):
        store.report("artifact", 99)
    with pytest.raises(errors.InvalidArgumentError, match="no lineage"):
        store.report("context", 1)


def test_a_drawing_flows_to_the_right_even_with_cycles() -> None:
    def node(kind: str, number: int) -> GraphNode:
        message = mlmd.Artifact if kind == "artifact" else mlmd.Execution
        return GraphNode(kind, number, message(id=number, type="T"))

    nodes = tuple(node(kind, n) for kind in ("artifact", "execution") for n in (1, 2, 3))
    pairs = [
        (("artifact", 1), ("execution", 1)),
        (("execution", 1), ("artifact", 2)),
        (("artifact", 2), ("execution", 2)),
        (("execution", 2), ("artifact", 3)),
    ]
    cycle = [(("artifact", 3), ("execution", 3)), (("execution", 3), ("artifact", 3))]
    graph = Graph(nodes, tuple(Edge(a, b, mlmd.Event()) for a, b in pairs + cycle))
    drawing = drawing_of(graph, ("artifact", 2))
    places = {(box.kind, box.id): (box.x, box.y) for box in drawing.boxes}
    assert len(set(places.values())) == 6
    for source, target in pairs:
        assert places[source][0] < places[target][0]
    for box in drawing.boxes:
        assert box.x + box.width <= drawing.width
        assert box.y + box.height <= drawing.height
    assert [(box.kind, box.id) for box in drawing.boxes if box.is_subject] == [("artifact", 2)]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_it(pipeline: tuple[MetadataStore, int, int], tmp_path: Path) -> None:
    store, model_id, pushed = pipeline
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(store.as_of(pushed).report("artifact", model_id), encoding="utf-8")
    assert BROWSER is not None

    def browse(*options: str) -> str:
        started = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu"]
        started += [f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
        shown = subprocess.run(started, capture_output=True, timeout=120, check=True)
        return shown.stdout.decode()

    document = browse("--dump-dom")
    assert "<title>Audit report: DataSet &lt;script&gt;" in document
    assert document.count('class="box"') == 3
    browse(f"--screenshot={picture}", "--window-size=1200,1600")
    png = picture.read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    # A page that is shown is more than one colour: an empty one has some 5 KB.
    assert len(png) > 20_000
