"""The description of the API as OpenAPI 3.1, made of its routes and their structs."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from eventstore.http_api.answering import types_of
from eventstore.http_api.problems import MEDIA_TYPE, Problem
from eventstore.http_api.request_moment import At
from eventstore.http_api.routes import Route, Streamed
from eventstore.version import __version__

_REFERENCE: Final = "#/components/schemas/{name}"
_MOMENT: Final = (
    "A position, an ISO time with its zone, or absent for now. A time is redirected to the "
    "position that it stands for."
)
_ABOUT: Final = (
    "Reads a store as of any moment: what is in it, how it came about, and who put it. Nothing "
    "here writes to it. Errors are `application/problem+json`."
)
_SIGNING_IN: Final = (
    "A token, which `eventstore token` makes: scripts send it as `Authorization: Bearer TOKEN`. A "
    "server that asks nobody takes any text as one. `eventstore ui` answers its browser alone: "
    "for scripts, start `eventstore serve STORE --http=PORT`."
)
_OF_ALL: Final[list[dict[str, Any]]] = [
    {"name": "at", "in": "query", "schema": {"type": "string"}, "description": _MOMENT},
    {
        "name": "until",
        "in": "query",
        "schema": {"type": "string"},
        "description": "The second of two moments; `now` is the newest position.",
    },
    {
        "name": "exact",
        "in": "query",
        "schema": {"type": "integer", "enum": [0, 1]},
        "description": "1: whole numbers are texts, as JavaScript's are exact up to 2^53 alone.",
    },
]


def description(routes: Sequence[Route]) -> dict[str, Any]:
    """The document, but for the servers, which are where it is asked for."""
    answers = [_told(types_of(route.answer)[1]) for route in routes]
    structs = [one for one in answers if _is_struct(one)]
    queries = [types_of(route.answer)[0] for route in routes]
    found, components = msgspec.json.schema_components(
        [At, Problem, *structs, *queries], ref_template=_REFERENCE
    )
    schemas = dict(zip([At, Problem, *structs, *queries], found, strict=True))
    components = {name: _with_nan(schema) for name, schema in components.items()}
    paths: dict[str, Any] = {}
    for route in routes:
        path = paths.setdefault(re.sub(r":\w+}", "}", route.path), {})
        path.update(_path(route, schemas, components))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "eventstore",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": _SIGNING_IN}
            },
        },
    }


def _path(
    route: Route, schemas: Mapping[Any, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    query_type, answer_type = types_of(route.answer)
    answer_type = _told(answer_type)
    said = inspect.getdoc(route.answer) or ""
    operation = {
        "operationId": route.answer.__name__,
        "summary": said.partition("\n")[0],
        "description": said,
        "responses": {
            "200": {"description": "The answer.", "content": _content(route, answer_type, schemas)},
            "304": {"description": "It is as the reader has it (If-None-Match)."},
            "307": {"description": "The same as of the position that a time stands for."},
            "default": {
                "description": "What went wrong.",
                "content": {MEDIA_TYPE: {"schema": schemas[Problem]}},
            },
        },
    }
    query = components[query_type.__name__]
    in_path = re.findall(r"{(\w+)(?::\w+)?}", route.path)
    parameters = [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in query.get("required", ()),
            "schema": schema,
        }
        for name, schema in query["properties"].items()
    ]
    path: dict[str, Any] = {}
    if "GET" in route.methods:
        path["get"] = {**operation, "parameters": [*parameters, *_OF_ALL]}
    if "POST" in route.methods:
        path["post"] = {
            **operation,
            "operationId": f"{route.answer.__name__}{'_posted' if 'GET' in route.methods else ''}",
            "parameters": _OF_ALL,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schemas[query_type]}},
            },
        }
    return path


def _content(route: Route, answer_type: Any, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {name: {"schema": {}} for name in route.media_types}
    if _is_struct(answer_type):
        moments = {
            "type": "object",
            "properties": {"at": schemas[At], "until": schemas[At]},
            "required": ["at"],
        }
        content["application/json"] = {"schema": {"allOf": [moments, schemas[answer_type]]}}
    return content


def _with_nan(schema: Any) -> Any:
    """The same, with the texts that `plain_json` has for what JSON has no number for."""
    if isinstance(schema, list):
        return [_with_nan(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "number":
        return {"anyOf": [schema, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    return {name: _with_nan(held) for name, held in schema.items()}


def _told(answer: Any) -> Any:
    """What is told as JSON, of an answer that may be streamed instead."""
    told = [one for one in typing.get_args(answer) if one is not Streamed]
    return told[0] if told else answer


def _is_struct(one: Any) -> bool:
    return isinstance(one, type) and issubclass(one, msgspec.Struct) and one is not Streamed
