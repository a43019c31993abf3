"""`eventstore serve --workers`: real processes on one port, that are killed, and one over them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from eventstore import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.server import Server
from tests.command_line.runner import ENVIRONMENT, program, run
from tests.server.serving import client_config

_LIMIT = 60


class Serving:
    """A server of two workers that runs in a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self.out: IO[str] = process.stdout
        self.err: IO[str] = process.stderr
        first = self.out.readline()
        assert first.startswith("Serving "), first + self.err.read()
        self.port = int(first.rpartition(":")[2])

    def workers(self) -> list[int]:
        """The ids of its workers."""
        own = self.process.pid
        # Its threads start some of them.
        tasks = Path(f"/proc/{own}/task").iterdir()
        found = [pid for task in tasks for pid in (task / "children").read_text().split()]
        return sorted(map(int, found))

    def said(self, beginning: str) -> str:
        """The next line of its log with this in it."""
        for line in self.err:
            if beginning in line:
                return line
        raise AssertionError(f"it ended, and did not say {beginning!r}")

    def put(self, name: str) -> int:
        with MetadataStore(client_config(self.port)) as client:
            return client.put_artifact_type(mlmd.ArtifactType(name=name))


@contextmanager
def serving(*arguments: object, before: str = "pass") -> Iterator[Serving]:
    """A server that serves, once its first process has run some code."""
    starting = f"{before}; from eventstore.cli.main import main; main()"
    given = ["serve", "--grpc_port=0", "--workers=2", *map(str, arguments)]
    with subprocess.Popen(
        [sys.executable, "-c", starting, *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            yield Serving(process)
        finally:
            process.kill()


def is_gone(pid: int) -> None:
    """Return once a process that is no child of this one has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(_LIMIT * 1000), "it runs still"
    os.close(descriptor)


def test_one_that_dies_is_started_again_and_all_end_together(tmp_path: Path) -> None:
    arguments = (tmp_path / "store", "--metrics-port=0", "--grpc-web-port=0")
    with serving(*arguments) as served:
        lines = [served.out.readline() for _ in range(3)]
        assert sorted(line.partition(" on ")[0] for line in lines) == [
            *("Metrics", "Metrics", "gRPC-Web")
        ]
        workers = served.workers()
        assert len(workers) == 2
        ids = {served.put("T") for _ in range(4)}
        os.kill(workers[1], signal.SIGKILL)
        assert "ended (SIGKILL): it starts again in 0.5 s" in served.said("worker ")
        assert served.put("U") not in ids
        served.said("serves again")
        assert len(served.workers()) == 2
        # The port is its own, even though others share it.
        done = run("serve", tmp_path / "other", f"--grpc_port={served.port}", "--workers=2")
        assert f"cannot listen on 127.0.0.1:{served.port}" in done.err
        assert not (tmp_path / "other").exists()
        workers = served.workers()
        served.process.terminate()
        _, err = served.process.communicate(timeout=_LIMIT)
        assert served.process.returncode == 0, err
        for pid in workers:
            is_gone(pid)


def test_workers_end_when_what_has_started_them_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as served:
        workers = served.workers()
        served.process.kill()
        for pid in workers:
            is_gone(pid)


def test_it_gives_up_when_a_worker_cannot_be_started_any_more(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("")
    hasty = "from eventstore.server import workers as w; w._TRIES, w._FIRST_PAUSE_SECONDS = 2, 0.01"
    with serving(tmp_path / "store", "--token-file", tokens, before=hasty) as served:
        # Those that run keep what they have read.
        tokens.write_text("nonsense")
        os.kill(served.workers()[1], signal.SIGKILL)
        served.said("could not be started")
        assert served.process.wait(_LIMIT) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "this one is in memory"),
        (("--store", "a=memory://"), "this one is in memory"),
        (("s", "--metrics-port=65535"), "choose a lower one"),
    ],
)
def test_what_workers_cannot_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        program("serve", "--grpc_port=0", "--workers=2", *arguments),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert why in done.stderr


def test_a_port_in_use_is_not_shared(tmp_path: Path, server: Server) -> None:
    done = run("serve", tmp_path / "store", f"--grpc_port={server.port}", "--workers=2")
    assert done.code == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.err
    assert not (tmp_path / "store").exists()
