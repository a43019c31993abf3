"""Commits that are put together, which are one object in object storage."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import obstore
import pytest

import eventstore
from eventstore import errors
from eventstore.log import Commit, MemoryLog, Position, PositionConflictError
from eventstore.log.log import Put
from eventstore.log.objects import ObjectLog, bucket, connecting, keys
from eventstore.log.objects.keys import commit_key
from eventstore.log.objects.opening import open_bucket
from eventstore.log.remote import tail
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.testing.drafts import erased_of
from tests.builders import append, append_erasure, draft
from tests.contract.object_logs import opened
from tests.log.test_object_log import Requests
from tests.object_servers import ObjectServer


@pytest.fixture
def url(s3: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    # So that what is put together lies in several folders.
    monkeypatch.setattr(keys, "POSITIONS_PER_FOLDER", 4)
    monkeypatch.setattr("eventstore.log.objects.keeper.POSITIONS_PER_FOLDER", 4)
    return s3.url(s3.new_prefix())


@pytest.fixture
def log(url: str) -> Iterator[ObjectLog]:
    """Commits 1 to 3 are one object, 4 another, 5 to 9 a third, 10 the last."""
    with contextlib.closing(MemoryLog()) as source:
        commits = [append(source, draft(2 * n), draft(2 * n + 1)) for n in range(1, 11)]
        with contextlib.closing(open_bucket(connecting.of_url(url), new_id=source.store_id)) as log:
            for first, last in ((0, 3), (3, 4), (4, 9), (9, 10)):
                log.append_recorded(commits[first:last], expected_position=Position(2 * first))
            assert [*log.commits()] == commits
            yield log


def objects(log: ObjectLog) -> dict[str, int]:
    """How long the objects of commits are, by the position that they begin at."""
    return {one.key: one.size for one in log._bucket.list("commits")}


BEGINS = [1, 7, 9, 19]


def test_what_is_put_together_is_one_object_and_read_by_others(log: ObjectLog, url: str) -> None:
    assert sorted(objects(log)) == [commit_key(begin) for begin in BEGINS]
    with contextlib.closing(opened(url)) as other:
        assert [*other.commits()] == [*log.commits()]
        append(other, draft(99))
        with pytest.raises(PositionConflictError):
            append(log, draft(98))
        log.refresh()
        assert [*other.commits()] == [*log.commits()]
    assert log.verify().ok


def test_messages_that_are_not_kept_are_read_again(
    log: ObjectLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_KEPT_BYTES_MAX", 1)
    with contextlib.closing(opened(url)) as other:
        commits = [*log.commits()]
        for after in range(0, 20, 2):
            assert [*other.commits(after)] == commits[after // 2 :]
            assert [*other.commits(after, after + 2)] == commits[after // 2 : after // 2 + 1]


def test_a_segment_ends_where_an_object_does(log: ObjectLog, url: str) -> None:
    commits = [*log.commits()]
    log._segment_records_max = 7
    log.seal()
    ends = [segment.last_position for segment in log._segments()]
    assert ends == [8, 18, 20]
    append(log, draft(99))
    with contextlib.closing(opened(url)) as other:
        assert [*other.commits()] == [*commits, *log.commits(20)]
        assert other.verify().ok


def test_erasing_empties_the_object_that_has_the_commit(log: ObjectLog, url: str) -> None:
    erased = erased_of([3, 16])
    append_erasure(log, erased)
    log.destroy(erased)
    emptied = {key for key, size in objects(log).items() if not size}
    assert emptied == {commit_key(1), commit_key(9)}
    assert log.verify().ok
    with contextlib.closing(opened(url)) as other:
        assert [*other.commits()] == [*log.commits()]
        append(other, draft(99))
        assert other.verify().ok


@pytest.mark.parametrize(
    ("begin", "change", "found"),
    [
        (9, lambda content: content[:-1] + b"?", "9 has something else than its sealed segment"),
        (1, lambda content: content[: len(content) // 3], "3 is missing"),
        (1, None, "1 is missing"),
        (9, None, "9 is missing"),
        (15, lambda _: b"", "15 is of no commit"),
        (19, lambda content: content[:-1] + b"?", "19 has something else than its sealed segment"),
    ],
)
def test_verify_finds_what_was_changed(
    log: ObjectLog, begin: int, change: Callable[[bytes], bytes] | None, found: str
) -> None:
    log.seal()
    if change is None:
        obstore.delete(log._bucket._small, commit_key(begin))
    else:
        content = log._bucket.get(commit_key(begin)) or b""
        log._bucket.overwrite(commit_key(begin), change(content))
    (finding, *_) = log.verify().findings
    assert found in finding.what


def test_an_object_of_which_any_commit_is_damaged_is_not_read(log: ObjectLog, url: str) -> None:
    content = log._bucket.get(commit_key(9)) or b""
    log._bucket.overwrite(commit_key(9), content[:-1] + b"?")
    with pytest.raises(errors.DataLossError, match="commit 9 is damaged"), opened(url):
        pass
    (finding,) = log.verify().findings
    assert commit_key(9) in finding.what


PUTS = [Put([draft(n)], actor=f"actor {n}") for n in range(101, 104)]


def test_puts_that_are_appended_together_are_one_object(log: ObjectLog, url: str) -> None:
    made = log.append_together(PUTS, expected_position=log.position)
    assert sorted(objects(log)) == [commit_key(begin) for begin in [*BEGINS, 21]]
    assert [commit.who[0] for commit in made] == ["actor 101", "actor 102", "actor 103"]
    with contextlib.closing(opened(url)) as other:
        assert [*other.commits(20)] == [*log.commits(20)] == made
        append(other, draft(99))
    with pytest.raises(PositionConflictError):
        log.append_together(PUTS, expected_position=Position(23))
    log.refresh()
    assert log.position == 24
    assert log.verify().ok


@pytest.mark.parametrize("when", ["before", "after", "after, and nobody answers"])
def test_an_interrupted_append_tells_what_was_kept(
    log: ObjectLog, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, get = obstore.put, obstore.get

    def interrupted(*given, **named):
        if when != "before":
            put(*given, **named)
        raise KeyboardInterrupt

    def silent(*given, **named):
        raise obstore.exceptions.PermissionDeniedError("nothing is told")

    kept: list[Commit] = []
    with monkeypatch.context() as patched:
        patched.setattr(bucket.obstore, "put", interrupted)
        patched.setattr(bucket.obstore, "get", silent if "nobody" in when else get)
        raised = errors.OutcomeUnknownError if "nobody" in when else KeyboardInterrupt
        with pytest.raises(raised):
            log.append_together(PUTS, expected_position=log.position, kept=kept)
    with pytest.raises(PositionConflictError):
        log.append_together(PUTS, expected_position=Position(20))
    log.refresh()
    assert log.position == (20 if when == "before" else 23)
    assert kept == ([*log.commits(20)] if when == "after" else [])
    append(log, draft(99))
    assert log.verify().ok


def test_puts_that_wait_for_one_become_one_object(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, is_under_way, goes_on = obstore.put, threading.Event(), threading.Event()

    def waiting(*given, **named):
        is_under_way.set()
        assert goes_on.wait(60)
        return put(*given, **named)

    with eventstore.open(url) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Model"))
        before = objects(store.log)
        names = [f"model {number}" for number in range(8)]
        threads = [
            threading.Thread(
                target=store.put_artifacts, args=([mlmd.Artifact(type_id=type_id, name=name)],)
            )
            for name in names
        ]
        with monkeypatch.context() as patched:
            patched.setattr(bucket.obstore, "put", waiting)
            threads[0].start()
            assert is_under_way.wait(60)
            for thread in threads[1:]:
                thread.start()
            while len(store._engine._waiting) < len(threads) - 1:
                threading.Event().wait(0.001)
            goes_on.set()
            for thread in threads:
                thread.join(60)
        assert len(objects(store.log).keys() - before.keys()) == 2
        assert sorted(artifact.name for artifact in store.get_artifacts()) == names
        assert store.verify().ok


def test_who_meets_others_asks_once_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with eventstore.open(url) as one, eventstore.open(url) as other:
        type_id = one.put_artifact_type(mlmd.ArtifactType(name="Model"))
        for store in (one, other) * 2:
            store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        requests = Requests(monkeypatch)
        one.put_artifacts([mlmd.Artifact(type_id=type_id)])
        # What the other one put, that nothing follows, and the put.
        assert requests() == "get get put"
        one.put_artifacts([mlmd.Artifact(type_id=type_id)])
        requests()
        one.put_artifacts([mlmd.Artifact(type_id=type_id)])
        assert requests() == "put"
