"""What the gateway answers by itself, rendered as API Gateway renders it."""

from __future__ import annotations

from localcloud.executor.gateway_responses import render_body, static_headers

VARIABLES = {"requestId": "r-1", "httpMethod": "GET", "error": {"message": 'a "b"', "messageString": 'a "b"'}}


def test_variables_are_filled_in_and_unknown_ones_are_nothing() -> None:
    template = '{"id": "$context.requestId", "detail": $context.error.messageString, "x": "$context.no.such"}'
    assert render_body(template, VARIABLES) == '{"id": "r-1", "detail": "a \\"b\\"", "x": ""}'
    assert render_body("$context.httpMethod $context.error.message.", VARIABLES) == 'GET a "b".'


def test_only_literal_headers_are_sent() -> None:
    parameters = {
        "gatewayresponse.header.Access-Control-Allow-Origin": "'*'",
        "gatewayresponse.header.X-Id": "context.requestId",
        "gatewayresponse.other": "'x'",
    }
    assert static_headers(parameters) == {"Access-Control-Allow-Origin": "*"}
