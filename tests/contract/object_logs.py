"""Logs in object storage, for the tests of what holds for every log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from uuid import UUID

import pytest

from eventstore.log import Log
from eventstore.log.objects import ObjectLog, bucket, connecting
from eventstore.log.objects.opening import open_bucket
from tests.lossy_proxy import Fate, LossyProxy
from tests.object_servers import ObjectServer


def opened(url: str, *, read_only: bool = False, segment_records_max: int = 40) -> ObjectLog:
    """The log at a URL: for other processes, too."""
    return open_bucket(
        connecting.of_url(url), read_only=read_only, segment_records_max=segment_records_max
    )


class Fates:
    """What becomes of the commits that are put, one after the other; then all are passed."""

    def __init__(self, *fates: Fate) -> None:
        self.left = list(fates)

    def __call__(self, data: bytes) -> Fate:
        is_put = data.startswith(b"PUT ") and b"/commits/" in data.partition(b"\r\n")[0]
        return self.left.pop(0) if is_put and self.left else "passed"


class InObjectStorage:
    """Makes logs, each below a prefix of its own, and closes them."""

    server_name: str

    @pytest.fixture(autouse=True)
    def _server(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[None]:
        self.server: ObjectServer = request.getfixturevalue(self.server_name)
        for name, value in self.server.environment.items():
            monkeypatch.setenv(name, value)
        self.prefixes: dict[UUID, str] = {}
        with ExitStack() as self.closed_last, LossyProxy(self.server.port) as self.proxy:
            yield

    def made(self, folder: object) -> Log:
        return self.open(self.server.new_prefix())

    def again(self, log: Log) -> Log:
        return self.open(self.prefixes[log.store_id], read_only=True)

    def opens(self, log: Log) -> Callable[[], Log]:
        return partial(opened, self.server.url(self.prefixes[log.store_id], port=self.proxy.port))

    def faults(self) -> Iterator[AbstractContextManager[object]]:
        yield self.losing("lost", 1)
        yield self.losing("unanswered", 1)
        yield self.losing("unanswered", 99)
        yield self.losing("lost", 99)

    @contextmanager
    def losing(self, fate: Fate, times: int) -> Iterator[None]:
        """So many puts of commits lose their connection before or after they are done."""
        self.proxy.fate = Fates(*[fate] * times)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(bucket, "RETRIED_SECONDS", 0.3)
            yield
        self.proxy.fate = Fates()

    def open(self, prefix: str, *, read_only: bool = False) -> ObjectLog:
        log = opened(self.server.url(prefix), read_only=read_only, segment_records_max=4)
        self.prefixes[log.store_id] = prefix
        return self.closed_last.enter_context(closing(log))
