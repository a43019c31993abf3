"""Puts the API, the pages and their guard together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.routing import Route as Address

from eventstore.errors import NotFoundError, StatusError, UnimplementedError
from eventstore.http_api import (
    compare_routes,
    filter_routes,
    lineage,
    log_routes,
    node_routes,
    proofs,
    query_routes,
    rule_routes,
    store,
    verification_routes,
)
from eventstore.http_api.answering import API, Answering, ShowProblem
from eventstore.http_api.authentication import Authenticator
from eventstore.http_api.openapi import description
from eventstore.http_api.routes import Html, Route
from eventstore.http_api.security import Guard
from eventstore.http_api.serving import Serving
from eventstore.http_api.sign_in_routes import ShowForm, sign_in_routes
from eventstore.server.observing import Observer

API_ROUTES: Final[Sequence[Route]] = (
    # Before those that have a name in their place.
    *lineage.ROUTES,
    *filter_routes.ROUTES,
    *compare_routes.ROUTES,
    *log_routes.ROUTES,
    *node_routes.ROUTES,
    *proofs.ROUTES,
    *query_routes.ROUTES,
    *rule_routes.ROUTES,
    *store.ROUTES,
    *verification_routes.ROUTES,
)
"""All of the API. A module's are added here."""

_LEAST_TO_COMPRESS: Final = 1_000
_SHOWN: Final = 200


class Pages(msgspec.Struct, frozen=True):
    """HTML beside the API: pages, what shows errors, forms and stores, and the files they load."""

    routes: Sequence[Route]
    show_problem: ShowProblem
    show_form: ShowForm
    show_stores: Callable[[Sequence[str]], Html]
    files: Sequence[BaseRoute]


def make_application(
    serving: Serving,
    authenticator: Authenticator,
    pages: Pages | None = None,
    observers: Sequence[Observer] = (),
) -> Starlette:
    """The API over some stores, and pages if they are given, behind an authenticator.

    One store is at `/`, several are at `/stores/NAME`. Observers are told of each request to one.
    """
    answering = Answering(
        serving, authenticator, None if pages is None else pages.show_problem, observers
    )
    has_pages = pages is not None

    def tell(request: Request, error: StatusError) -> Response:
        return answering.problem(request, error, is_page=has_pages)

    routes = [*sign_in_routes(authenticator, pages.show_form if pages is not None else None, tell)]
    if pages is not None:
        routes += pages.files
    of_a_store = _addresses(answering, pages)
    if len(serving.stores) == 1:
        routes += of_a_store
    else:
        if pages is not None:
            routes.append(Address("/", answering.home(pages.show_stores)))
        routes.append(Mount("/stores/{store_name}", routes=of_a_store))

    def otherwise(request: Request, error: Exception) -> Response:
        is_page = has_pages and f"{API}/" not in request.url.path
        found, status = _plain(request, error, has_several=len(serving.stores) > 1)
        return answering.problem(request, found, is_page=is_page, status=status)

    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, serving.hosts, serving.proxies),
            Middleware(GZipMiddleware, minimum_size=_LEAST_TO_COMPRESS, compresslevel=5),
        ],
        exception_handlers={404: otherwise, 405: otherwise},
    )


def _addresses(answering: Answering, pages: Pages | None) -> list[BaseRoute]:
    document = description(API_ROUTES)

    async def openapi(request: Request) -> Response:
        of_a_store = request.url.path.removesuffix("/openapi.json")
        told = msgspec.json.encode(document | {"servers": [{"url": of_a_store}]})
        return Response(told, media_type="application/json")

    found: list[BaseRoute] = [
        Address(f"{API}{route.path}", answering.endpoint(route), methods=route.methods)
        for route in API_ROUTES
    ]
    found.append(Address(f"{API}/openapi.json", openapi))
    if pages is not None:
        found += [
            Address(route.path, answering.endpoint(route, is_page=True), methods=route.methods)
            for route in pages.routes
        ]
    return found


def _plain(request: Request, error: Exception, *, has_several: bool) -> tuple[StatusError, int]:
    """What Starlette has refused, and the status."""
    status = getattr(error, "status_code", 404)
    if status == 405:
        told = f"{request.method} is not answered at {request.url.path}: nothing is written here"
        return UnimplementedError(told), status
    where, (of_a_store, is_api, _) = "", request.url.path.partition(f"{API}/")
    if is_api and has_several and not of_a_store:
        where = f"; there are several stores here: ask /stores/NAME{API}"
    elif is_api:
        where = f"; {of_a_store[:_SHOWN]}{API}/openapi.json says what there is"
    return NotFoundError(f"nothing is at {request.url.path[:_SHOWN]}{where}"), status
