"""The addresses by which browsers are let in: by the token of an address, or by a form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from eventstore.errors import StatusError
from eventstore.http_api.authentication import Authenticator, OneBrowser
from eventstore.http_api.problems import problem_of
from eventstore.http_api.sessions import SESSION_SECONDS, SignedIn
from eventstore.server.web_exchange import GoneError, body_of

SIGN_IN = "/sign-in"
_BODY_BYTES_MAX = 64 * 1024
_NO_STORE = {"cache-control": "no-store"}

ShowForm = Callable[[str, str], str]
"""Makes the page of the form: where to go on, and what was wrong before, "" for nothing."""

TellProblem = Callable[[Request, StatusError], Response]


def sign_in_routes(
    authenticator: Authenticator, show_form: ShowForm | None, tell_problem: TellProblem
) -> Sequence[BaseRoute]:
    """The addresses at which an authenticator lets browsers in."""
    if isinstance(authenticator, OneBrowser):
        return [Route("/open", _opening(authenticator, tell_problem))]
    if isinstance(authenticator, SignedIn) and show_form is not None:
        return [
            Route(SIGN_IN, _form(show_form)),
            Route(SIGN_IN, _signing_in(authenticator, show_form, tell_problem), methods=["POST"]),
            Route("/sign-out", _signing_out(authenticator), methods=["POST"]),
        ]
    return []


def to_sign_in(request: Request) -> Response:
    """Has a browser show the form, and go on to where it was afterwards."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{SIGN_IN}?next={quote(wanted, safe='')}", 303, _NO_STORE)


def _opening(authenticator: OneBrowser, tell_problem: TellProblem) -> Callable[[Request], object]:
    """Exchanges the token of an address for the cookie, and drops it from the address."""

    async def answer(request: Request) -> Response:
        try:
            cookie = authenticator.enter(request.query_params.get("token", ""))
        except StatusError as error:
            return tell_problem(request, error)
        response = RedirectResponse("/", 303, _NO_STORE)
        response.set_cookie(authenticator.cookie_name, cookie, httponly=True, samesite="lax")
        return response

    return answer


def _form(show_form: ShowForm) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        text = show_form(_own_address(request.query_params.get("next", "")), "")
        return Response(text, 200, _NO_STORE, "text/html")

    return answer


def _signing_in(
    authenticator: SignedIn, show_form: ShowForm, tell_problem: TellProblem
) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        try:
            body = await body_of(request.receive, _BODY_BYTES_MAX)
        except GoneError:
            return Response(status_code=499)
        except StatusError as error:
            return tell_problem(request, error)
        given = parse_qs(body.decode("utf-8", "replace"))
        following = _own_address(given.get("next", [""])[0])
        try:
            cookie = authenticator.sign_in(request, given.get("token", [""])[0].strip())
        except StatusError as error:
            told = problem_of(error)
            text = show_form(following, told.detail)
            return Response(text, told.status, _NO_STORE, "text/html")
        response = RedirectResponse(following, 303, _NO_STORE)
        response.set_cookie(
            authenticator.cookie_name,
            cookie,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=authenticator.is_secure,
        )
        return response

    return answer


def _signing_out(authenticator: SignedIn) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        authenticator.sign_out(request)
        response = RedirectResponse(SIGN_IN, 303, _NO_STORE)
        response.delete_cookie(
            authenticator.cookie_name, httponly=True, samesite="lax", secure=authenticator.is_secure
        )
        return response

    return answer


def _own_address(text: str) -> str:
    r"""An address of this server, from its path on; the overview for any other.

    Browsers take `//host` and `/\host` for another server.
    """
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or not text.startswith("/") or text[1:2] in ("/", "\\"):
        return "/"
    return text if text.isascii() and text.isprintable() else "/"
