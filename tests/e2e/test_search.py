"""From an upload to what its files say: found, read, compared, on the deployed stack."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from localcloud import samples
from localcloud.api_client import ApiClient


def _upload(api: ApiClient, files: dict[str, bytes]) -> tuple[str, Any]:
    package_id = str(api.upload("post.zip", samples.zip_of(files, folder="POST/")).json["package_id"])
    return package_id, api.wait(package_id)


def test_upload_search_read_and_compare(api: ApiClient) -> None:
    stem = f"E2E_{uuid4().hex[:12].upper()}"
    before = samples.post_processor(stem, sections=120)
    known = samples.source(stem, sections=120)
    one, status = _upload(api, before)
    assert (status["status"], status["section_count"]) == ("ready", 120 + 30)
    package = api.get(f"/v1/packages/{one}").json
    assert (package["machine_type"], package["controller_type"]) == (known.machine, known.controller)

    found = api.get(f"/v1/search?q={stem.lower().replace('_', '+')}").json
    assert [(hit["subject"], hit["package_id"]) for hit in found["hits"]][:1] == [("package", one)]
    calculation = next(section for section in known.sections if section.is_calculation)
    found = api.get(f"/v1/search?q={quote(calculation.name)}&limit=200").json
    hit = next(hit for hit in found["hits"] if hit["package_id"] == one)
    assert (hit["subject"], hit["name"], hit["line"]) == ("section", calculation.name, calculation.first_line)
    assert hit["matches"][0]["ranges"]

    section = api.get(f"/v1/packages/{one}/sections/{hit['section_id']}").json
    lines = known.data.decode("cp1252").splitlines()
    assert section["lines"] == lines[calculation.first_line - 1 : calculation.last_line]
    assert (section["truncated"], section["calls"]) == (False, list(calculation.calls))
    listed = api.get(f"/v1/packages/{one}/sections?limit=200").json
    assert listed["count"] == 150
    assert api.get(f"/v1/packages/{one}/sections?name={calculation.name}").json["count"] == 1
    stated = api.get(f"/v1/packages/{one}/attributes?name=machine%20name").json["attributes"]
    assert [each["value"] for each in stated] == [known.machine]

    edited = known.sections[60]
    text = before[f"{stem}.SRC"].split(b"\r\n")
    old = text[edited.first_line].decode()
    text[edited.first_line] = b":T:<N><M:88><EOL>"
    other, status = _upload(api, before | {f"{stem}.SRC": b"\r\n".join(text)})
    assert status["status"] == "ready"
    difference = api.get(f"/v1/packages/{one}/diff/{other}").json
    assert [(each["subject"], each["change"], each["name"]) for each in difference["differences"]] == [
        ("file", "changed", f"{stem}.SRC"),
        ("section", "changed", edited.name),
    ]
    difference = api.get(f"/v1/packages/{one}/diff/{other}?section={edited.name}").json
    diff = difference["differences"][0]["diff"].splitlines()
    assert [line for line in diff if line[0] in "+-"] == [
        f"--- {stem}.SRC:{edited.first_line}",
        f"+++ {stem}.SRC:{edited.first_line}",
        f"-{old}",
        "+:T:<N><M:88><EOL>",
    ]

    alike = api.get(f"/v1/packages/{one}/similar").json
    assert alike["method"] == "vector"
    assert alike["packages"][0]["id"] == other
    assert alike["packages"][0]["shared_sections"] == 149


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/search", 422, "invalid_fields"),
        ("/v1/search?q=", 422, "invalid_fields"),
        ("/v1/search?q=%2A%2A", 422, "invalid_fields"),
        ("/v1/search?q=a&cursor=x", 422, "invalid_fields"),
        ("/v1/search?q=a&nonsense=1", 422, "invalid_fields"),
        (f"/v1/packages/{uuid4()}/sections", 404, "package_not_found"),
        (f"/v1/packages/{uuid4()}/sections/{uuid4()}", 404, "package_not_found"),
        (f"/v1/packages/{uuid4()}/sections/nonsense", 404, "section_not_found"),
        (f"/v1/packages/{uuid4()}/attributes?limit=101", 422, "invalid_fields"),
        (f"/v1/packages/{uuid4()}/similar", 404, "package_not_found"),
        (f"/v1/packages/{uuid4()}/diff/{uuid4()}", 404, "package_not_found"),
        (f"/v1/packages/{uuid4()}/diff/{uuid4()}?section=", 422, "invalid_fields"),
    ],
)
def test_what_cannot_be_answered(api: ApiClient, path: str, status: int, code: str) -> None:
    answer = api.get(path)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_a_package_that_was_never_ready_cannot_be_compared(api: ApiClient) -> None:
    ready, _ = _upload(api, {"A.SRC": b":SECTION=A\r\n"})
    announced = api.announce("late.zip", b"not yet").json["package_id"]
    answer = api.get(f"/v1/packages/{ready}/diff/{announced}")
    assert (answer.status, answer.json["code"]) == (409, "not_ready")
