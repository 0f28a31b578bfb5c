"""The deployed API beside its description: whatever is sent, no 5xx and no answer that is not described."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from localcloud.api_client import ApiClient
from tests.unit.test_docs import ROOT

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 12


def test_the_description_and_its_page_are_served(api: ApiClient) -> None:
    served = api.get("/v1/openapi.json")
    assert (served.status, served.headers["Content-Type"]) == (200, "application/json")
    assert served.json == json.loads((ROOT / "functions/status/openapi.json").read_text())
    page = api.get("/v1/docs")
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"SwaggerUIBundle" in page.body
    assert b"http://" not in page.body[-4000:], "nothing is loaded from elsewhere"


def test_no_server_error_and_no_undescribed_answer(api: ApiClient) -> None:
    schema = schemathesis.openapi.from_dict(api.get("/v1/openapi.json").json)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    answered: dict[str, int] = {}

    def validate(case: Case[Any]) -> None:
        answer = case.call(
            base_url=api.api_url, headers={"X-API-Key": api.key or ""}, allow_redirects=False, timeout=60
        )
        case.validate_response(answer, checks=CHECKS)
        answered[f"{case.method} {case.path}"] = answered.get(f"{case.method} {case.path}", 0) + 1

    for operation in operations:
        cases = settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(case=operation.as_strategy())(validate))
        cases()
    assert len(answered) == len(operations) == sum(len(item) for item in schema.raw_schema["paths"].values())
