"""What API Gateway answers by itself, as the template says: LocalStack ignores bodies and headers of it.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gatewayResponse-definition.html
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EXTENSION = "x-amazon-apigateway-gateway-responses"
CONTENT_TYPE = "application/json"
VARIABLE = re.compile(r"\$context\.([A-Za-z]+(?:\.[A-Za-z]+)*)")
HEADER = "gatewayresponse.header."


def render_body(template: str, variables: Mapping[str, Any]) -> str:
    """Fill in a body template's `$context` variables; one that is unknown becomes nothing, as on AWS."""

    def value(match: re.Match[str]) -> str:
        found: Any = variables
        for name in match[1].split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if match[1] == "error.messageString":  # the one variable that brings its own quotes
            return json.dumps(found)
        return "" if found is None else str(found)

    return VARIABLE.sub(value, template)


def static_headers(parameters: Mapping[str, str]) -> dict[str, str]:
    """Give the headers whose value is a literal in single quotes."""
    return {
        name.removeprefix(HEADER): value[1:-1]
        for name, value in parameters.items()
        if name.startswith(HEADER) and value.startswith("'") and value.endswith("'")
    }
