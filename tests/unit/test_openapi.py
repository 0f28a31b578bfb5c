"""The description says what the code does: committed, complete, and with an example of every error."""

from __future__ import annotations

import re
from pathlib import Path

from jsonschema_rs import validator_for  # comes with schemathesis

from tests.unit.test_docs import ROOT, TEMPLATE
from tests.unit.test_routes import routes_in_the_source
from veripost import openapi


def _template_routes() -> set[tuple[str, str]]:
    return {
        (event["Properties"]["Method"], event["Properties"]["Path"])
        for resource in TEMPLATE["Resources"].values()
        for event in resource.get("Properties", {}).get("Events", {}).values()
        if event["Type"] == "Api" and event["Properties"]["Method"] != "OPTIONS"
    }


def test_the_committed_description_is_what_the_code_makes() -> None:
    committed = (ROOT / "functions" / "status" / "openapi.json").read_text()
    assert committed == openapi.text(), "run `make openapi`"


def test_every_deployed_route_is_described_and_no_other() -> None:
    described = {(route.method, path) for route in openapi.ROUTES for path in (route.path, *route.aliases)}
    assert described == _template_routes()


def test_every_route_is_described_with_its_scope() -> None:
    described = {
        f"{route.method} {path}": route.scope
        for route in openapi.ROUTES
        for path in (route.path, *route.aliases)
    }
    assert described == routes_in_the_source()


def test_every_error_code_with_a_status_has_an_example() -> None:
    page = (Path(ROOT) / "docs" / "errors.md").read_text()
    documented = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", page, re.MULTILINE))
    classes = set(re.findall(r"^\| `([a-z_]+)` \| \d{3} \| the class of all", page, re.MULTILINE))
    described = {code: str(error.status.value) for code, error in openapi.ERRORS.items()}
    assert {code: status for code, status in documented.items() if code not in classes} == {
        code: status for code, status in described.items() if code not in classes and code in documented
    }
    used = {
        code for route in openapi.ROUTES for code in (*route.errors, *openapi.ALWAYS, *openapi.WITH_A_KEY)
    }
    assert set(openapi.ERRORS) - used == set()


def test_every_example_fits_its_schema() -> None:
    document = openapi.document()
    checked = 0
    for item in document["paths"].values():
        for operation in item.values():
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    schema = {
                        "$ref": content["schema"].get("$ref", "#"),
                        "components": document["components"],
                    }
                    for example in content.get("examples", {}).values():
                        validator_for(schema).validate(example["value"])
                        checked += 1
    assert checked > 50
