"""The API's description in OpenAPI 3.1, made from the models and errors that the code uses.

    python -m veripost.openapi > functions/status/openapi.json      (`make openapi`)

The status function serves that file; a test compares it with what this module makes, and the routes named
here with those of the functions and of the template. Nothing imports this module at run time.
https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import veripost
from veripost import schemas
from veripost.api_key import Scope
from veripost.errors import (
    AppError,
    BundleFailed,
    InvalidFields,
    InvalidRequest,
    NotAZip,
    NotFound,
    PackageRefused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

type Schema = dict[str, Any]

_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Error:
    """One code that a route can answer with."""

    code: str
    status: HTTPStatus
    message: str
    detail: str | None = None


def _of(kind: type[AppError], status: HTTPStatus, detail: str | None = None) -> Error:
    return Error(kind.code, status, kind.message, detail)


_ERRORS: Final = (
    _of(InvalidRequest, HTTPStatus.BAD_REQUEST, "Invalid JSON: expected value at line 1 column 1"),
    _of(NotAZip, HTTPStatus.BAD_REQUEST, "the file begins with 'Rar!'"),
    _of(InvalidFields, HTTPStatus.UNPROCESSABLE_ENTITY, "limit: must be a whole number from 1 to 200"),
    Error(
        "forbidden_extension",
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "prog.NC is a file of a kind that does not belong into a package. And 1 more problem was found.",
        "the extension is .NC",
    ),
    _of(PackageRefused, HTTPStatus.UNPROCESSABLE_ENTITY),
    _of(Unauthenticated, HTTPStatus.UNAUTHORIZED),
    Error(
        "forbidden",
        HTTPStatus.FORBIDDEN,
        "This API key may not do that: it needs the scope “admin”.",
        "needs admin; the key has read",
    ),
    Error("key_not_found", HTTPStatus.NOT_FOUND, "There is no such key."),
    Error("package_not_found", HTTPStatus.NOT_FOUND, "There is no such package."),
    Error("examination_not_found", HTTPStatus.NOT_FOUND, "There is no such examination."),
    Error("file_not_found", HTTPStatus.NOT_FOUND, "There is no such file in this package."),
    Error("section_not_found", HTTPStatus.NOT_FOUND, "There is no such section."),
    Error("route_not_found", HTTPStatus.NOT_FOUND, NotFound.message, "/v1/nowhere"),
    Error("bundle_not_found", HTTPStatus.NOT_FOUND, "Nobody has asked for this package as a ZIP yet."),
    Error(
        "not_ready",
        HTTPStatus.CONFLICT,
        "Only a package that is ready can be downloaded as a whole.",
        "status parsing",
    ),
    _of(BundleFailed, HTTPStatus.CONFLICT, "packages/…/A.SRC is not in the store"),
    Error("file_missing", HTTPStatus.CONFLICT, "The file of this section is no longer in the store."),
    Error("not_uploaded", HTTPStatus.CONFLICT, "Nothing has been uploaded for this package yet."),
    Error(
        "package_busy",
        HTTPStatus.CONFLICT,
        "This package is being worked on. Please try again in a moment.",
        "a worker holds the job's lease",
    ),
    Error(
        "original_missing",
        HTTPStatus.CONFLICT,
        "The uploaded file is no longer in the store, so the package cannot be processed again.",
    ),
    _of(TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "5000000 bytes is above 4194304"),
    _of(UnsupportedMedia, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    Error(
        "throttled",
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests at once. Please try again in a moment.",
    ),
    _of(AppError, HTTPStatus.INTERNAL_SERVER_ERROR),
    _of(Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
ERRORS: Final = {error.code: error for error in _ERRORS}

# What any route can answer, and any route that needs a key.
WITH_A_KEY: Final = ("unauthenticated", "forbidden")
# The 404 is the gateway's, for verbs and paths that do not exist.
ALWAYS: Final = ("invalid_request", "route_not_found", "throttled", "internal_error", "unavailable")


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query string."""

    name: str
    schema: Schema
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Redirect:
    """A 302 to a short-lived URL of the bytes."""

    description: str


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: what it takes, and every answer that it can give."""

    method: str
    path: str
    summary: str
    tag: str
    scope: Scope | None
    answers: Mapping[HTTPStatus, type[BaseModel] | Redirect | None]
    errors: tuple[str, ...] = ()
    query: tuple[Query, ...] = ()
    body: type[BaseModel] | None = None
    body_is_optional: bool = False
    form: Schema | None = None
    conditional: bool = False  # it has an ETag, and answers 304 to whoever names it
    aliases: tuple[str, ...] = field(default=())


def _queries_of(model: type[BaseModel]) -> tuple[Query, ...]:
    """Return a model of a query string, parameter by parameter; none of them can say None there."""
    document = model.model_json_schema()
    found = []
    for name, declared in document["properties"].items():
        schema = next(each for each in declared.get("anyOf", [declared]) if each.get("type") != "null")
        schema = {key: value for key, value in schema.items() if key not in {"title", "description"}}
        if declared.get("default") is not None:
            schema["default"] = declared["default"]
        required = name in document.get("required", ())
        found.append(Query(name, schema, declared["description"], required))
    return tuple(found)


def _limit(most: int, default: int) -> Query:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Query("limit", schema, "how many on a page")


_LIMIT: Final = _limit(200, 50)
_CURSOR: Final = Query("cursor", {"type": "string"}, "`next_cursor` of an earlier page, exactly as it was")
_CONDITIONAL_HEADERS: Final[Schema] = {
    "ETag": {"schema": {"type": "string"}, "required": True},
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 1, "maximum": 5},
        "description": "seconds until it makes sense to ask again; absent once the state is final",
    },
}
_PAGE: Final = (_LIMIT, _CURSOR)
_UPLOAD: Final[Schema] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "contentMediaType": "application/zip", "description": "at most 4 MiB"},
        "platform": {"type": "string", "default": "camworks"},
    },
}
_PACKAGE: Final = ("package_not_found",)

ROUTES: Final = (
    Route(
        "GET",
        "/v1/health",
        "Whether every part answers",
        "service",
        None,
        {HTTPStatus.OK: schemas.Health, HTTPStatus.SERVICE_UNAVAILABLE: schemas.Health},
    ),
    Route("GET", "/v1/openapi.json", "This description", "service", None, {HTTPStatus.OK: None}),
    Route("GET", "/v1/docs", "This description, as a page", "service", None, {HTTPStatus.OK: None}),
    Route(
        "POST",
        "/v1/packages",
        "Announce a package and get a form to upload it with",
        "packages",
        Scope.WRITE,
        {HTTPStatus.ACCEPTED: schemas.AcceptedWithForm, HTTPStatus.OK: schemas.Duplicate},
        errors=("invalid_fields", "package_refused", "too_large"),
        query=_queries_of(schemas.HowToStore),
        body=schemas.CreatePackage,
    ),
    Route(
        "POST",
        "/v1/packages/upload",
        "Upload a package of at most 4 MiB in one call",
        "packages",
        Scope.WRITE,
        {HTTPStatus.ACCEPTED: schemas.Accepted, HTTPStatus.OK: schemas.Duplicate},
        errors=("not_a_zip", "invalid_fields", "forbidden_extension", "too_large", "unsupported_media_type"),
        query=_queries_of(schemas.HowToStore),
        form=_UPLOAD,
        aliases=("/v1/posts/upload",),
    ),
    Route(
        "POST",
        "/v1/packages/check",
        "Judge a list of names and sizes before anything is uploaded",
        "packages",
        Scope.WRITE,
        {HTTPStatus.OK: schemas.CheckView},
        errors=("invalid_fields", "too_large"),
        body=schemas.CheckPackage,
    ),
    Route(
        "GET",
        "/v1/packages",
        "List packages",
        "packages",
        Scope.READ,
        {HTTPStatus.OK: schemas.PackageList},
        errors=("invalid_fields",),
        query=(*_queries_of(schemas.FindPackages), *_PAGE),
        aliases=("/v1/posts",),
    ),
    Route(
        "GET",
        "/v1/packages/{id}",
        "One package with its first files, findings and jobs",
        "packages",
        Scope.READ,
        {HTTPStatus.OK: schemas.PackageDetail},
        errors=_PACKAGE,
        conditional=True,
        aliases=("/v1/posts/{id}",),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/status",
        "How far a package is",
        "packages",
        Scope.READ,
        {HTTPStatus.OK: schemas.StatusView},
        errors=("invalid_fields", *_PACKAGE),
        query=(
            Query(
                "wait",
                {"type": "integer", "minimum": 0, "maximum": 20, "default": 0},
                "seconds to wait for the end, or for anything that `If-None-Match` does not know",
            ),
        ),
        conditional=True,
    ),
    Route(
        "GET",
        "/v1/keys",
        "List API keys",
        "keys",
        Scope.ADMIN,
        {HTTPStatus.OK: schemas.KeyList},
        errors=("invalid_fields",),
        query=_PAGE,
    ),
    Route(
        "POST",
        "/v1/keys",
        "Make an API key, which this answer shows once",
        "keys",
        Scope.ADMIN,
        {HTTPStatus.CREATED: schemas.MintedKey},
        errors=("invalid_fields", "too_large"),
        body=schemas.CreateKey,
    ),
    Route(
        "DELETE",
        "/v1/keys/{id}",
        "Revoke an API key",
        "keys",
        Scope.ADMIN,
        {HTTPStatus.NO_CONTENT: None},
        errors=("key_not_found",),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/files",
        "All files of a package, by name",
        "files",
        Scope.READ,
        {HTTPStatus.OK: schemas.FileList},
        errors=("invalid_fields", *_PACKAGE),
        query=_PAGE,
    ),
    Route(
        "GET",
        "/v1/packages/{id}/problems",
        "All findings in a package",
        "packages",
        Scope.READ,
        {HTTPStatus.OK: schemas.ProblemList},
        errors=("invalid_fields", *_PACKAGE),
        query=_PAGE,
    ),
    Route(
        "GET",
        "/v1/packages/{id}/files/{file_id}/download",
        "The identical bytes of one file",
        "files",
        Scope.READ,
        {HTTPStatus.FOUND: Redirect("the file, for a few minutes")},
        errors=("file_not_found", *_PACKAGE),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/archive",
        "The original archive, exactly as it landed",
        "files",
        Scope.READ,
        {HTTPStatus.FOUND: Redirect("the archive, for a few minutes")},
        errors=("not_uploaded", *_PACKAGE),
    ),
    Route(
        "POST",
        "/v1/packages/{id}/bundle",
        "Have a package put together as one fresh ZIP",
        "files",
        Scope.READ,
        {HTTPStatus.ACCEPTED: schemas.BundleView},
        errors=("not_ready", *_PACKAGE),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/bundle",
        "All files of a package in one ZIP, once it is built",
        "files",
        Scope.READ,
        {
            HTTPStatus.FOUND: Redirect("the ZIP, for a few minutes"),
            HTTPStatus.ACCEPTED: schemas.BundleView,
        },
        errors=("bundle_not_found", "bundle_failed", "not_ready", *_PACKAGE),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/sections",
        "All sections of a package, in their order",
        "contents",
        Scope.READ,
        {HTTPStatus.OK: schemas.SectionList},
        errors=("invalid_fields", *_PACKAGE),
        query=(*_queries_of(schemas.FindByName), *_PAGE),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/sections/{section_id}",
        "One section with its lines",
        "contents",
        Scope.READ,
        {HTTPStatus.OK: schemas.SectionDetail},
        errors=("section_not_found", "file_missing", *_PACKAGE),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/attributes",
        "What a package's files state, in their order",
        "contents",
        Scope.READ,
        {HTTPStatus.OK: schemas.AttributeList},
        errors=("invalid_fields", *_PACKAGE),
        query=(*_queries_of(schemas.FindByName), _limit(100, 50), _CURSOR),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/similar",
        "The packages whose sections are most alike",
        "contents",
        Scope.READ,
        {HTTPStatus.OK: schemas.SimilarList},
        errors=("invalid_fields", *_PACKAGE),
        query=(_limit(50, 10),),
    ),
    Route(
        "GET",
        "/v1/packages/{id}/diff/{other_id}",
        "What differs between two packages",
        "contents",
        Scope.READ,
        {HTTPStatus.OK: schemas.Comparison},
        errors=("invalid_fields", "section_not_found", "not_ready", "file_missing", *_PACKAGE),
        query=(*_queries_of(schemas.Compare), *_PAGE),
    ),
    Route(
        "GET",
        "/v1/search",
        "Find packages, sections and attributes by their names",
        "contents",
        Scope.READ,
        {HTTPStatus.OK: schemas.HitList},
        errors=("invalid_fields",),
        query=(*_queries_of(schemas.Search), *_PAGE),
    ),
    Route(
        "DELETE",
        "/v1/packages/{id}",
        "Delete a package, its files and its original",
        "packages",
        Scope.WRITE,
        {HTTPStatus.NO_CONTENT: None, HTTPStatus.ACCEPTED: schemas.DeletionView},
        errors=("package_busy", *_PACKAGE),
    ),
    Route(
        "POST",
        "/v1/packages/{id}/replay",
        "Process the kept original of a package again",
        "packages",
        Scope.WRITE,
        {HTTPStatus.ACCEPTED: schemas.Accepted},
        errors=("package_busy", "original_missing", *_PACKAGE),
    ),
    Route(
        "POST",
        "/v1/replays",
        "Process the kept originals of many packages again",
        "packages",
        Scope.ADMIN,
        {HTTPStatus.ACCEPTED: schemas.Replays},
        errors=("invalid_fields", "too_large"),
        body=schemas.ReplayMany,
    ),
    Route(
        "POST",
        "/v1/doctor",
        "Have the store and the records compared",
        "service",
        Scope.ADMIN,
        {HTTPStatus.ACCEPTED: schemas.DoctorAccepted},
        errors=("invalid_fields",),
        body=schemas.OrderDoctor,
        body_is_optional=True,
    ),
    Route(
        "GET",
        "/v1/doctor/{id}",
        "What a comparison has found so far",
        "service",
        Scope.ADMIN,
        {HTTPStatus.OK: schemas.DoctorView},
        errors=("examination_not_found",),
    ),
)


def document() -> Schema:
    """Return the whole description."""
    models = {model for route in ROUTES for model in _models_of(route)} | {schemas.ErrorBody}
    inputs = {route.body for route in ROUTES if route.body is not None}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation" if model in inputs else "serialization") for model in ordered],
        ref_template=_REF,
    )
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "VeriPost",
            "version": veripost.__version__,
            "summary": "Packages of vendor files, verified, recorded and served byte for byte.",
            "license": {"name": "See LICENSE", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "..", "description": "the stage that served this file"}],
        "paths": dict(_paths()),
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def _models_of(route: Route) -> Iterator[type[BaseModel]]:
    if route.body is not None:
        yield route.body
    for answer in route.answers.values():
        if isinstance(answer, type):
            yield answer


def _paths() -> Iterator[tuple[str, Schema]]:
    found: dict[str, Schema] = {}
    for route in ROUTES:
        for path in (route.path, *route.aliases):
            item = found.setdefault(path, {})
            item[route.method.lower()] = _operation(route, path)
    yield from sorted(found.items())


def _operation(route: Route, path: str) -> Schema:
    operation: Schema = {
        "operationId": _operation_id(route.method, path),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*_path_parameters(path), *(_query_parameter(each) for each in route.query)],
        "responses": {str(status.value): answer for status, answer in sorted(_answers(route).items())},
    }
    if route.scope is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = f"Needs a key with the scope `{route.scope}`."
    if route.conditional:
        operation["parameters"].append(
            {
                "name": "If-None-Match",
                "in": "header",
                "schema": {"type": "string"},
                "description": "the `ETag` of an earlier answer",
            }
        )
        operation["responses"]["200"]["headers"] = _CONDITIONAL_HEADERS
        operation["responses"]["304"] = {
            "description": "Nothing has changed.",
            "headers": _CONDITIONAL_HEADERS,
        }
    if route.body is not None:
        schema = {"$ref": _REF.format(model=route.body.__name__)}
        operation["requestBody"] = {
            "required": not route.body_is_optional,
            "content": {_JSON: {"schema": schema}},
        }
    if route.form is not None:
        content = {"multipart/form-data": {"schema": route.form}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _operation_id(method: str, path: str) -> str:
    words = [part.strip("{}").replace(".", "_") for part in path.split("/")[2:]]
    return "_".join([method.lower(), *words])


def _path_parameters(path: str) -> Iterator[Schema]:
    for part in path.split("/"):
        if part.startswith("{"):
            yield {
                "name": part.strip("{}"),
                "in": "path",
                "required": True,
                "schema": {"type": "string", "format": "uuid"},
            }


def _query_parameter(query: Query) -> Schema:
    return {
        "name": query.name,
        "in": "query",
        "required": query.required,
        "schema": query.schema,
        "description": query.description,
    }


def _answers(route: Route) -> dict[HTTPStatus, Schema]:
    answers = {status: _answer(route, status, given) for status, given in route.answers.items()}
    by_status: dict[HTTPStatus, list[Error]] = {}
    codes = (*route.errors, *(WITH_A_KEY if route.scope else ()), *ALWAYS)
    for code in dict.fromkeys(codes):
        by_status.setdefault(ERRORS[code].status, []).append(ERRORS[code])
    for status, errors in by_status.items():
        if status not in answers:
            answers[status] = _error_answer(status, errors)
    return answers


def _answer(route: Route, status: HTTPStatus, given: type[BaseModel] | Redirect | None) -> Schema:
    if isinstance(given, Redirect):
        location = {"schema": {"type": "string", "format": "uri"}, "required": True}
        return {
            "description": given.description,
            "headers": {"Location": location},
            "content": {_JSON: {"schema": {"type": "object"}}},
        }
    if given is not None:
        schema: Schema = {"$ref": _REF.format(model=given.__name__)}
        return {"description": status.phrase, "content": {_JSON: {"schema": schema}}}
    if status is HTTPStatus.NO_CONTENT:
        return {"description": status.phrase}
    page = {"text/html": {"schema": {"type": "string"}}}
    description = {_JSON: {"schema": {"type": "object"}}}
    return {"description": status.phrase, "content": page if route.path.endswith("/docs") else description}


def _error_answer(status: HTTPStatus, errors: list[Error]) -> Schema:
    examples = {
        error.code: {
            "value": {
                "code": error.code,
                "message": error.message,
                "detail": error.detail,
                "request_id": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            }
        }
        for error in errors
    }
    schema = {"$ref": _REF.format(model=schemas.ErrorBody.__name__)}
    return {"description": status.phrase, "content": {_JSON: {"schema": schema, "examples": examples}}}


def text() -> str:
    """Return the description as it is committed and served."""
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
