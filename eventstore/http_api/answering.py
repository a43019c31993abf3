"""Answers a request by the handler of its route: in a thread, and in time."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from eventstore.cancellation import Waiter, waited_for_by
from eventstore.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StatusError,
)
from eventstore.http_api.authentication import Authenticator
from eventstore.http_api.cursors import position_of_cursor
from eventstore.http_api.incoming_request import HttpIncoming
from eventstore.http_api.problems import MEDIA_TYPE, problem_of
from eventstore.http_api.request_moment import Moments, moments_of, pinned
from eventstore.http_api.routes import Asked, Elsewhere, Html, Nothing, Route, Streamed
from eventstore.http_api.serving import Serving
from eventstore.http_api.sessions import SignedIn
from eventstore.http_api.sign_in_routes import to_sign_in
from eventstore.http_api.streaming import InParts
from eventstore.late_logger import late_logger
from eventstore.plain_json import plain
from eventstore.server.caller import Caller
from eventstore.server.incoming import Incoming
from eventstore.server.observing import Observer, Observing
from eventstore.server.principal import Principal
from eventstore.server.roles import Role
from eventstore.server.web_exchange import GoneError, body_of
from eventstore.store import Engine
from eventstore.store.attribution import Attribution
from eventstore.version import __version__
from eventstore.wording import quoted

_LOGGER = late_logger("eventstore.http_api")
_T = TypeVar("_T")

API: Final = "/api/v1"
OF_ALL: Final = ("at", "until", "exact")
"""The parameters that each address takes."""

_HTML: Final = "text/html"
_JSON: Final = "application/json"
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")

ShowProblem = Callable[[Request, StatusError], Html]
"""Makes a page of an error."""


class Answering:
    """Answers requests. Safe to use from the event loop alone."""

    def __init__(
        self,
        serving: Serving,
        authenticator: Authenticator,
        show_problem: ShowProblem | None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Without `show_problem` errors are told as JSON to browsers, too."""
        self._observing = Observing(observers)
        self._serving = serving
        self._authenticator = authenticator
        self._show_problem = show_problem
        self._turns: anyio.CapacityLimiter | None = None
        self._queries = Counter[str | None]()

    def endpoint(self, route: Route, *, is_page: bool = False) -> Callable[[Request], Any]:
        """What Starlette calls for a route."""
        query_type, _ = types_of(route.answer)

        path = route.path if is_page else f"{API}{route.path}"

        async def answer(request: Request) -> Response:
            incoming = HttpIncoming(request, path)
            try:
                with self._observing.call(incoming, _length(request)) as count:
                    response = await self._answered(
                        route, query_type, request, incoming, is_page=is_page
                    )
                    count(len(response.body) if hasattr(response, "body") else 0)
                    return response
            except StatusError as error:
                return self.problem(request, error, is_page=is_page)

        return answer

    def problem(
        self, request: Request, error: StatusError, *, is_page: bool, status: int | None = None
    ) -> Response:
        """The answer that tells an error, with its own status or another."""
        told = problem_of(error, status)
        headers = {"cache-control": "no-store"}
        if told.status in (429, 503):
            headers["retry-after"] = "1"
        if is_page and told.status == 401 and isinstance(self._authenticator, SignedIn):
            return to_sign_in(request)
        if is_page and self._show_problem is not None:
            page = self._show_problem(request, error)
            return Response(page.text, told.status, headers, _HTML)
        if told.status == 401:
            headers["www-authenticate"] = 'Bearer realm="eventstore"'
        return Response(msgspec.json.encode(told), told.status, headers, MEDIA_TYPE)

    def home(self, show_stores: Callable[[Sequence[str]], Html]) -> Callable[[Request], Any]:
        """The page of the stores that one may use; where that is one, its own."""

        async def answer(request: Request) -> Response:
            try:
                principal = await self.run(request, lambda: self._authenticator.principal(request))
            except StatusError as error:
                return self.problem(request, error, is_page=True)
            mine = [name for name in self._serving.stores if principal.roles_in(name)]
            if len(mine) == 1:
                return RedirectResponse(f"/stores/{mine[0]}/", 303)
            return Response(show_stores(mine).text, 200, {"cache-control": "no-store"}, _HTML)

        return answer

    async def run(
        self, request: Request, work: Callable[[], _T], seconds: float | None = None
    ) -> _T:
        """The result of work that a thread does, for as long as the client waits."""
        limits = self._serving.limits
        waiter = Waiter(seconds_max=limits.answer_seconds if seconds is None else seconds)

        def run() -> tuple[_T | None, BaseException | None]:
            try:
                with waited_for_by(waiter):
                    waiter.check()
                    return work(), None
            except BaseException as error:
                return None, error

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            waiter.leave()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            result, error = await anyio.to_thread.run_sync(run, limiter=self._limiter())
            group.cancel_scope.cancel()
        if error is not None:
            raise error
        return typing.cast(_T, result)

    async def _answered(
        self,
        route: Route,
        query_type: type[Any],
        request: Request,
        incoming: Incoming,
        *,
        is_page: bool,
    ) -> Response:
        """The answer. Raises StatusError alone."""
        try:
            return await self._answer(route, query_type, request, incoming, is_page=is_page)
        except StatusError:
            raise
        except GoneError:
            raise CancelledError("the request did not come to its end") from None
        except Exception as error:
            _LOGGER.error("%s failed", route.path, exc_info=error)
            raise _fault(route, error) from None

    async def _answer(
        self,
        route: Route,
        query_type: type[Any],
        request: Request,
        incoming: Incoming,
        *,
        is_page: bool,
    ) -> Response:
        # Checking a credential may read a file. Nobody else's body is waited for.
        principal = await anyio.to_thread.run_sync(
            self._let_in, route, request, incoming, limiter=self._limiter()
        )
        body = await self._body(request)
        end = self._begun(principal) if route.is_query else None
        try:
            found = await self.run(
                request,
                lambda: self._prepared(
                    route, query_type, request, principal, body, is_page=is_page
                ),
                route.seconds,
            )
            if isinstance(found, Response):
                return found
            (answer, headers), ended = found, end or self._begun(principal)
            end = None
            return InParts(answer, headers, self._serving.limits.stream_seconds, ended)
        finally:
            if end is not None:
                end()

    def _limiter(self) -> anyio.CapacityLimiter:
        # One belongs to the event loop that it is made in.
        if self._turns is None:
            self._turns = anyio.CapacityLimiter(self._serving.limits.answers_max)
        return self._turns

    def _begun(self, principal: Principal) -> Callable[[], None]:
        """Count a query or download that is begun; what is to be called once it has ended.

        Raises ResourceExhaustedError while as many run as may, or half of these are the caller's
        and others may call, too.
        """
        most, actor = self._serving.limits.queries_max, principal.actor
        own = max(1, most // 2) if isinstance(self._authenticator, SignedIn) else most
        if self._queries[actor] >= own or self._queries.total() >= most:
            whose = "of yours " if self._queries[actor] >= own and own < most else ""
            raise ResourceExhaustedError(
                f"{self._queries[actor] if whose else most} queries and downloads {whose}are "
                "running, and no more may: try again soon"
            )
        self._queries[actor] += 1

        def end() -> None:
            self._queries[actor] -= 1
            if not self._queries[actor]:
                del self._queries[actor]

        return end

    def _prepared(
        self,
        route: Route,
        query_type: type[Any],
        request: Request,
        principal: Principal,
        body: dict[str, Any] | None,
        *,
        is_page: bool,
    ) -> Response | tuple[Streamed, dict[str, str]]:
        """The response; or what is to be streamed, and the headers."""
        asked = self._asked(request, principal, _accepted(request, route), is_page=is_page)
        wanted = pinned(asked.moments)
        if wanted:
            return RedirectResponse(_address_with(request, wanted), 307)
        headers = {"cache-control": "private, no-cache", "vary": "Accept, Cookie, Authorization"}
        if route.kept and request.method in ("GET", "HEAD"):
            headers["etag"] = tag = _tag(asked, request)
            if tag in request.headers.get("if-none-match", "").split(", "):
                return Response(status_code=304, headers=headers)
        elif not route.kept:
            headers["cache-control"] = "no-store"
        query = query_of(query_type, request, body, strict=not is_page)
        try:
            answer = route.answer(asked, query)
        except NotFoundError:
            later = asked.moments.until
            if not is_page or later is None:
                raise
            # What has come since A is led to from pages as of B.
            return RedirectResponse(_address_at(request, later.position), 303)
        if isinstance(answer, Streamed):
            return answer, headers
        if isinstance(answer, Html):
            return Response(answer.text, answer.status, headers, _HTML)
        if isinstance(answer, Elsewhere):
            return RedirectResponse(answer.address, 303)
        content = _json(answer, asked.moments, exact=request.query_params.get("exact") == "1")
        return Response(content, 200, headers, _JSON)

    def _let_in(self, route: Route, request: Request, incoming: Incoming) -> Principal:
        """Who asks. Nobody is told of a store that they may not use."""
        incoming.principal = principal = self._authenticator.principal(request)
        name = self._store_name(request)
        roles, engine = principal.roles_in(name), self._serving.stores.get(name)
        if not roles or engine is None:
            raise PermissionDeniedError("there is no store here that you may use")
        incoming.caller = Caller(name, engine, roles, Attribution(principal.actor))
        if route.need not in roles:
            mine = ", ".join(role.value for role in Role if role in roles)
            raise PermissionDeniedError(
                f"{route.path} needs the role {route.need.value}, and you have {mine}"
            )
        return principal

    def _store_name(self, request: Request) -> str:
        name: str | None = request.path_params.get("store_name")
        return next(iter(self._serving.stores)) if name is None else name

    def _asked(
        self, request: Request, principal: Principal, accept: str, *, is_page: bool
    ) -> Asked:
        """What is asked for, and by whom."""
        key = self._store_name(request)
        engine = self._serving.stores[key]
        parameters = request.query_params
        name = request.path_params.get("store_name")
        prefix = "" if name is None else f"/stores/{name}"
        return Asked(
            engine,
            _moments(engine, parameters, None if is_page else parameters.get("cursor")),
            principal.roles_in(key),
            principal.actor,
            self._serving,
            name,
            prefix,
            request.scope["path"].removeprefix(prefix),
            parameters.multi_items(),
            accept,
            isinstance(self._authenticator, SignedIn)
            and self._authenticator.cookie_name in request.cookies,
        )

    async def _body(self, request: Request) -> dict[str, Any] | None:
        """The query in the body of a POST, None for any other request."""
        if request.method != "POST":
            return None
        if request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
            raise InvalidArgumentError(f"the body of a POST is {_JSON} here: say so")
        body = await body_of(request.receive, self._serving.limits.body_bytes_max)
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise InvalidArgumentError(f"the body is no JSON object: {error}") from None


@functools.cache
def types_of(handler: Callable[..., Any]) -> tuple[type[Any], Any]:
    """The struct that a handler takes for its query, and what it answers."""
    hints = typing.get_type_hints(handler, include_extras=True)
    names = [*inspect.signature(handler).parameters]
    return hints[names[1]] if len(names) > 1 else Nothing, hints["return"]


def query_of(
    query_type: type[Any], request: Request, body: dict[str, Any] | None, *, strict: bool
) -> Any:
    """The query of a request: of its path, its address and its body.

    Raises InvalidArgumentError for what cannot be converted, and, if strict, for what is not known.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(query_type)}
    given: dict[str, Any] = dict(body or {})
    for name in request.query_params:
        if name in fields and name not in given:
            values = request.query_params.getlist(name)
            _check_numbers(name, fields[name].type, values)
            given[name] = values if _is_list(fields[name].type) else values[-1]
        elif name not in fields and name not in OF_ALL and strict:
            raise InvalidArgumentError(
                f"{quoted(name)} is no parameter here: use {', '.join([*fields, *OF_ALL])}"
            )
    given |= {name: it for name, it in request.path_params.items() if name != "store_name"}
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise InvalidArgumentError(
            f"{quoted(unknown[0])} is no member here: use {', '.join(fields)}"
        )
    missing = [name for name, field in fields.items() if field.required and name not in given]
    if missing:
        raise InvalidArgumentError(f"{' and '.join(missing)} must be given")
    try:
        return msgspec.convert(given, query_type, strict=False)
    except msgspec.ValidationError as error:
        text = str(error)
        said, _, place = text.partition(" - at `$.")
        name = place.rstrip("`")
        told = f"{name} is {quoted(str(given.get(name)))}: {said}" if name in given else said
        raise InvalidArgumentError(told) from None


def _check_numbers(name: str, of: Any, values: Sequence[str]) -> None:
    """Refuse texts that are converted, and that nobody writes for a whole number: 1e3, 7.0."""
    if _alternatives(of) <= {int, types.NoneType}:
        for text in values:
            if not re.fullmatch(r"-?[0-9]+", text, re.ASCII):
                raise InvalidArgumentError(f"{name} is {quoted(text)}, and no whole number")


def _alternatives(of: Any) -> set[Any]:
    origin = typing.get_origin(of)
    if origin in (typing.Union, types.UnionType):
        return set[Any]().union(*map(_alternatives, typing.get_args(of)))
    return _alternatives(typing.get_args(of)[0]) if origin is typing.Annotated else {of}


def _is_list(of: Any) -> bool:
    origin = typing.get_origin(of)
    if origin in (typing.Union, types.UnionType):
        return any(map(_is_list, typing.get_args(of)))
    if origin is typing.Annotated:
        return _is_list(typing.get_args(of)[0])
    return origin in (list, tuple, set, frozenset) or of in (list, tuple)


def _json(answer: msgspec.Struct, moments: Moments, *, exact: bool) -> bytes:
    """An answer and its moments; if exact, whole numbers as texts."""
    told = {"at": plain(moments.at)}
    if moments.until is not None:
        told["until"] = plain(moments.until)
    told |= plain(answer)
    return _ENCODER.encode(_exact(told) if exact else told)


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _exact(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_exact(held) for held in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _moments(engine: Engine, parameters: QueryParams, cursor: str | None) -> Moments:
    """The moments that an address names; that of the page before where it has a cursor."""
    at = parameters.get("at")
    if cursor is None:
        return moments_of(engine, at, parameters.get("until"))
    position = position_of_cursor(cursor)
    found = moments_of(engine, str(position) if at is None else at, parameters.get("until"))
    if found.at.position != position:
        raise InvalidArgumentError(
            f"the cursor is of position {position}, and at is {found.at.position}: leave at out"
        )
    return found


def _tag(asked: Asked, request: Request) -> str:
    """Changes whenever the answer may: with the log, what is erased of it, and who asks."""
    log, moments = asked.engine.log, asked.moments
    parts = (
        *(__version__, log.store_id, log.content_epoch, moments.newest.position),
        *(request.url.path, request.url.query, asked.accept, asked.actor),
        sorted(role.value for role in asked.roles),
    )
    return f'W/"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def _accepted(request: Request, route: Route) -> str:
    """The media type of the route's own that is named first, "" for what it usually answers."""
    for part in request.headers.get("accept", "").split(","):
        name = part.partition(";")[0].strip().lower()
        if name in route.media_types:
            return name
    return ""


def _address_with(request: Request, wanted: dict[str, str]) -> str:
    pairs = [(name, wanted.get(name, value)) for name, value in request.query_params.multi_items()]
    return f"{request.url.path}?{urlencode(pairs)}"


def _length(request: Request) -> int:
    said = request.headers.get("content-length", "")
    return int(said) if said.isdecimal() else 0


def _address_at(request: Request, position: int) -> str:
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] not in ("at", "until")]
    return f"{request.url.path}?{urlencode([*pairs, ('at', position)])}"


def _fault(route: Route, error: Exception) -> InternalError:
    return InternalError(
        f"{route.path} failed in the server ({type(error).__name__}); its log says more"
    )
