"""Calls a function as API Gateway does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

CONTEXT = SimpleNamespace(aws_request_id="req-1", function_name="f")


def call(
    app: Any,
    method: str,
    path: str,
    *,
    key: str = "",
    query: Mapping[str, str] | None = None,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    encoded: bool = False,
) -> tuple[int, Any, dict[str, Any]]:
    """Return status, JSON and headers of one request."""
    answer = app.handler(
        {
            "httpMethod": method,
            "path": path,
            "resource": path,
            "headers": ({"x-api-key": key} if key else {}) | dict(headers or {}),
            "multiValueHeaders": {},
            "queryStringParameters": query,
            "multiValueQueryStringParameters": None,
            "requestContext": {"requestId": "req-1", "stage": "api", "path": f"/api{path}"},
            "body": body,
            "isBase64Encoded": encoded,
        },
        CONTEXT,
    )
    sent = {name: values[0] for name, values in answer.get("multiValueHeaders", {}).items()}
    return answer["statusCode"], json.loads(answer["body"] or "{}"), sent
