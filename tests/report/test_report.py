"""The audit report: what it says, and that it needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from eventstore import errors
from eventstore.audit import SigningKey
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types

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
        # Once for wide and once for narrow pages.
        boxes = [attrs for tag, attrs in found.elements if attrs.get("class") == "box"]
        assert len(boxes) == 2 * 3
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
    assert "A checkpoint holds" in html
    assert "the tree over the first" in html
    verified = store.verify(checkpoints=[checkpoint])
    assert "read and hashed anew" in store.report(
        "artifact", model_id, verification=verified, checkpoint=checkpoint
    )
    damaged = msgspec.structs.replace(verified, ok=False)
    html = store.report("artifact", model_id, verification=damaged, checkpoint=checkpoint)
    assert "A checkpoint holds" not in html
    assert "The store is damaged" in html


def test_what_cannot_be_reported_on(pipeline: tuple[MetadataStore, int, int]) -> None:
    store, _, _ = pipeline
    with pytest.raises(errors.NotFoundError, match="no artifact has id 99"):
        store.report("artifact", 99)
    with pytest.raises(errors.InvalidArgumentError, match="no lineage"):
        store.report("context", 1)
    with pytest.raises(errors.InvalidArgumentError, match="limit is 0: use 1 or more"):
        store.report("artifact", 1, limit=0)
