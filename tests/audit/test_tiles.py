"""What is published as tiles: whole at every moment, and checked alike by both verifiers."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    CosigningKey,
    SigningKey,
    signed_checkpoint,
    standalone_verifier,
)
from eventstore.audit.standalone_verifier import CannotCheck, Refused
from eventstore.audit.tile_check import check_tiles
from eventstore.audit.tile_publication import publish_tiles
from eventstore.audit.tile_source import opened_source
from eventstore.audit.tiles import (
    TILE_WIDTH,
    TileRows,
    bundle_of,
    entries_of,
    hashes_of,
    tile_path,
    tile_widths,
)
from eventstore.log import MemoryLog
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import Frontier, tree_head
from tests.audit.filled_store import KEY
from tests.builders import append, draft

TRUST = KEY.verifier_key
ALONE = standalone_verifier.parse_key(str(TRUST))
SIZES = (1, 255, 256, 257, 512, 700)


def numbered(count: int) -> list[bytes]:
    return [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(count)]


def test_tiles_of_the_specification_s_example() -> None:
    """A tree of 70,000 leaves, and one of 256."""
    leaves, rows, tiles = numbered(70_000), TileRows(), {}
    for first in range(0, len(leaves), TILE_WIDTH):
        for tile in rows.extend(leaves[first : first + TILE_WIDTH]):
            tiles[tile.path] = tile.content
    full = [path for path in tiles if ".p/" not in path]
    assert [sum(path.startswith(f"tile/{level}/") for path in full) for level in (0, 1, 2)] == [
        273,
        1,
        0,
    ]
    rest = {tile.path: tile.content for tile in rows.partial()}
    assert [*rest] == ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    assert [*tile_widths(70_000)] == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    expected = Frontier()
    expected.extend(leaves)
    assert rows.head() == expected.head()
    assert rest["tile/2/000.p/1"] == tree_head(leaves[: 256**2])
    assert rest["tile/1/001.p/17"][-32:] == tree_head(leaves[272 * 256 : 273 * 256])
    small = TileRows()
    assert [tile.path for tile in small.extend(leaves[:256])] == ["tile/0/000"]
    assert [tile.path for tile in small.partial()] == ["tile/1/000.p/1"]


def test_paths_are_those_of_the_specification() -> None:
    for level, index, width, path in (
        ("0", 1234067, 256, "tile/0/x001/x234/067"),
        ("entries", 1234067, 7, "tile/entries/x001/x234/067.p/7"),
        ("63", 0, 255, "tile/63/000.p/255"),
        ("1", 999, 256, "tile/1/999"),
        ("1", 1000, 1, "tile/1/x001/000.p/1"),
        ("0", 10**9, 256, "tile/0/x001/x000/x000/000"),
    ):
        assert tile_path(level, index, width) == path
        assert standalone_verifier.tile_path(level, index, width) == path


@pytest.mark.parametrize("start", [0, 256, 512, 256 * 255, 256 * 256])
def test_rows_that_go_on_give_the_head_of_every_size(start: int) -> None:
    leaves = numbered(start + 600)
    whole = TileRows()
    for first in range(0, start, TILE_WIDTH):
        whole.extend(leaves[first : first + TILE_WIDTH])
    kept = {tile.level: tile.content for tile in whole.partial()}
    rows = [
        hashes_of(kept[level], width, "") if width else []
        for level, _, width in tile_widths(start)
        if level
    ]
    expected = Frontier()
    expected.extend(leaves[:start])
    going_on = TileRows(start, rows)
    for first in range(start, len(leaves), TILE_WIDTH):
        block = leaves[first : first + TILE_WIDTH]
        for count, leaf in enumerate(block):
            if count in (0, 1, 2, 3, 127, 128, 254, 255):
                assert going_on.head(block[:count]) == expected.head()
            expected.append(leaf)
        going_on.extend(block)
        assert going_on.head() == expected.head()


def logged(records: int) -> MemoryLog:
    log = MemoryLog()
    while log.position < records:
        count = min(50, records - log.position)
        append(log, *(draft(log.position + number) for number in range(1, count + 1)))
    return log


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """700 records, with a commit that ends at each of the sizes."""
    log = MemoryLog()
    for size in SIZES:
        append(log, *(draft(number) for number in range(log.position + 1, size + 1)))
    return log


@pytest.fixture(scope="module")
def checkpoints(log: MemoryLog) -> list[Checkpoint]:
    return [signed_checkpoint(log, size, KEY) for size in SIZES]


def holds(source: Path | str, older: Checkpoint | None = None) -> bool:
    """Whether what is published holds, on which both verifiers have to agree."""
    try:
        standalone_verifier.verify_tiles(str(source), ALONE, older and older.text)
    except Refused:
        with pytest.raises(
            (errors.DataLossError, errors.InvalidArgumentError, errors.NotFoundError)
        ):
            check_tiles(opened_source(str(source)), TRUST, older)
        return False
    check_tiles(opened_source(str(source)), TRUST, older)
    return True


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_publication_adds_what_is_new(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    leaves = [*leaf_hashes(log.store_id, (r for c in log.commits() for r in c.records))]
    expected: set[str] = set()
    for number, checkpoint in enumerate(checkpoints):
        before = files_in(tmp_path)
        done = publish_tiles(log, checkpoint, tmp_path)
        after = files_in(tmp_path)
        assert done.records == checkpoint.size
        assert done.files_written == len(after.items() - before.items())
        assert before.items() - after.items() <= {("checkpoint", before.get("checkpoint"))}
        for level, index, width in tile_widths(checkpoint.size):
            names = [str(level), "entries"] if level == 0 else [str(level)]
            for name in names:
                expected |= {tile_path(name, full, 256) for full in range(index)}
                if width:
                    expected.add(tile_path(name, index, width))
        assert after.keys() == expected | {"checkpoint"}
        for name in [name for name in after if name.startswith("tile/0/")]:
            first = int(name[len("tile/0/") :][:3]) * TILE_WIDTH
            assert after[name] == b"".join(leaves[first:][: len(after[name]) // 32])
        assert publish_tiles(log, checkpoint, tmp_path).files_written == 0
        assert holds(tmp_path)
        for older in checkpoints[: number + 1]:
            assert holds(tmp_path, older)
            found = check_tiles(opened_source(str(tmp_path)), TRUST, older)
            assert found.first_position == older.size - older.size % 256 + 1
        for newer in checkpoints[number + 1 :]:
            assert not holds(tmp_path, newer)
    with pytest.raises(errors.FailedPreconditionError, match="publish a newer one"):
        publish_tiles(log, checkpoints[0], tmp_path)


def test_entries_have_no_content_and_say_not_who(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    publish_tiles(log, checkpoints[-1], tmp_path)
    published = b"".join(files_in(tmp_path).values())
    assert b"tester" not in published
    for commit in log.commits(0, 300):
        for record in commit.records:
            assert record.salt is not None
            assert record.payload is not None
            assert record.salt not in published
            assert record.payload not in published


class Stopped(BaseException):
    """As if the process had been killed."""


def stopping(steps: Iterator[int], error: type[BaseException], do: Any, *arguments: Any) -> Any:
    if next(steps, None) is None:
        raise error("no more")
    return do(*arguments)


def test_whatever_stops_it_what_is_published_is_whole(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every sync and rename of the second publication, then it goes on."""
    first, second = checkpoints[1], checkpoints[4]
    publish_tiles(log, first, tmp_path / "first")
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "first", whole)
    publish_tiles(log, second, whole)
    real = {name: getattr(os, name) for name in ("replace", "fsync")}
    for error in (Stopped, OSError):
        for stop_at in range(1, 100):
            folder = tmp_path / f"{error.__name__}-{stop_at}"
            shutil.copytree(tmp_path / "first", folder)
            steps = iter(range(1, stop_at))

            with monkeypatch.context() as patch:
                for name in real:
                    patch.setattr(os, name, partial(stopping, steps, error, real[name]))
                try:
                    publish_tiles(log, second, folder)
                    break
                except (Stopped, errors.StatusError):
                    pass
            stated = Checkpoint.parse((folder / "checkpoint").read_text(), TRUST)
            assert stated.size in (first.size, second.size)
            check_tiles(opened_source(str(folder)), TRUST, first)
            publish_tiles(log, second, folder)
            assert files_in(folder) == files_in(whole)
            shutil.rmtree(folder)
        else:
            raise AssertionError("it never ended")
    assert stop_at > 10


def test_what_a_killed_process_left_is_tidied_up(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    publish_tiles(log, checkpoints[1], tmp_path)
    torn = tmp_path / "tile" / "0" / "000"
    torn.write_bytes(b"torn")
    for left in ("tile/0/001.deadbeef.tmp", "checkpoint.deadbeef.tmp", "of-the-user.tmp"):
        (tmp_path / left).write_bytes(b"torn")
    assert holds(tmp_path)
    publish_tiles(log, checkpoints[4], tmp_path)
    assert holds(tmp_path, checkpoints[1])
    assert [name for name in files_in(tmp_path) if name.endswith(".tmp")] == ["of-the-user.tmp"]


def test_a_folder_that_was_damaged_is_written_again(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    publish_tiles(log, checkpoints[3], tmp_path)
    for name in ("tile/1/000.p/1", "tile/0/000"):
        path = tmp_path / name
        if path.exists():
            path.write_bytes(bytes(path.stat().st_size))
    publish_tiles(log, checkpoints[5], tmp_path)
    (tmp_path / "tile/1/000.p/2").unlink()
    assert not holds(tmp_path)
    publish_tiles(log, checkpoints[5], tmp_path)
    assert holds(tmp_path, checkpoints[0])


def test_a_publication_repairs_what_is_broken(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    """The very checkpoint all of it; a newer one what is missing or of another size."""
    publish_tiles(log, checkpoints[4], tmp_path)
    good = files_in(tmp_path)
    for name, content in good.items():
        if name == "checkpoint":
            continue
        for broken in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], b"", None):
            for checkpoint in (checkpoints[4], checkpoints[5]):
                path = tmp_path / name
                if broken is None:
                    path.unlink()
                else:
                    path.write_bytes(broken)
                done = publish_tiles(log, checkpoint, tmp_path)
                is_needed = checkpoint is checkpoints[4] or ".p/" not in name
                if is_needed and (broken is None or len(broken) < len(content)):
                    assert holds(tmp_path), (name, broken)
                    assert path.read_bytes() == content
                if checkpoint is checkpoints[4]:
                    assert done.files_written == 1, name
                    assert files_in(tmp_path) == good
                shutil.rmtree(tmp_path)
                publish_tiles(log, checkpoints[4], tmp_path)


def test_a_cosigned_checkpoint_is_not_replaced_by_a_bare_one(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    def cosigned(*names: str) -> Checkpoint:
        text = checkpoints[1].text
        for number, name in enumerate(names):
            text = CosigningKey(name, bytes([number]) * 32).cosigned(text, 1)
        return Checkpoint.parse(text, TRUST)

    publish_tiles(log, cosigned("north", "south"), tmp_path)
    for other, lost in (
        (cosigned(), "north and south"),
        (cosigned("north"), "south"),
        (signed_checkpoint(log, checkpoints[1].size, KEY), "north and south"),
    ):
        with pytest.raises(errors.FailedPreconditionError, match=f"that {lost} cosigned"):
            publish_tiles(log, other, tmp_path)
    publish_tiles(log, cosigned("north", "south", "west"), tmp_path)
    publish_tiles(log, checkpoints[2], tmp_path)
    assert holds(tmp_path, checkpoints[1])


def test_every_file_that_is_changed_or_missing_is_noticed(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    good = tmp_path / "good"
    publish_tiles(log, checkpoints[-1], good)
    for name, content in files_in(good).items():
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for changed in (flipped, content[:-1], content[:-32], b"", content + b"\x00", None):
            path = good / name
            if changed is None:
                path.unlink()
            else:
                path.write_bytes(changed)
            assert not holds(good), (name, changed and len(changed))
            path.write_bytes(content)
    assert holds(good)
    # A tile with more hashes than are needed is as good: the full one may stand for a partial one.
    (good / "tile/0/002.p").rename(tmp_path / "away")
    assert not holds(good)
    (good / "tile/0/002").write_bytes((tmp_path / "away/188").read_bytes() + bytes(32 * 68))
    assert holds(good)


def test_bundles_that_are_none() -> None:
    for bundle in (b"\x00", b"\x00\x01", b"\x00\x00\x00", b"\xff\xff", bytes(2 * 257)):
        with pytest.raises(errors.DataLossError, match="not a bundle"):
            entries_of(bundle, "a bundle")
        with pytest.raises(Refused):
            standalone_verifier.split_bundle(bundle)
    for entries in ([], [b""], [b"a", b"", b"b" * 65_535], [b""] * 256):
        bundle = bundle_of(entries)
        assert entries_of(bundle, "a bundle") == entries
        assert standalone_verifier.split_bundle(bundle) == entries


def test_entries_and_tiles_that_agree_are_not_enough(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    """Signed by one who has not looked: entries out of their places."""
    publish_tiles(log, checkpoints[1], tmp_path)
    lines = checkpoints[1].text.partition("\n\n")[0].split("\n")
    bundle = tmp_path / "tile/entries/000.p/255"
    entries = entries_of(bundle.read_bytes(), "")

    def later(entry: bytes, at: int) -> bytes:
        changed = (int.from_bytes(entry[at : at + 8], "big") + 1).to_bytes(8, "big")
        return entry[:at] + changed + entry[at + 8 :]

    for forged in (
        [entries[1], entries[0], *entries[2:]],
        [*entries[:-1], b"\x01" + entries[-1][1:]],
        [*entries[:-1], later(entries[-1], 24)],
        [*entries[:-1], later(entries[-1], 32)],
        [later(entries[0], 32 - 8), *entries[1:]],
        [later(entries[0], 16), *entries[1:]],
        [entries[0][:39], *entries[1:]],
        [*entries[:100], later(entries[100], 32), *entries[101:]],
    ):
        hashes = [hashlib.sha256(b"\x00" + entry).digest() for entry in forged]
        bundle.write_bytes(bundle_of(forged))
        (tmp_path / "tile/0/000.p/255").write_bytes(b"".join(hashes))
        lines[2] = base64.b64encode(tree_head(hashes)).decode()
        (tmp_path / "checkpoint").write_text(KEY.signed("\n".join(lines) + "\n"))
        assert not holds(tmp_path)


def test_two_histories_in_one_folder_are_refused(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    other = MemoryLog()
    other.store_id = log.store_id
    for size in SIZES:
        append(
            other,
            *(draft(number, name=f"n{number}") for number in range(other.position + 1, size + 1)),
        )
    for number in (1, 2, 4, 5):
        folder = tmp_path / str(number)
        publish_tiles(log, checkpoints[number], folder)
        before = files_in(folder)
        for size in {SIZES[number], SIZES[-1]}:
            with pytest.raises(errors.DataLossError, match="states another history"):
                publish_tiles(other, signed_checkpoint(other, size, KEY), folder)
        assert files_in(folder)["checkpoint"] == before["checkpoint"]
        assert holds(folder)
        with pytest.raises(errors.DataLossError, match="are not those"):
            publish_tiles(other, checkpoints[number], tmp_path / "new")
        assert not (tmp_path / "new" / "checkpoint").exists()
    publish_tiles(other, signed_checkpoint(other, 700, KEY), tmp_path / "other")
    for older in checkpoints:
        assert not holds(tmp_path / "other", older)


def test_what_is_not_published(
    log: MemoryLog, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    stranger = logged(3)
    with pytest.raises(errors.NotFoundError, match="of store"):
        publish_tiles(stranger, checkpoints[0], tmp_path)
    short = logged(3)
    short.store_id = log.store_id
    with pytest.raises(errors.DataLossError, match="are missing"):
        publish_tiles(short, checkpoints[1], tmp_path)
    publish_tiles(stranger, signed_checkpoint(stranger, 3, KEY), tmp_path)
    with pytest.raises(errors.FailedPreconditionError, match="another folder"):
        publish_tiles(log, checkpoints[0], tmp_path)
    with pytest.raises(errors.StatusError):
        publish_tiles(log, checkpoints[0], tmp_path / "checkpoint" / "inside")
    with pytest.raises(errors.NotFoundError, match="nothing is published there"):
        check_tiles(opened_source(str(tmp_path / "missing")), TRUST)
    with pytest.raises(errors.InvalidArgumentError, match="neither a folder"):
        opened_source("ftp://example.com/")
    assert holds(tmp_path)
    namesake = SigningKey.generate(KEY.name).verifier_key
    with pytest.raises(errors.DataLossError, match="no signature by"):
        check_tiles(opened_source(str(tmp_path)), namesake)
    (tmp_path / "checkpoint").write_bytes(b"\xff")
    with pytest.raises(errors.DataLossError, match="no text"):
        check_tiles(opened_source(str(tmp_path)), TRUST)
    (tmp_path / "checkpoint").write_bytes(bytes(2**20 + 1))
    with pytest.raises(errors.DataLossError, match="more than"):
        check_tiles(opened_source(str(tmp_path)), TRUST)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; compressed where the client takes it, and with an error when told so."""

    is_out_of_order = False

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.directory + self.path)
        if self.is_out_of_order or not path.is_file():
            self.send_error(503 if self.is_out_of_order else 404)
            return
        content = path.read_bytes()
        self.send_response(200)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_server_is_enough(
    log: MemoryLog,
    checkpoints: list[Checkpoint],
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    publish_tiles(log, checkpoints[-1], tmp_path)
    assert holds(address)
    assert holds(address.rstrip("/"), checkpoints[2])
    tile = tmp_path / "tile/0/001"
    content = tile.read_bytes()
    for changed in (content[:-1] + b"x", content[:-1], content + content):
        tile.write_bytes(changed)
        assert not holds(address)
    tile.unlink()
    assert not holds(address)
    monkeypatch.setattr(Handler, "is_out_of_order", True)
    with pytest.raises(errors.UnavailableError, match="answers 503"):
        check_tiles(opened_source(address), TRUST)
    with pytest.raises(CannotCheck, match="answers 503"):
        standalone_verifier.verify_tiles(address, ALONE)
    with pytest.raises(errors.UnavailableError, match="cannot be read"):
        check_tiles(opened_source("http://127.0.0.1:1/"), TRUST)
