"""From what a request asks to a page: the frame around what its template shows."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

import msgspec
from starlette.requests import Request

from eventstore.errors import StatusError
from eventstore.http_api.commits import commit
from eventstore.http_api.problems import Problem, problem_of
from eventstore.http_api.request_moment import At
from eventstore.http_api.routes import Asked, Html
from eventstore.http_api.verification_runs import Verification
from eventstore.page.formatting import brief
from eventstore.page.frame import Frame, ShownMoment, Tick
from eventstore.page.links import Links
from eventstore.page.rendering import rendered
from eventstore.server.roles import Role

_MOMENTS = ("at", "until")
_PROBLEMS = {400: "This address is wrong", 404: "There is no such page"}


def shown(
    asked: Asked,
    template: str,
    *,
    title: str,
    section: str = "",
    ticks: Sequence[Tick] = (),
    **values: Any,
) -> Html:
    """A page of a template: with `frame`, `links`, `title` and `moments`, and the values given.

    `ticks` are the commits, shown on the strip, that touch what the page shows.
    """
    links = links_of(asked)
    frame = frame_of(asked, links, section, ticks)
    around = {"frame": frame, "links": links, "title": title, "moments": moment_fields(asked)}
    return Html(rendered(template, around | values))


def store_name(asked: Asked) -> str:
    """How commands name the store."""
    return quote(asked.engine.log.name)


def as_of(asked: Asked) -> str:
    """The option by which commands answer as of the moment; nothing now."""
    return "" if asked.moments.is_now else f" --as-of {asked.moments.at.position}"


def pinned_moments(asked: Asked) -> dict[str, int]:
    """The positions that the page shows, for an address that shows the same to others."""
    moments = asked.moments
    pinned: dict[str, int] = {"at": moments.at.position}
    return pinned if moments.until is None else pinned | {"until": moments.until.position}


def moment_fields(asked: Asked) -> list[tuple[str, str]]:
    """The moments that the address names, as fields that forms repeat."""
    texts = asked.moments.at_text, asked.moments.until_text
    return [(name, text) for name, text in zip(_MOMENTS, texts, strict=True) if text is not None]


def seen_at(asked: Asked) -> Asked:
    """The request as of B alone where there are two moments, and else as it is."""
    moments = asked.moments
    if moments.until is None:
        return asked
    at_text = None if moments.until_text == "now" else moments.until_text
    at_b = msgspec.structs.replace(moments, at=moments.until, until=None, at_text=at_text)
    return msgspec.structs.replace(asked, moments=at_b)


def links_of(asked: Asked) -> Links:
    """Makes addresses at the moments of a request."""
    return Links(asked.prefix, asked.moments.at_text, asked.moments.until_text)


def frame_of(asked: Asked, links: Links, section: str, ticks: Sequence[Tick] = ()) -> Frame:
    """What is around the page."""
    moments = asked.moments
    return Frame(
        store=asked.name or asked.engine.log.name.rstrip("/").rpartition("/")[2],
        links=links,
        path=asked.path,
        section=section,
        at=_shown_moment(asked, moments.at),
        until=None if moments.until is None else _shown_moment(asked, moments.until),
        newest=_shown_moment(asked, moments.newest),
        ticks=tuple(ticks),
        kept=tuple(pair for pair in asked.parameters if pair[0] not in _MOMENTS),
        has_others=asked.name is not None,
        user=(asked.actor or "somebody") if asked.is_signed_in else None,
        may_audit=Role.AUDIT in asked.roles,
        verified=_verified(asked.serving.verifications.newest(asked.engine)),
    )


def problem_page(request: Request, error: StatusError) -> Html:
    """A page that tells an error; nothing of the store is around it."""
    problem: Problem = problem_of(error)
    prefix = request.path_params.get("store_name")
    links = Links("" if prefix is None else f"/stores/{prefix}")
    title = _PROBLEMS.get(problem.status, problem.title)
    return Html(
        rendered("problem.html.j2", {"title": title, "problem": problem, "links": links}),
        problem.status,
    )


def sign_in_form(following: str, wrong: str) -> str:
    """A form for a token. `following` is the address to go on to, `wrong` what was wrong before."""
    return rendered("sign_in.html.j2", {"following": following, "wrong": wrong})


def stores_page(names: Sequence[str]) -> Html:
    """The stores of a server that one may use."""
    stores = [(name, Links(f"/stores/{name}").to("/")) for name in names]
    return Html(rendered("stores.html.j2", {"stores": stores}))


def _verified(newest: Verification) -> tuple[str, str]:
    """A word for its colour, and what the header says of the newest verification."""
    match newest.state:
        case "none":
            return "none", "not verified since the start"
        case "running":
            return "none", "being verified"
        case "sound":
            return "ok", f"verified to {newest.position:,}"
        case "damaged":
            commits = [one.commit for one in newest.findings if one.commit is not None]
            return "bad", f"damaged at commit {min(commits):,}" if commits else "damaged"
        case "caches disagree":
            return "bad", "the caches disagree with the log"
        case "failed":
            return "bad", "the verification failed"


def _shown_moment(asked: Asked, at: At) -> ShownMoment | None:
    if not at.position or at.recorded_at is None:
        return None
    source = asked.source_at(at.position)
    found = commit(source, source.projections.commits(at.position).number_at(at.position))
    return ShownMoment(
        at.position,
        found.commit,
        at.recorded_at,
        brief(found.actor) or None,
        brief(found.reason) or None,
        found.first_position - 1 or None,
    )
