"""The addresses of the newest verification of a store, and of beginning another."""

from __future__ import annotations

from eventstore.http_api.routes import Asked, Nothing, Route
from eventstore.http_api.verification_runs import Verification
from eventstore.server.roles import Role


def verification(asked: Asked, query: Nothing) -> Verification:  # noqa: ARG001
    """The newest verification that this server ran, or runs."""
    return asked.serving.verifications.newest(asked.engine)


def verify(asked: Asked, query: Nothing) -> Verification:  # noqa: ARG001
    """Begin a verification, as `eventstore verify` is one; refused while another runs."""
    return asked.serving.verifications.start(asked.engine)


ROUTES = (
    Route("/verification", verification, kept=False),
    Route("/verification", verify, need=Role.AUDIT, starts=True),
)
