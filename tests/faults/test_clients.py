"""Clients of a server that is killed: a small budget of what `make torture` does."""

from __future__ import annotations

from tests.faults import clients


def test_clients_lose_nothing_when_their_server_is_ended() -> None:
    outcome = clients.run(lambda _: None, seconds=1, restarts=2, clients=8, seed=17)
    assert outcome.complaints == []
    assert outcome.counts["SIGTERM"] == outcome.counts["SIGKILL"] == 1
    assert outcome.counts["acknowledged puts"] > 0
