"""Writers that were overtaken repeatedly go first, whatever becomes of who went first before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from eventstore.log import Commit, PositionConflictError
from eventstore.log.sql import SqlLog, reservation
from eventstore.log.sql.opening import open_database
from tests.builders import append, draft
from tests.contract.sql_logs import database_of
from tests.sql_servers import Server


@pytest.fixture
def logs(sql_server: Server) -> Iterator[list[SqlLog]]:
    """The same log three times."""
    name = sql_server.new_database()
    with contextlib.ExitStack() as opened:
        yield [
            opened.enter_context(contextlib.closing(open_database(database_of(sql_server, name))))
            for _ in range(3)
        ]


def test_who_has_reserved_the_next_append_is_not_overtaken(
    logs: list[SqlLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = logs
    monkeypatch.setattr(reservation, "WAITED_SECONDS_MAX", 0.02)

    def put() -> Commit:
        assert second.position == 0
        with pytest.raises(PositionConflictError):
            append(second, draft(7))
        second.refresh()
        assert second.position == 0
        return append(first, draft(1))

    commit = first.reserved(put)
    for log in (second, third):
        log.refresh()
        append(log, draft(log.position + 1))
    assert next(third.commits()) == commit
    assert third.position == 3


def test_a_reservation_that_never_ends_is_passed_over(
    logs: list[SqlLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = logs
    monkeypatch.setattr(reservation, "WAITED_SECONDS_MAX", 0.02)
    commit = first.reserved(lambda: second.reserved(lambda: append(second, draft(1))))
    assert first.refresh()
    assert [*first.commits()] == [commit]
    append(first, draft(2))
