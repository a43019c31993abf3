"""The newest verification of the store, and a button that begins another."""

from __future__ import annotations

from eventstore.http_api.routes import Asked, Html, Nothing, Route
from eventstore.page.showing import links_of, shown, store_name
from eventstore.server.roles import Role


def verification(asked: Asked, query: Nothing) -> Html:  # noqa: ARG001
    """What `eventstore verify` has found, as this server ran it last."""
    return shown(
        asked,
        "verification.html.j2",
        title="Verification",
        newest=asked.serving.verifications.newest(asked.engine),
        api=f"{links_of(asked).prefix}/api/v1/verification",
        may_start=Role.AUDIT in asked.roles,
        command=f"eventstore verify {store_name(asked)}",
    )


ROUTES = (Route("/verification", verification, kept=False),)
