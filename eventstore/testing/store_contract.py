"""What holds for stores, wherever their log is kept: reads as of any position, and retention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import errors
from eventstore.log import Log
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.metadata_store.opening import engine_of
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.times import Microseconds

_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


class StoreContract:
    """A store over one log. Inherit it, and say how a log is made, as for `LogContract`."""

    def made(self, folder: Path) -> Log:
        """A new and empty log, for which there is an empty folder of this machine."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[MetadataStore]:
        """A store over a new log, with the artifact type `Data`."""
        with _store_of(self.made(tmp_path)) as store:
            yield store

    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("put"), st.integers(0, 3)),
                st.tuples(st.sampled_from(["seal", "erase", "batch"]), st.none()),
            ),
            max_size=8,
        )
    )
    def test_every_position_answers_what_was_put_until_then(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        steps: list[tuple[str, int | None]],
    ) -> None:
        with _store_of(self.made(tmp_path_factory.mktemp("store"))) as store:
            type_id = store.get_artifact_type("Data").id
            uris: dict[int, str] = {}
            known = {store.log_position(): dict(uris)}
            for number, (step, place) in enumerate(steps):
                if step == "seal":
                    store.seal()
                elif step == "batch":
                    made = [mlmd.Artifact(type_id=type_id, uri=f"batch {n}") for n in range(3)]
                    ids = store.put_artifacts(made)
                    uris |= {one: artifact.uri for one, artifact in zip(ids, made, strict=True)}
                elif step == "erase":
                    if uris:
                        erased, _ = uris.popitem()
                        store.erase("artifact", erased, reason="GDPR-17")
                        # Whatever is asked: nothing answers it any more.
                        for state in known.values():
                            state.pop(erased, None)
                else:
                    assert place is not None
                    artifact = mlmd.Artifact(type_id=type_id, uri=f"number {number}")
                    if place < len(uris):
                        artifact.id = sorted(uris)[place]
                    (one,) = store.put_artifacts([artifact])
                    uris[one] = artifact.uri
                known[store.log_position()] = dict(uris)
            for position, state in known.items():
                then = store.as_of(position)
                assert {a.id: a.uri for a in then.get_artifacts() if a.uri} == state
                found = then.get_artifacts_by_id(sorted(state))
                assert [a.uri for a in found] == [state[one] for one in sorted(state)]
            assert store.verify().ok

    def test_what_is_held_is_not_erased_until_it_is_released(self, store: MetadataStore) -> None:
        held, free = _put(store, "held", "free")
        number = store.place_hold(entities=[("artifact", held)], basis="CASE-1")
        with pytest.raises(errors.FailedPreconditionError):
            store.erase("artifact", held, reason="GDPR-17")
        assert store.erase("artifact", free, reason="GDPR-17").stage == "completed"
        assert [a.uri for a in store.get_artifacts_by_id([held, free])] == ["held", ""]
        store.release_hold(number, ticket="CASE-1-END")
        before = store.log_position()
        assert store.erase("artifact", held, reason="GDPR-17").stage == "completed"
        assert [a.uri for a in store.as_of(before).get_artifacts_by_id([held])] == [""]
        left = [b for batch in store.log.scan(columns=["payload"]) for b in batch["payload"]]
        assert not [b for b in left if b.as_py() is not None and b"held" in b.as_py()]
        assert store.verify().ok

    def test_rules_lock_and_expire_by_the_time_of_the_log(
        self, store: MetadataStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked, short = _put(store, "locked", "short")
        store.set_retention_rule(
            entities=[("artifact", locked)], keep_at_least=_DAY, basis="AI-ACT-18"
        )
        store.set_retention_rule(
            entities=[("artifact", short)],
            keep_at_most=2 * _DAY,
            includes_current=True,
            basis="GDPR-5",
        )
        with pytest.raises(errors.FailedPreconditionError):
            store.erase("artifact", locked, reason="GDPR-17")
        assert store.expired().due == []
        later = store.log.now() + 3 * _DAY // _MICROSECOND
        monkeypatch.setattr(type(store.log), "now", lambda _: Microseconds(later))
        assert [(due.kind, due.id) for due in store.expired().due] == [("artifact", short)]
        store.apply_retention()
        assert [a.uri for a in store.get_artifacts_by_id([locked, short])] == ["locked", ""]
        assert store.expired().due == []
        assert store.verify().ok


def _store_of(log: Log) -> closing[MetadataStore]:
    store = MetadataStore._of(engine_of(log))
    store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    return closing(store)


def _put(store: MetadataStore, *uris: str) -> list[int]:
    type_id = store.get_artifact_type("Data").id
    return list(store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=uri) for uri in uris]))
