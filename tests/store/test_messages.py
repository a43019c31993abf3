"""Messages tell long values by their beginnings: an error fits into a line of a log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import eventstore
from eventstore.errors import StatusError
from eventstore.proto import metadata_store_pb2 as mlmd

LONG = "x" * 3_000
TYPE_ID = 10
"""That of the first type that is put: the system types come first."""

Store = eventstore.MetadataStore


def again(store: Store) -> None:
    with store.acting(request_id=LONG):
        store.put_artifact_type(mlmd.ArtifactType(name="other"))


def artifact(**fields: object) -> Callable[[Store], object]:
    return lambda store: store.put_artifacts([mlmd.Artifact(**fields)])


def of_type(**fields: object) -> Callable[[Store], object]:
    return lambda store: store.put_artifact_type(mlmd.ArtifactType(**fields))


@pytest.mark.parametrize(
    "refused",
    [
        again,
        artifact(type_id=TYPE_ID, name=LONG),
        artifact(type_id=TYPE_ID, external_id=LONG),
        artifact(type_id=TYPE_ID, properties={LONG: mlmd.Value(int_value=1)}),
        artifact(type_id=TYPE_ID, properties={"rows": mlmd.Value(string_value=LONG)}),
        artifact(type_id=TYPE_ID, name=LONG, custom_properties={LONG: mlmd.Value()}),
        of_type(name=LONG, properties={"rows": mlmd.STRING}),
        of_type(name=LONG, properties={LONG: mlmd.UNKNOWN}),
        of_type(name="other", external_id=LONG),
        lambda store: store.get_artifact_type(LONG * 2),
        lambda store: store.get_artifact_type("other", LONG),
    ],
)
def test_long_values_are_told_by_their_beginnings(refused: Callable[[Store], object]) -> None:
    with eventstore.open("memory://") as store:
        with store.acting(request_id=LONG):
            type_id = store.put_artifact_type(
                mlmd.ArtifactType(name=LONG, properties={"rows": mlmd.INT}, external_id=LONG)
            )
        assert type_id == TYPE_ID
        store.put_artifacts([mlmd.Artifact(type_id=TYPE_ID, name=LONG, external_id=LONG)])
        with pytest.raises(StatusError) as caught:
            refused(store)
    assert len(str(caught.value)) < 800
