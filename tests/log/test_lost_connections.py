"""Connections to a SQL server that are lost: a commit is there once, or the error says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from eventstore import errors
from eventstore.log import PositionConflictError
from eventstore.log.sql import SqlLog
from eventstore.log.sql.opening import open_database
from tests.builders import append, draft
from tests.contract.sql_logs import database_of
from tests.lossy_proxy import Fate, LossyProxy
from tests.sql_servers import Server

_INSERTS = b"INSERT INTO eventstore_commits"


@pytest.fixture
def name(sql_server: Server) -> str:
    return sql_server.new_database()


@pytest.fixture
def other(sql_server: Server, name: str) -> Iterator[SqlLog]:
    """A log that reaches the server, with a commit."""
    with contextlib.closing(open_database(database_of(sql_server, name))) as log:
        append(log, draft(1))
        yield log


@pytest.fixture
def proxy(sql_server: Server) -> Iterator[LossyProxy]:
    with LossyProxy(sql_server.port) as proxy:
        yield proxy


@pytest.fixture
def log(sql_server: Server, name: str, other: SqlLog, proxy: LossyProxy) -> Iterator[SqlLog]:
    """The same log over connections that the test cuts."""
    database = database_of(sql_server, name, port=proxy.port, retries_max=2)
    with contextlib.closing(open_database(database)) as log:
        yield log


class Fates:
    """What becomes of the insertions of commits, one after the other; then all are passed."""

    def __init__(self, *fates: Fate) -> None:
        self.left = list(fates)

    def __call__(self, data: bytes) -> Fate:
        return self.left.pop(0) if _INSERTS in data and self.left else "passed"


@pytest.mark.share(2)
@pytest.mark.parametrize(
    "fates", [["lost"], ["unanswered"], ["lost", "unanswered"], ["unanswered", "lost"]], ids=str
)
def test_a_commit_is_there_once_though_its_connection_was_lost(
    log: SqlLog, other: SqlLog, proxy: LossyProxy, fates: list[Fate]
) -> None:
    proxy.fate = told = Fates(*fates)
    commit = append(log, draft(2))
    assert told.left == []
    later = append(log, draft(3))
    other.refresh()
    assert [*other.commits(1)] == [*log.commits(1)] == [commit, later]
    assert other.verify().ok


def test_another_writer_was_faster_meanwhile(log: SqlLog, other: SqlLog, proxy: LossyProxy) -> None:
    def lose_once(data: bytes) -> Fate:
        if _INSERTS not in data:
            return "passed"
        proxy.fate = lambda _: "passed"
        append(other, draft(7))
        return "lost"

    proxy.fate = lose_once
    with pytest.raises(PositionConflictError):
        append(log, draft(2))
    assert log.refresh()
    append(log, draft(3))
    other.refresh()
    assert [commit.records[0].entity_id for commit in other.commits()] == [1, 7, 3]


def test_what_cannot_be_asked_is_said_to_be_unknown(
    log: SqlLog, other: SqlLog, proxy: LossyProxy
) -> None:
    proxy.fate = Fates("unanswered", "lost", "lost")
    with pytest.raises(errors.OutcomeUnknownError, match="whether the commit was kept"):
        append(log, draft(2))
    with pytest.raises(PositionConflictError):
        append(log, draft(2))
    assert log.refresh()
    assert [commit.number for commit in log.commits()] == [1, 2]
    append(log, draft(3))
    assert log.verify().ok


def test_without_a_connection_nothing_is_put(log: SqlLog, other: SqlLog, proxy: LossyProxy) -> None:
    proxy.close()
    with pytest.raises(errors.UnavailableError) as met:
        log.refresh()
    assert not isinstance(met.value, errors.OutcomeUnknownError)
    with pytest.raises(errors.UnavailableError, match="nothing was put") as met:
        append(log, draft(2))
    assert not isinstance(met.value, errors.OutcomeUnknownError)
    assert not other.refresh()


def test_a_database_that_was_set_back_takes_no_puts(
    sql_server: Server, name: str, log: SqlLog, other: SqlLog, proxy: LossyProxy
) -> None:
    """As where another server has taken the place of one, without its newest commits."""
    append(log, draft(2))
    sql_server.execute("DELETE FROM eventstore_commits WHERE number = 2", database=name)
    proxy.fate = Fates("lost")
    for _ in range(2):
        with pytest.raises(errors.DataLossError, match="commit 2, which was there before"):
            append(log, draft(3))
    with pytest.raises(errors.DataLossError, match="commit 2, which was there before"):
        log.refresh()
