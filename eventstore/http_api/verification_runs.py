"""Verification of a store: the newest that this server ran, and how to run another."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Literal

import msgspec

from eventstore.errors import CancelledError, FailedPreconditionError, StatusError
from eventstore.late_logger import late_logger
from eventstore.log import Finding, Progress, VerifyReport
from eventstore.store import Engine

_LOGGER = late_logger("eventstore.http_api")

State = Literal["none", "running", "sound", "damaged", "caches disagree", "failed"]


class Verification(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `eventstore verify` says of a store, run by this server.

    `state` is `none` as long as it ran none, and `failed` where it could not be ended: `error` says
    why. While it is `running`, `done` of `of_all` records are checked. `caches disagree` means that
    the log is sound, and `eventstore rebuild` helps. Otherwise the fields are those of the report.
    """

    state: State
    started_at: datetime | None = None
    seconds: float | None = None
    done: int | None = None
    of_all: int | None = None
    position: int | None = None
    commits: int | None = None
    records: int | None = None
    tree_head: str | None = None
    findings: list[Finding] = []
    cache_findings: list[Finding] = []
    not_checked: list[str] = []
    error: str | None = None


NONE = Verification("none")


class Verifications:
    """The newest of each store of a server, one at a time. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Lock()
        self._newest = dict[Engine, Verification]()
        self._running: threading.Thread | None = None
        self._is_ending = False

    def newest(self, engine: Engine) -> Verification:
        """The one that runs, or the newest that ran."""
        return self._newest.get(engine, NONE)

    def start(self, engine: Engine) -> Verification:
        """Begin one, and tell of it. Raises FailedPreconditionError while another runs."""
        with self._changed:
            if self._running is not None and self._running.is_alive():
                raise FailedPreconditionError("a verification is running: wait until it has ended")
            began = Verification("running", datetime.now(timezone.utc), done=0)
            before, self._newest[engine] = self.newest(engine), began
            self._running = threading.Thread(
                target=self._run, args=(engine, began, before), name="verification", daemon=True
            )
            self._running.start()
            return began

    def wait(self) -> None:
        """Wait until what runs has ended."""
        with self._changed:
            running = self._running
        if running is not None:
            running.join()

    def close(self) -> None:
        """Give up what runs, and wait until it has."""
        self._is_ending = True
        self.wait()

    def _run(self, engine: Engine, began: Verification, before: Verification) -> None:
        start = time.monotonic()

        def note(done: int, of_all: int) -> None:
            if self._is_ending:
                raise CancelledError("the server ends")
            self._newest[engine] = msgspec.structs.replace(began, done=done, of_all=of_all)

        try:
            found = _told(_report(engine, note))
        except CancelledError:
            self._newest[engine] = before
            return
        except Exception as error:
            _LOGGER.error("a verification of %s failed", engine.log.name, exc_info=error)
            said = error.message if isinstance(error, StatusError) else type(error).__name__
            found = Verification("failed", error=said)
        seconds = time.monotonic() - start
        self._newest[engine] = msgspec.structs.replace(
            found, started_at=began.started_at, seconds=seconds
        )


def _report(engine: Engine, note: Progress) -> VerifyReport:
    from eventstore.audit.compared_caches import with_caches
    from eventstore.retention.checking import with_guards

    log = engine.log
    report = with_guards(log.verify(note), log)
    return with_caches(report, log) if report.ok else report.without("the caches")


def _told(report: VerifyReport) -> Verification:
    state: State = "sound" if not report.findings else "damaged"
    if report.cache_findings and not report.findings:
        state = "caches disagree"
    return Verification(
        state,
        position=report.position,
        commits=report.commits,
        records=report.records,
        tree_head=report.tree_head,
        findings=[*report.findings],
        cache_findings=[*report.cache_findings],
        not_checked=[*report.not_checked],
    )
