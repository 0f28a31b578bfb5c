"""The documents say what the code does: routes, settings, error codes and make targets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from veripost import api, errors, ingest_queue, ingestion, schemas, storage, uploads  # noqa: F401 - fills the error tree
from veripost.errors import AppError
from veripost.settings import FIELDS, variable
from veripost.upkeep import sweep

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


class _CloudFormation(yaml.SafeLoader):
    """Reads a template; what `!Ref` and its like stand for does not matter here."""


_CloudFormation.add_multi_constructor("!", lambda _loader, suffix, node: f"!{suffix} {node.value}")
TEMPLATE = yaml.load((ROOT / "template.yaml").read_text(), _CloudFormation)


def _events() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in TEMPLATE["Resources"].items():
        for event in resource.get("Properties", {}).get("Events", {}).values():
            if event["Type"] == "Api":
                yield name, event["Properties"]


def _deployed() -> set[str]:
    return {f"{event['Method']} {event['Path']}" for _, event in _events() if event["Method"] != "OPTIONS"}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_the_readme_lists_exactly_the_deployed_routes() -> None:
    listed = set(re.findall(r"^\| `((?:GET|POST|DELETE|PUT) /v1/[^`]*)` \|", README, re.MULTILINE))
    assert listed == _deployed()


@pytest.mark.parametrize("function", ["upload", "status"])
def test_the_template_and_the_functions_agree_on_routes(function: str) -> None:
    source = (ROOT / "functions" / function / "app.py").read_text()
    written = {
        f"{method.upper()} {re.sub(r'<(\w+)>', r'{\1}', path)}"
        for method, path in re.findall(r'@router\.(get|post|delete)\("([^"]+)"\)', source)
    }
    resource = f"{function.capitalize()}Function"
    deployed = {
        f"{event['Method']} {event['Path']}"
        for name, event in _events()
        if name == resource and event["Method"] != "OPTIONS"
    }
    assert written == deployed


def test_every_path_answers_a_browser_that_asks_first() -> None:
    paths = {event["Path"] for _, event in _events()}
    asked = {event["Path"] for _, event in _events() if event["Method"] == "OPTIONS"}
    assert paths - asked == {"/v1/health", "/v1/openapi.json", "/v1/docs"}


@pytest.mark.parametrize("spec", FIELDS, ids=lambda spec: spec.name)
def test_every_setting_is_documented_with_its_default_and_meaning(spec: Any) -> None:
    name, default, meaning = variable(spec.name), _text(spec.default), spec.metadata["meaning"]
    assert f"# {meaning}\n{name}={default}\n" in (ROOT / ".env.example").read_text()
    shown = f"`{default}`" if default else "(empty)"
    assert f"| `{name}` | {shown} | {meaning} |" in README


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {variable(spec.name) for spec in FIELDS}
    assert set(re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)) == known


def test_every_setting_reaches_the_functions_and_has_the_same_default() -> None:
    """Settings that only a process on this machine uses have no parameter."""
    functions = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    own = {
        name
        for resource in TEMPLATE["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
        for name in resource["Properties"].get("Environment", {}).get("Variables", {})
    }
    known = {variable(spec.name) for spec in FIELDS}
    assert known - set(functions) - own == {"DATABASE_URL"}
    assert (set(functions) | own) <= known
    for spec in FIELDS:
        parameter = "".join(part.capitalize() for part in spec.name.split("_"))
        declared = TEMPLATE["Parameters"].get(parameter, {})
        if "Default" in declared:
            assert str(declared["Default"]) == _text(spec.default), parameter


def _classes(base: type[AppError]) -> Iterator[type[AppError]]:
    yield base
    for child in base.__subclasses__():
        yield from _classes(child)


def test_every_error_code_is_documented() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    sources = "\n".join(file.read_text() for file in (ROOT / "layers/common/veripost").rglob("*.py"))
    problems = {code.value for code in errors.ProblemCode}
    codes = {kind.code for kind in _classes(AppError) if not kind.__name__.startswith("_")}
    codes |= set(re.findall(r'\bcode="([a-z_]+)"', sources))
    codes |= set(re.findall(r'"code": "([a-z_]+)"', (ROOT / "template.yaml").read_text()))
    for code in sorted(codes - problems):
        assert f"`{code}`" in page, code


def _sources() -> str:
    folders = [ROOT / "layers/common/veripost", ROOT / "functions", ROOT / "migrations"]
    return "\n".join(file.read_text() for folder in folders for file in folder.rglob("*.py"))


def test_every_log_line_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text()
    written = set(re.findall(r'logger\.(?:info|warning|error|exception)\(\s*"([^"]+)"', _sources()))
    table = page[page.index("| line |") : page.index("## Metrics")]
    listed = {
        line
        for row in re.findall(r"^\| (`.*?) \| [A-Z]", table, re.MULTILINE)
        for line in re.findall(r"`(.+?)`", row)
    }
    assert written - listed == set()
    assert {line for line in listed if line not in _sources()} == set()


def test_every_metric_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text()
    calls = re.findall(r"telemetry\.emit\(\s*\{(.*?)\}", _sources(), re.DOTALL)
    emitted = {name for call in calls for name in re.findall(r'"(\w+)":', call)}
    emitted |= {sweep._metric(field.name) for field in dataclasses.fields(sweep.Swept)}
    emitted |= {f"{state.capitalize()}Duration" for state in ("validating", "storing", "parsing")}
    emitted |= {"IngestionDuration"}
    table = page[page.index("| metric |") : page.index("The template has a dashboard")]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == emitted


def test_every_make_target_is_documented() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", makefile, re.MULTILINE))
    assert targets == set(re.findall(r"`make ([a-z0-9-]+)`", README)) & targets
    assert set(re.findall(r"`make ([a-z0-9-]+)`", README)) <= targets


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
