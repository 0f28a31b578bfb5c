"""HTTP: one resolver per function, one door-keeper, one place that maps errors to answers, one line of log
per request.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.exceptions import ServiceError
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from veripost import db, telemetry
from veripost.api_key import Scope
from veripost.authentication import Caller, get_authenticator
from veripost.errors import (
    AppError,
    Conflict,
    Forbidden,
    InvalidFields,
    InvalidRequest,
    NotFound,
    PackageRefused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
    printable,
)
from veripost.schemas import PROBLEMS_SHOWN, ErrorBody, problems_of
from veripost.settings import Settings
from veripost.telemetry import logger

if TYPE_CHECKING:
    from python_multipart.multipart import Field, File

Answer = Response[Any]
_JSON = "application/json"
_BODY_BYTES = 1 << 20  # of a JSON body; files come as forms

# What anybody may read; every other route declares with `needs` which scope it asks of a key.
OPEN_PATHS = frozenset({"/v1/health", "/v1/openapi.json", "/v1/docs"})
_needed: dict[Callable[..., Any], Scope] = {}

# The first class that matches wins; what matches none is our own mistake.
_STATUS: tuple[tuple[type[AppError], HTTPStatus], ...] = (
    (InvalidRequest, HTTPStatus.BAD_REQUEST),
    (InvalidFields, HTTPStatus.UNPROCESSABLE_ENTITY),
    (PackageRefused, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedMedia, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)


def make_handler(
    router: Router, get_settings: Callable[[], Settings]
) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Return the Lambda handler that serves `router`; it reads the settings at its first request."""
    made: list[tuple[Settings, APIGatewayRestResolver]] = []

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        settings = get_settings()
        if not made or made[0][0] is not settings:
            telemetry.configure(
                level=settings.log_level, as_json=settings.log_json, environment=settings.environment
            )
            made[:] = [(settings, _resolver(router, settings))]
        started = time.perf_counter()
        # `client` is filled in once the key is known, so that the last line of a request has it, too.
        with logger.append_context_keys(request_id=_request_id(event), client=None, **_package_in(event)):
            answer: dict[str, Any] = made[0][1].resolve(event, context)
            logger.info(
                "request",
                extra={
                    "method": event.get("httpMethod"),
                    "route": event.get("resource"),
                    "status": answer["statusCode"],
                    "milliseconds": round((time.perf_counter() - started) * 1000, 1),
                },
            )
        return answer

    return handler


def needs[Route: Callable[..., Answer]](scope: Scope) -> Callable[[Route], Route]:
    """Declare that a route is for keys with `scope`. One that declares nothing is a 404 to everybody."""

    def declare(route: Route) -> Route:
        _needed[route] = scope
        return route

    return declare


def caller(router: Router) -> Caller:
    """Return whose key this request came with."""
    found: Caller = router.context["caller"]
    return found


def answer(model: BaseModel, status: HTTPStatus = HTTPStatus.OK, *, retry_after: int | None = None) -> Answer:
    """Return `model` as JSON; `retry_after` is in seconds."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Response(status_code=status, content_type=_JSON, body=model.model_dump_json(), headers=headers)


def description(text: str) -> Answer:
    """Return the API's description, a JSON text."""
    return Response(
        status_code=HTTPStatus.OK,
        content_type=_JSON,
        body=text,
        headers={"Cache-Control": "public, max-age=300"},
    )


def description_page(text: str) -> Answer:
    """Return the API's description as a page to read and to try; it loads nothing from elsewhere."""
    # Its scripts are 1.7 MB that no other request needs.
    from aws_lambda_powertools.event_handler.openapi import swagger_ui

    files = Path(swagger_ui.__file__).parent
    page = swagger_ui.generate_swagger_html(
        text,
        (files / "swagger-ui-bundle.min.js").read_text(),
        (files / "swagger-ui.min.css").read_text(),
        swagger_base_url="",
        oauth2_config=None,
    )
    headers = {
        "Cache-Control": "public, max-age=300",
        "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline';"
        " style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    }
    return Response(status_code=HTTPStatus.OK, content_type="text/html", body=page, headers=headers)


def unless_known(router: Router, model: BaseModel, *, retry_after: int | None) -> Answer:
    """Return `model` as JSON with a strong ETag, or 304 if the client has that very document already.

    https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2. `retry_after` is in seconds; None leaves it out.
    """
    document = model.model_dump_json()
    tag = _etag(document)
    headers: dict[str, Any] = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if _is_known(router, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(status_code=HTTPStatus.OK, content_type=_JSON, body=document, headers=headers)


def is_news(router: Router) -> Callable[[BaseModel], bool]:
    """Return a function that tells whether a document differs from the one that the client names by ETag.

    To a client that names none, nothing is.
    """
    if not _header(router.current_event.headers, "If-None-Match"):
        return lambda _model: False
    return lambda model: not _is_known(router, _etag(model.model_dump_json()))


def _etag(document: str) -> str:
    return f'"{hashlib.sha256(document.encode()).hexdigest()[:32]}"'


def _is_known(router: Router, tag: str) -> bool:
    named = _header(router.current_event.headers, "If-None-Match")
    tags = [each.strip().removeprefix("W/") for each in named.split(",")]
    return "*" in tags or tag in tags


def secret(model: BaseModel, status: HTTPStatus) -> Answer:
    """Return `model` as JSON that nobody on the way may keep."""
    return Response(
        status_code=status,
        content_type=_JSON,
        body=model.model_dump_json(),
        headers={"Cache-Control": "no-store"},
    )


def no_content() -> Answer:
    """Return 204: it is done, and there is nothing to tell."""
    return Response(status_code=HTTPStatus.NO_CONTENT)


def redirect(url: str) -> Answer:
    """Return a redirect that no cache may keep: the URL it names is short-lived."""
    return Response(
        status_code=HTTPStatus.FOUND,
        content_type=_JSON,
        body="{}",
        headers={"Location": url, "Cache-Control": "no-store"},
    )


# -- reading requests


def identifier(text: str, *, kind: str = "package") -> UUID:
    """Return the id in a path; one that is no UUID names nothing, so it is a 404 like any unknown id."""
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound(
            f"There is no such {kind}.", code=f"{kind}_not_found", detail=f"{kind} id is not a UUID"
        ) from error


def body[Model: BaseModel](router: Router, model: type[Model]) -> Model:
    """Return the request's JSON body as `model`.

    Raises
    ------
    TooLarge
        The body is larger than 1 MiB.
    InvalidRequest
        The body is not JSON.
    InvalidFields
        It is, but its fields are not what `model` asks for; `detail` names each.
    """
    raw = _raw_body(router)
    if len(raw) > _BODY_BYTES:
        raise TooLarge(
            "The body of the request is larger than 1 MiB.", detail=f"{len(raw)} bytes, at most {_BODY_BYTES}"
        )
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise InvalidRequest("The body of the request is not JSON.", detail=first["msg"]) from error
        raise _invalid_fields(error) from error


def query[Model: BaseModel](router: Router, model: type[Model], *, besides: Collection[str] = ()) -> Model:
    """Return the query string as `model`, `besides` those parameters that are read elsewhere.

    Raises
    ------
    InvalidFields
        A parameter holds a value that is not allowed, is there twice, or is not known.
    """
    event = router.current_event
    given: Mapping[str, str] = event.query_string_parameters or {}
    all_of_them: Mapping[str, list[str]] = event.get("multiValueQueryStringParameters") or {}
    twice = sorted(name for name, values in all_of_them.items() if len(values) > 1)
    if twice:  # which of them is meant, nobody knows
        raise InvalidFields(detail=f"given more than once: {', '.join(twice)}")
    try:
        return model.model_validate({name: text for name, text in given.items() if name not in besides})
    except ValidationError as error:
        raise _invalid_fields(error) from error


def _invalid_fields(error: ValidationError) -> InvalidFields:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    named = (f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}" for fault in faults)
    return InvalidFields(detail="; ".join(named))


def optional_body[Model: BaseModel](router: Router, model: type[Model]) -> Model:
    """Return the request's JSON body as `model`, or its defaults without a body. Raises as `body`."""
    return body(router, model) if router.current_event.body else model()


def page_of(router: Router, *, default: int = 50, most: int = 200) -> tuple[int, str | None]:
    """Return `limit` and `cursor` of the query string. Raises `InvalidFields`."""
    query: Mapping[str, str] = router.current_event.query_string_parameters or {}
    text = query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidFields(detail=f"limit: must be a whole number from 1 to {most}")
    return int(text), query.get("cursor")


def wait_of(router: Router, *, most: int = 20) -> int:
    """Return `wait` of the query string, in seconds: 0 without. Raises `InvalidFields`."""
    query: Mapping[str, str] = router.current_event.query_string_parameters or {}
    text = query.get("wait", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise InvalidFields(detail=f"wait: must be a whole number of seconds from 0 to {most}")
    return int(text)


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file that came in a form, and the form's other fields."""

    filename: str
    data: bytes
    fields: Mapping[str, str]


def uploaded_file(router: Router) -> UploadedFile:
    """Return the part `file` of a multipart/form-data body (RFC 7578).

    Raises
    ------
    UnsupportedMedia
        The body is not multipart/form-data.
    InvalidRequest
        It cannot be parsed, or has no part `file`.
    """
    # Only one function reads forms; the others do not pay for the parser.
    from python_multipart import parse_form
    from python_multipart.exceptions import FormParserError

    content_type = _header(router.current_event.headers, "Content-Type")
    if not content_type.casefold().startswith("multipart/form-data"):
        raise UnsupportedMedia(
            "Send the ZIP as a form with a part called file (curl -F file=@package.zip).",
            detail=f"Content-Type is {content_type or '(none)'}, not multipart/form-data",
        )
    fields: dict[str, str] = {}
    files: dict[str, File] = {}

    def on_field(part: Field) -> None:
        fields[_text(part.field_name)] = _text(part.value)

    def on_file(part: File) -> None:
        name = _text(part.field_name)
        if name in files:
            part.close()
            raise InvalidRequest("The form has more than one part called file.", detail=f"part {name} twice")
        files[name] = part

    try:
        parse_form({"Content-Type": content_type.encode()}, io.BytesIO(_raw_body(router)), on_field, on_file)
    except (FormParserError, UnicodeDecodeError) as error:
        _close(files)
        raise InvalidRequest("The form could not be read.", detail=str(error)) from error
    except InvalidRequest:
        _close(files)
        raise
    try:
        if "file" not in files:
            raise InvalidRequest(
                "The form has no part called file.",
                detail=f"parts: {', '.join([*fields, *files]) or '(none)'}",
            )
        stream = files["file"].file_object
        stream.seek(0)
        filename = (files["file"].file_name or b"archive.zip").decode("utf-8", errors="replace")
        return UploadedFile(printable(filename), stream.read(), fields)
    finally:
        _close(files)


def _close(files: Mapping[str, File]) -> None:
    for file in files.values():
        file.close()


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8")


def _raw_body(router: Router) -> bytes:
    event = router.current_event
    text = event.body or ""
    if not event.is_base64_encoded:
        return text.encode("utf-8")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is one
        raise InvalidRequest("The body of the request could not be decoded.", detail=str(error)) from error


def _header(headers: Mapping[str, str] | None, name: str) -> str:
    """Return a request's header, whatever the case of its name; empty if it is not there."""
    wanted = name.casefold()
    return next((value for key, value in (headers or {}).items() if key.casefold() == wanted), "")


# -- the door


def _door_keeper(settings: Settings) -> Callable[[Any, Callable[..., Answer]], Answer]:
    """Return the middleware that lets a request through to its route, or refuses it."""

    def keep(app: Any, next_middleware: Callable[..., Answer]) -> Answer:
        event, route = app.current_event, app.context["_route"]
        # A browser asks first without a key; what it then may do is decided when it does it.
        if event.http_method == "OPTIONS" or route.path in OPEN_PATHS:
            return next_middleware(app)
        scope = _needed.get(route.func)
        if scope is None:
            raise NotFound(code="route_not_found", detail=event.path)
        key = _header(event.headers, settings.api_key_header)
        who = get_authenticator(settings).authenticate(key)
        logger.append_keys(client=who.client_name)
        who.require(scope)
        app.append_context(caller=who)
        return next_middleware(app)

    return keep


# -- errors


def _request_id(event: Mapping[str, Any]) -> str | None:
    return (event.get("requestContext") or {}).get("requestId")


def _package_in(event: Mapping[str, Any]) -> dict[str, str]:
    package_id = (event.get("pathParameters") or {}).get("id")
    return {"package_id": printable(package_id)} if package_id else {}


def _resolver(router: Router, settings: Settings) -> APIGatewayRestResolver:
    cors = None
    if settings.cors_origins:
        first, *others = settings.cors_origins
        cors = CORSConfig(
            allow_origin=first,
            extra_origins=others,
            allow_headers=["Content-Type", "If-None-Match", settings.api_key_header],
            expose_headers=["ETag", "Retry-After"],
            max_age=600,
        )
    app = APIGatewayRestResolver(cors=cors)
    app.include_router(router)
    app.use([_door_keeper(settings)])

    # A browser's preflight is answered here for every path, and must name the verbs of other functions too.
    # It has a variable because Powertools tries paths without one first, and this must come last. It declares
    # no scope, so the door-keeper turns everybody away.
    @app.route("/<first>.*", method=["DELETE", "GET", "POST"])
    def route_not_found(first: str) -> Answer:
        raise NotFound(code="route_not_found", detail=f"/{first}")

    def told(error: AppError, status: HTTPStatus) -> Answer:
        shown = ErrorBody(
            code=error.code,
            message=error.message,
            detail=error.detail,
            request_id=_request_id(app.current_event.raw_event),
            problems=problems_of([problem.as_dict() for problem in error.problems], limit=PROBLEMS_SHOWN)
            or None,
        )
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        if status is HTTPStatus.UNAUTHORIZED:  # RFC 9110, 15.5.2: it must say how
            headers["WWW-Authenticate"] = f'ApiKey header="{settings.api_key_header}"'
        return Response(
            status_code=status,
            content_type=_JSON,
            body=shown.model_dump_json(exclude=None if shown.problems else {"problems"}),
            headers=headers,
        )

    def on_app_error(error: AppError) -> Answer:
        for kind, status in _STATUS:
            if isinstance(error, kind):
                if status is HTTPStatus.SERVICE_UNAVAILABLE:
                    logger.error("a part is unavailable", extra={"detail": error.detail})
                    error.detail = None
                return told(error, status)
        return on_exception(error)

    def on_database_error(error: SQLAlchemyError) -> Answer:
        if not db.is_unavailable(error):
            return on_exception(error)
        logger.error("the database is unavailable", extra={"detail": str(error.__cause__ or error)})
        return told(Unavailable(), HTTPStatus.SERVICE_UNAVAILABLE)

    def on_service_error(error: ServiceError) -> Answer:
        status = HTTPStatus(error.status_code)
        if status is HTTPStatus.NOT_FOUND:
            return told(NotFound(code="route_not_found", detail=app.current_event.path), status)
        return told(AppError(str(error.msg), code=status.phrase.lower().replace(" ", "_")), status)

    def on_exception(error: Exception) -> Answer:
        logger.exception("unexpected error", exc_info=error)
        return told(AppError(), HTTPStatus.INTERNAL_SERVER_ERROR)

    # All four: a lone handler of Exception would take the others' place.
    app.exception_handler(AppError)(on_app_error)
    app.exception_handler(SQLAlchemyError)(on_database_error)
    app.exception_handler(ServiceError)(on_service_error)
    app.exception_handler(Exception)(on_exception)
    return app
