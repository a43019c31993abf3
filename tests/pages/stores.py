"""Stores whose lineage is small, deep, wide, or full of hostile texts."""

from __future__ import annotations

from collections.abc import Iterable

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store
from tests.command_line.hostile import TEXTS

Subject = tuple[eventstore.MetadataStore, str, int]


class Recorder:
    """Puts artifacts of a type `Dataset` and executions of a type `Train`."""

    def __init__(self) -> None:
        self.store = memory_store()
        self.dataset = self.store.put_artifact_type(mlmd.ArtifactType(name="Dataset"))
        self.train = self.store.put_execution_type(mlmd.ExecutionType(name="Train"))

    def source(self, name: str) -> int:
        (made,) = self.store.put_artifacts([mlmd.Artifact(type_id=self.dataset, name=name)])
        return made

    def step(self, name: str, inputs: Iterable[int], *outputs: str) -> list[int]:
        given = [(None, mlmd.Event(type=mlmd.Event.INPUT, artifact_id=i)) for i in inputs]
        made = [
            (mlmd.Artifact(type_id=self.dataset, name=o), mlmd.Event(type=mlmd.Event.OUTPUT))
            for o in outputs
        ]
        execution = mlmd.Execution(type_id=self.train, name=name)
        execution.last_known_state = mlmd.Execution.COMPLETE
        return self.store.put_execution(execution, [*given, *made], [])[1][len(given) :]


def small() -> Subject:
    recorder = Recorder()
    store = recorder.store
    sales, prices = recorder.source("sales-2026-03"), recorder.source("prices-2026-03")
    (features,) = recorder.step("transform", [sales, prices], "features-2026-03")
    (churn,) = recorder.step("train", [features], "churn-2026-03")
    recorder.step("evaluate", [churn], "metrics-2026-03")
    with store.acting(actor="ben", reason="March was counted twice", request_id="DATA-1381"):
        (bad,) = store.get_artifacts_by_id([sales])
        bad.state = mlmd.Artifact.MARKED_FOR_DELETION
        store.put_artifacts([bad])
    return store, "artifact", churn


def deep() -> Subject:
    recorder = Recorder()
    made = recorder.source("origin-of-all")
    for number in range(200):
        (made,) = recorder.step(f"day-{number}", [made], f"increment-{number:05}")
    return recorder.store, "artifact", made


def wide() -> Subject:
    recorder = Recorder()
    sources = [recorder.source(f"origin-{number:03}") for number in range(60)]
    (joined,) = recorder.step("join", sources, "joined")
    for number in range(50):
        recorder.step(f"fan-{number:03}", [joined], f"model-{number:03}-a", f"model-{number:03}-b")
    return recorder.store, "artifact", joined


def hostile() -> Subject:
    recorder = Recorder()
    store = recorder.store
    recorder.train = store.put_execution_type(mlmd.ExecutionType(name="=Train\x1b <b>\u202e"))
    made = []
    for text in TEXTS:
        with store.acting(actor=text, reason=text, request_id=text):
            made += recorder.step(text, [], text)
    (joined,) = recorder.step("\u202ejoin", made, f"{TEXTS[0]} \u202e<i>")
    (artifact,) = store.get_artifacts_by_id([joined])
    artifact.uri = "s3://" + "folder/" * 40
    for text in TEXTS:
        artifact.custom_properties[text].string_value = text
    with store.acting(actor="\u202eX", reason="a long reason " * 100):
        store.put_artifacts([artifact])
    return store, "artifact", joined
