"""A store with a few commits, and the key that signs its checkpoints."""

from __future__ import annotations

from eventstore.audit import SigningKey
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types

KEY = SigningKey.generate("ana@example.com")


def fill(store: MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    for number in range(4):
        with store.acting(actor="ana", reason='böse "gut"\n\x01', request_id=f"r{number}"):
            store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"u{number}")] * (number + 1))
