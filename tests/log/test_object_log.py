"""What a log in object storage keeps, overwrites and finds wrong, beyond what every log does."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import obstore
import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, Position, PositionConflictError
from eventstore.log.objects import ObjectLog, bucket, connecting, object_log
from eventstore.log.objects.keeper import ObjectKeeper
from eventstore.log.objects.keys import commit_key, file_key
from eventstore.log.objects.opening import open_bucket, open_url
from eventstore.log.places import StoreUrl
from eventstore.log.remote import remote_log
from eventstore.log.stores import verify_store
from eventstore.testing.drafts import erased_of
from tests.builders import append, append_erasure, draft
from tests.contract.object_logs import Fates, opened
from tests.lossy_proxy import LossyProxy
from tests.object_servers import ObjectServer


@pytest.fixture
def server(s3: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture
def url(server: ObjectServer) -> str:
    return server.url(server.new_prefix())


@pytest.fixture
def log(url: str) -> Iterator[ObjectLog]:
    """Two sealed segments of four commits each, and three commits after them."""
    with contextlib.closing(opened(url)) as log:
        for number in range(1, 12):
            append(log, draft(number))
            if number in (4, 8):
                log.seal()
        yield log


def stored(log: ObjectLog) -> dict[str, int]:
    """All objects of a log, and how long they are."""
    return {one.key: one.size for one in log._bucket.list("")}


def records_in(log: ObjectLog, key: str) -> int:
    content = log._bucket.get(key)
    assert content is not None
    return int(parquet.read_metadata(io.BytesIO(content)).num_rows)


class Requests:
    """Counts what is asked of the library."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        for name in ("get", "put", "list"):
            monkeypatch.setattr(bucket.obstore, name, self._counted(name, getattr(obstore, name)))

    def _counted(self, name, do):
        def count(*given, **named):
            self.made.append(name)
            return do(*given, **named)

        return count

    def __call__(self) -> str:
        made, self.made = " ".join(self.made), []
        return made


def test_what_a_put_and_a_read_ask_for(
    log: ObjectLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(opened(url)) as other:
        requests = Requests(monkeypatch)
        append(log, draft(12))
        assert requests() == "put"
        assert not other.is_still_at(other.position, 0)
        assert other.refresh()
        assert requests() == "get get"
        assert other.is_still_at(other.position, 0)
        assert requests() == "get"
        append(log, draft(13))
        with pytest.raises(PositionConflictError):
            append(other, draft(13))
        # What others have put there is known then.
        assert requests() == "put put get"
        assert other.refresh()
        assert requests() == "get"
        for number in range(14, 24):
            append(log, draft(number))
        requests()
        assert other.refresh()
        assert requests().split().count("list") == 2
        assert [*other.commits()] == [*log.commits()]


def test_the_keys_of_commits_follow_their_positions(log: ObjectLog) -> None:
    assert [key for key in sorted(stored(log)) if key.startswith("commits/")] == [
        f"commits/000000000000000/{number:020d}" for number in range(1, 12)
    ]
    assert commit_key(123_456_789) == "commits/000000000001234/00000000000123456789"


def test_commits_in_several_folders_are_found(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from eventstore.log.objects import keys

    monkeypatch.setattr(keys, "POSITIONS_PER_FOLDER", 3)
    with contextlib.closing(opened(url)) as log:
        for number in (1, 2, 7, 1, 1):
            append(log, *(draft(log.position + n) for n in range(1, number + 1)))
        with contextlib.closing(opened(url)) as other:
            assert [*other.commits()] == [*log.commits()]
        assert log.verify().ok


def test_a_backup_has_the_same_commits_and_segments(log: ObjectLog, tmp_path: Path) -> None:
    report = log.backup(tmp_path / "copy")
    assert report.ok
    with contextlib.closing(DirectoryLog.open(tmp_path / "copy")) as copy:
        assert copy.store_id == log.store_id
        assert [*copy.commits()] == [*log.commits()]
        assert [f.file_sha256 for f in copy.sealed_files()] == [
            f.file_sha256 for f in log.sealed_files()
        ]


def test_sealed_files_are_told_by_url(log: ObjectLog) -> None:
    assert [file.path for file in log.sealed_files()] == [
        f"{log.name}/segments/{number:010d}.parquet" for number in (1, 2)
    ]
    assert [segment.path for segment in log.segments()] == [
        *(file.path for file in log.sealed_files()),
        None,
    ]


def test_erasing_overwrites_and_removes_nothing(log: ObjectLog, url: str) -> None:
    before = stored(log)
    files = log.destroy(erased_of([2, 10]))
    append_erasure(log, erased_of([2, 10]))
    after = stored(log)
    assert before.keys() <= after.keys()
    emptied = {key for key in before if key.startswith("commits/") and not after[key]}
    assert emptied == {commit_key(2), commit_key(10)}
    assert len(files) == 2
    # Whoever reads all files has each record once.
    names = sorted(key for key in after if key.endswith(".parquet"))
    assert sum(records_in(log, key) for key in names) == 11
    assert log.verify().ok
    with contextlib.closing(opened(url)) as other:
        assert [*other.commits()] == [*log.commits()]
        with pytest.raises(PositionConflictError):
            other.append([draft(9)], expected_position=log.position - 1)


@pytest.mark.parametrize("step", [2, 3, 5, 7])
def test_an_erasure_that_is_interrupted_is_finished_by_the_next(
    log: ObjectLog, url: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, left = obstore.put, step

    def stop(*given, **named):
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return put(*given, **named)

    append_erasure(log, erased_of([2, 6], [6]))
    commits = [*log.commits()]
    with monkeypatch.context() as patched:
        patched.setattr(bucket.obstore, "put", stop)
        with contextlib.suppress(KeyboardInterrupt):
            log.destroy(erased_of([2, 6], [6]))
    with contextlib.closing(opened(url)) as other:
        assert [c.tree_head for c in other.commits()] == [c.tree_head for c in commits]
        other.destroy(erased_of([2, 6], [6]))
        assert other.verify().ok
        assert [r.position for c in other.commits() for r in c.records if r.payload is None] == [
            2,
            6,
        ]
        sizes = stored(other)
        assert not sizes[commit_key(2)] + sizes[commit_key(6)]
        names = [key for key in sizes if key.endswith(".parquet")]
        assert sum(records_in(other, key) for key in names) == 8


def test_a_file_that_a_killed_sealer_left_becomes_the_segment(
    log: ObjectLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = bucket.Bucket.create

    def stop(self, key, *given, **named):
        if key.endswith(".json"):
            raise KeyboardInterrupt
        return create(self, key, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(bucket.Bucket, "create", stop)
        with pytest.raises(KeyboardInterrupt):
            log.seal()
    append(log, draft(12))
    with contextlib.closing(opened(url)) as other:
        other.seal()
        assert [(f.first_position, f.last_position) for f in other.sealed_files()] == [
            (1, 4),
            (5, 8),
            (9, 11),
            (12, 12),
        ]
        assert other.verify().ok
        assert [*other.commits()] == [*log.commits()]


def test_who_cannot_seal_tries_it_at_growing_intervals(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, tried = 1_000.0, list[float]()

    def refused(*_: object) -> bool:
        tried.append(clock)
        raise errors.PermissionDeniedError("sealing in it failed")

    monkeypatch.setattr(remote_log, "monotonic", lambda: clock)
    with contextlib.closing(opened(url, segment_records_max=2)) as log:
        with monkeypatch.context() as patched:
            patched.setattr(ObjectKeeper, "add_segment", refused)
            for number in range(1, 13):
                append(log, draft(number))
                log._sealer.finish_begun()
                clock += 6
        # After 10, 20 and then 40 seconds; the first two commits make the first segment.
        assert tried == [1_006, 1_018, 1_042]
        assert len(caplog.messages) == 3
        assert caplog.text.count("failed") == 3
        assert not log.sealed_files()
        clock += 40
        append(log, draft(13))
        log._sealer.finish_begun()
        assert len(log.sealed_files()) > 5


def test_two_seal_at_once(log: ObjectLog, url: str) -> None:
    with contextlib.closing(opened(url)) as other:
        threads = [threading.Thread(target=one.seal) for one in (log, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert other.sealed_files() == log.sealed_files()
        assert other.verify().ok


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("key", "content", "found"),
    [
        (commit_key(4), b"changed", "something else than its sealed segment"),
        (commit_key(10), b"changed", "is damaged"),
        (commit_key(10), None, "commit 10 at position 10 was to come"),
        ("commits/000000000000000/what", b"", "is of no commit"),
        (commit_key(2), None, "is missing"),
        ("segments/0000000001-2-0123.parquet", b"records", "is of no segment"),
        ("segments/0000000001.parquet", b"changed", "commits 1 to 4"),
        ("segments/0000000001.json", b"{}", "segment 1"),
    ],
)
def test_verify_finds_what_was_changed(
    log: ObjectLog, url: str, key: str, content: bytes | None, found: str
) -> None:
    if content is None:
        obstore.delete(log._bucket._small, key)
    else:
        log._bucket.overwrite(key, content)
    report = log.verify()
    assert not report.ok
    assert found in report.findings[0].what, report.findings
    if key.endswith("1.parquet"):
        assert report.findings[0].file == key
    # Also where it is too damaged to be opened for anything else.
    assert verify_store(StoreUrl(url), None, after=0, upto=None, signed_heads=()) == report


@pytest.fixture
def other_url(server: ObjectServer) -> str:
    """The place of another store, which has as many commits."""
    url = server.url(server.new_prefix())
    with contextlib.closing(opened(url)) as log:
        for number in range(1, 12):
            append(log, draft(number))
    return url


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(errors.DataLossError) as met:
        read()
    return met.value.message


@pytest.mark.share(2)
@pytest.mark.parametrize("content", [b"", b"{}", b"junk", None])
@pytest.mark.parametrize("position", [11, 12])
def test_a_commit_that_was_emptied_or_exchanged_is_not_read(
    log: ObjectLog,
    url: str,
    position: int,
    content: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_log, "_LOOKED_EVERY_SECONDS", 0.0)
    key = commit_key(position)
    with contextlib.closing(opened(url)) as reader:
        append(log, draft(12))
        if content is None:
            content = log._bucket.get(commit_key(10)) or b""
        log._bucket.overwrite(key, content)
        # What was read before is not read again.
        if position == 12:
            assert key in refusal(reader.refresh)
            assert reader.position == 11
            assert key in refusal(lambda: append(log, draft(13)))
    assert key in refusal(lambda: opened(url))
    with contextlib.closing(opened(url, read_only=True)) as damaged:
        assert key in refusal(lambda: damaged.position)
        assert not damaged.verify().ok


def test_the_commit_of_another_store_at_its_own_position_is_not_read(
    log: ObjectLog, url: str, other_url: str
) -> None:
    found = connecting.of_url(other_url).get(commit_key(11))
    log._bucket.overwrite(commit_key(11), found or b"")
    told = refusal(lambda: opened(url))
    assert "of another store" in told
    assert commit_key(11) in told


@pytest.mark.parametrize("is_sealed", [False, True])
def test_what_another_store_says_of_itself_is_not_believed(
    log: ObjectLog, url: str, other_url: str, is_sealed: bool
) -> None:
    if is_sealed:
        log.seal()
    found = connecting.of_url(other_url).get("store.json")
    log._bucket.overwrite("store.json", found or b"")
    for _ in range(2):
        told = refusal(lambda: [*opened(url, read_only=True).commits()])
        assert "of another store" in told
        assert ("segments/0000000001.parquet" if is_sealed else commit_key(9)) in told


def test_a_commit_that_is_missing_between_others_is_named(log: ObjectLog, url: str) -> None:
    obstore.delete(log._bucket._small, commit_key(10))
    told = refusal(lambda: opened(url))
    assert f"commit 10 is missing (the object {commit_key(10)})" in told


@pytest.mark.parametrize(
    "key", ["commits/000000000000000/readme.txt", "commits/junk", "segments/readme.txt", "readme"]
)
def test_what_else_lies_there_is_left_alone(log: ObjectLog, url: str, key: str) -> None:
    log._bucket.overwrite(key, b"junk")
    with contextlib.closing(opened(url)) as other:
        append(other, draft(12))
        other.seal()
        assert [*other.commits()][:11] == [*log.commits()]


@pytest.mark.parametrize("key", ["segments//x", "segments/../x", "commits/000000000000000/1//x"])
def test_an_object_whose_key_cannot_be_listed_is_named(
    server: ObjectServer, log: ObjectLog, url: str, key: str
) -> None:
    address = f"{server.endpoint()}/{log.name.partition('://')[2]}/{key}"
    urllib.request.urlopen(urllib.request.Request(address, data=b"junk", method="PUT")).close()
    with pytest.raises(errors.FailedPreconditionError, match="remove it") as met:
        opened(url)
    assert key in met.value.message


def test_the_object_of_a_damaged_entry_is_named(log: ObjectLog, url: str) -> None:
    log._bucket.overwrite("segments/0000000009.json", b"junk")
    assert "segments/0000000009.json" in refusal(lambda: opened(url))


def test_the_edge_of_the_tree_that_an_entry_has_gives_its_head(log: ObjectLog, url: str) -> None:
    content = log._bucket.get("segments/0000000002.json") or b""
    entry = msgspec.json.decode(content)
    entry["frontier"] = ["00" * 32]
    log._bucket.overwrite("segments/0000000002.json", msgspec.json.encode(entry))
    assert "segment 2 is damaged" in refusal(lambda: opened(url))


def test_verify_says_what_it_did_not_compare(log: ObjectLog) -> None:
    report = log.verify()
    assert report.ok
    assert [what for what in report.not_checked if "6 objects" in what]


def test_a_bucket_that_was_emptied_takes_no_put(
    log: ObjectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_log, "_LOOKED_EVERY_SECONDS", 0.0)
    for key in stored(log):
        obstore.delete(log._bucket._small, key)
    with pytest.raises(errors.DataLossError, match="the bucket was restored"):
        append(log, draft(12))


def test_a_commit_is_there_once_whatever_becomes_of_its_connection(
    server: ObjectServer, log: ObjectLog
) -> None:
    prefix = log.name.partition("history/")[2]
    with (
        LossyProxy(server.port) as proxy,
        contextlib.closing(opened(server.url(prefix, port=proxy.port))) as other,
    ):
        for fates in (["unanswered"], ["lost", "unanswered"], ["unanswered", "lost", "lost"]):
            proxy.fate = told = Fates(*fates)
            append(other, draft(100 + len(fates)))
            assert told.left == []
        log.refresh()
        assert [*other.commits()] == [*log.commits()]
        assert log.position == 14
        assert log.verify().ok


def test_another_writer_was_faster_while_the_connection_was_lost(
    server: ObjectServer, log: ObjectLog
) -> None:
    prefix = log.name.partition("history/")[2]
    with (
        LossyProxy(server.port) as proxy,
        contextlib.closing(opened(server.url(prefix, port=proxy.port))) as other,
    ):

        def lose_once(data: bytes) -> str:
            if not data.startswith(b"PUT "):
                return "passed"
            proxy.fate = Fates()
            append(log, draft(7))
            return "lost"

        proxy.fate = lose_once
        with pytest.raises(PositionConflictError):
            append(other, draft(8))
        assert other.refresh()
        append(other, draft(8))
        log.refresh()
        assert [c.records[0].entity_id for c in log.commits(11)] == [7, 8]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_told_instead_of_waiting_for_ever(log: ObjectLog) -> None:
    child = os.fork()
    if not child:
        status = 1
        try:
            append(log, draft(12))
        except errors.FailedPreconditionError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    append(log, draft(12))


def _put(url: str, process: int) -> None:
    with contextlib.closing(opened(url)) as log:

        def put(thread: int) -> None:
            for number in range(5):
                while True:
                    try:
                        # The id tells who put it.
                        append(log, draft(1_000 * process + 100 * thread + number + 1))
                        break
                    except PositionConflictError:
                        log.refresh()

        threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_a_writer_goes_on_where_others_have_sealed(log: ObjectLog, url: str) -> None:
    with contextlib.closing(opened(url)) as other:
        append(other, draft(12))
        append(other, draft(13))
        log.refresh()
        other.seal()
        # It learns of the segment, which has more than it had put itself.
        assert len(log.sealed_files()) == 3
        append(log, draft(14))
        assert log.verify().ok


def test_processes_and_threads_put_at_once(url: str) -> None:
    with contextlib.closing(opened(url)) as log:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_put, args=(url, n)) for n in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        log.refresh()
        records = [record for commit in log.commits() for record in commit.records]
        assert [record.position for record in records] == [*range(1, 81)]
        assert len({record.entity_id for record in records}) == 80
        assert log.verify().ok


def test_the_key_of_a_rewritten_file_has_what_is_in_it(log: ObjectLog) -> None:
    log.destroy(erased_of([1]))
    (first, *_) = log._segments()
    assert file_key(first) == f"segments/0000000001-2-{first.file_sha256[:16]}.parquet"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_copy_that_was_broken_off_goes_on(
    url: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, left = obstore.put, step

    def stop(*given, **named):
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return put(*given, **named)

    with contextlib.closing(DirectoryLog.create(tmp_path / "store")) as source:
        for number in range(1, 6):
            append(source, draft(number), draft(10 * number))
        erased = erased_of([3, 4], [7])
        append_erasure(source, erased)
        source.destroy(erased)
        commits = [*source.commits()]
        open_url(
            StoreUrl(url),
            read_only=False,
            creates=True,
            cache_folder=None,
            store_id=source.store_id,
        ).close()
    with contextlib.closing(opened(url)) as log, monkeypatch.context() as patched:
        patched.setattr(bucket.obstore, "put", stop)
        with pytest.raises(KeyboardInterrupt):
            log.append_recorded(commits, expected_position=Position(0))
    with contextlib.closing(opened(url)) as log:
        assert log.position == 0
        if step > 1:
            with pytest.raises(errors.FailedPreconditionError, match="was broken off"):
                append(log, draft(1))
            report = log.verify()
            assert "was broken off" in report.findings[0].what
        log.append_recorded(commits, expected_position=Position(0))
        assert [*log.commits()] == commits
        assert log.verify().ok
        append(log, draft(99))
        with contextlib.closing(opened(url)) as other:
            assert [*other.commits()] == [*log.commits()]
            assert other.verify().ok


def test_a_copy_goes_on_after_the_file_of_a_shorter_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(DirectoryLog.create(tmp_path / "store")) as source:
        for number in range(1, 6):
            append(source, draft(number))
        source.destroy(erased_of([1, 5]))
        append_erasure(source, erased_of([1, 5]))
        commits, store_id = [*source.commits()], source.store_id
    open_url(
        StoreUrl(url), read_only=False, creates=True, cache_folder=None, store_id=store_id
    ).close()
    create = bucket.Bucket.create

    def stop(self, key, *given, **named):
        if key.endswith(".json"):
            raise KeyboardInterrupt
        return create(self, key, *given, **named)

    with contextlib.closing(opened(url)) as log:
        with monkeypatch.context() as patched:
            patched.setattr(bucket.Bucket, "create", stop)
            with pytest.raises(KeyboardInterrupt):
                log.append_recorded(commits[:3], expected_position=Position(0))
        # What that one had come to is kept; the next run goes on from there.
        with pytest.raises(PositionConflictError):
            log.append_recorded(commits, expected_position=Position(0))
        log.refresh()
        assert [*log.commits()] == commits[:3]
        log.append_recorded(commits[3:], expected_position=Position(3))
        assert [*log.commits()] == commits
        assert log.verify().ok


def test_a_segment_that_is_being_copied_survives_another_opening(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two copies to a place run at once: both have one folder for caches."""
    with contextlib.closing(DirectoryLog.create(tmp_path / "store")) as source:
        for number in range(1, 4):
            append(source, draft(number))
        commits = [*source.commits()]
        store_id = source.store_id
    open_bucket(connecting.of_url(url), new_id=store_id).close()
    add_recorded = ObjectKeeper.add_recorded

    def meanwhile(*given) -> bool:
        opened(url).close()
        return add_recorded(*given)

    monkeypatch.setattr(remote_log, "are_few", lambda commits: False)
    monkeypatch.setattr(ObjectKeeper, "add_recorded", meanwhile)
    with contextlib.closing(opened(url)) as log:
        log.append_recorded(commits, expected_position=Position(0))
        assert [*log.commits()] == commits
