"""Who may call what: every route declares a scope, the page says so, and one that does not is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aws_lambda_powertools.event_handler.api_gateway import Router

from tests.unit.test_docs import TEMPLATE
from veripost import api
from veripost.api_key import Scope
from veripost.authentication import Authenticator, Caller
from veripost.settings import Settings

ROOT = Path(__file__).parents[2]
_ROUTE = re.compile(
    r'((?:^@router\.(?:get|post|delete)\("[^"]+"\)\n)+)(?:^@needs\(Scope\.(\w+)\)\n)?^def ', re.MULTILINE
)


def routes_in_the_source() -> dict[str, str | None]:
    """Every route of every function with its scope in lower case; None where it declares none."""
    found: dict[str, str | None] = {}
    for file in (ROOT / "functions").glob("*/*.py"):
        source = file.read_text()
        matches = list(_ROUTE.finditer(source))
        assert sum(match[1].count("@router.") for match in matches) == source.count("@router."), file
        for match in matches:
            for verb, path in re.findall(r'@router\.(\w+)\("([^"]+)"\)', match[1]):
                route = f"{verb.upper()} {re.sub(r'<(\w+)>', r'{\1}', path)}"
                found[route] = match[2].lower() if match[2] else None
    return found


def test_every_route_declares_its_scope() -> None:
    without = {route.partition(" ")[2] for route, scope in routes_in_the_source().items() if scope is None}
    assert without == api.OPEN_PATHS


def test_the_page_lists_every_route_with_its_scope() -> None:
    page = (ROOT / "docs" / "api-keys.md").read_text()
    listed = dict(re.findall(r"^\| `([A-Z]+ /v1/[^`]*)` \| `?(\w+)`? \|$", page, re.MULTILINE))
    assert listed == {route: scope or "none" for route, scope in routes_in_the_source().items()}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve a few routes to an admin whose key needs no database; return a function that calls one."""

    class Admits(Authenticator):
        def __init__(self) -> None: ...

        def authenticate(self, key: str) -> Caller:
            return Caller(uuid4(), "test", frozenset({Scope(key)}))

    monkeypatch.setattr(api, "get_authenticator", lambda _settings: Admits())
    router = Router()

    @router.get("/v1/undeclared")
    def undeclared() -> api.Answer:
        return api.no_content()

    @router.get("/v1/written")
    @api.needs(Scope.WRITE)
    def written() -> api.Answer:
        return api.no_content()

    def handler_of(**settings: Any) -> Any:
        return api.make_handler(router, lambda: Settings(**settings))

    def call(path: str, *, verb: str = "GET", headers: dict[str, str], **settings: Any) -> Any:
        answer = handler_of(**settings)(
            {
                "httpMethod": verb,
                "path": path,
                "resource": path,
                "headers": headers,
                "multiValueHeaders": {},
                "requestContext": {"requestId": "r", "stage": "api"},
                "body": None,
            },
            SimpleNamespace(aws_request_id="r"),
        )
        sent = {name: values[0] for name, values in answer.get("multiValueHeaders", {}).items()}
        return answer["statusCode"], json.loads(answer["body"] or "{}"), sent

    return call


def test_a_route_without_a_scope_is_refused_to_everybody(call: Any) -> None:
    status, answer, _ = call("/v1/undeclared", headers={"X-API-Key": "admin"})
    assert (status, answer["code"]) == (404, "route_not_found")


def test_a_scope_that_does_not_reach_is_told_which_one_would(call: Any) -> None:
    status, answer, _ = call("/v1/written", headers={"x-api-key": "read"})
    assert (status, answer["code"], answer["detail"]) == (403, "forbidden", "needs write; the key has read")
    assert "write" in answer["message"]
    assert call("/v1/written", headers={"x-api-key": "write"})[0] == 204
    assert call("/v1/written", headers={"x-api-key": "admin"})[0] == 204


def test_the_header_is_a_setting(call: Any) -> None:
    headers = {"X-Shop-Key": "write"}
    assert call("/v1/written", headers=headers, api_key_header="x-shop-key")[0] == 204


def test_a_preflight_needs_no_key(call: Any) -> None:
    origin = {"Origin": "https://a.example"}
    status, _, headers = call("/v1/written", verb="OPTIONS", headers=origin, cors_origins=(origin["Origin"],))
    assert status == 204
    assert "X-API-Key" in headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("origins", [("*",), ("https://a.example",), ("https://b.example", "*")])
def test_no_answer_ever_allows_credentials(call: Any, origins: tuple[str, ...]) -> None:
    asking = {"Origin": "https://a.example", "x-api-key": "admin"}
    for verb in ("GET", "OPTIONS"):
        headers = call("/v1/written", verb=verb, headers=asking, cors_origins=origins)[2]
        assert "Access-Control-Allow-Credentials" not in headers


def test_the_gateway_allows_no_credentials_either_and_throttles() -> None:
    resource = TEMPLATE["Resources"]["Api"]["Properties"]
    assert "credentials" not in (ROOT / "template.yaml").read_text().casefold().replace(
        "database-credentials", ""
    ).replace("takes its credentials from", "")
    [settings] = resource["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"]) == ("/*", "*")
    assert settings["ThrottlingBurstLimit"] == "!Ref ApiBurst"
    assert settings["ThrottlingRateLimit"] == "!Ref ApiRate"
    for name in ("ApiBurst", "ApiRate"):
        assert TEMPLATE["Parameters"][name]["Default"] > 0
