"""`POST /v1/packages/check` over HTTP: it writes nothing, and what it may be asked is bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from functions.upload import app as upload_app
from tests.integration.gateway import call
from veripost import keys, settings
from veripost.schemas import CreateKey


@pytest.fixture
def ask(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that sends a body with a key that may write."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATABASE_TLS", "disable")
    settings.get_settings.cache_clear()
    key = keys.mint(engine, CreateKey.model_validate({"client_name": "t", "scopes": ["write"]})).key

    def ask(body: str) -> Any:
        return call(upload_app, "POST", "/v1/packages/check", key=key, body=body)[:2]

    yield ask
    settings.get_settings.cache_clear()


def test_a_list_is_judged_without_a_query(engine: Engine, ask: Any) -> None:
    ask("{}")  # the key is known now
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    files = [{"name": "HAAS/MILL.SRC", "size_bytes": 5}, {"name": "HAAS/x.nc", "size_bytes": 5}]
    status, answer = ask(json.dumps({"files": files}))
    event.remove(engine, "before_cursor_execute", note)
    assert (status, answer["accepted"], answer["name"]) == (200, False, "MILL")
    assert [problem["code"] for problem in answer["problems"]] == ["forbidden_extension"]
    assert answer["problems"][0]["hint"]
    status, answer = ask(json.dumps({"files": files[:1]}))
    assert (status, answer) == (200, {"accepted": True, "name": "MILL", "problems": []})
    assert seen == []


def test_ten_thousand_files_are_judged_at_once_and_more_are_too_many(ask: Any) -> None:
    files = [{"name": f"LIBRARY/MACRO_{number:05d}.LIB", "size_bytes": 9} for number in range(9_999)]
    body = json.dumps({"files": [*files, {"name": "A.SRC", "size_bytes": 9}]})
    started = time.monotonic()
    status, answer = ask(body)
    assert (status, answer["accepted"]) == (200, True)
    assert time.monotonic() - started < 2
    status, answer = ask(json.dumps({"files": [*files, *files[:2]]}))
    assert [problem["code"] for problem in answer["problems"]] == ["too_many_entries"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "invalid_request"),
        ('{"files": [{"name": "\\ud800", "size_bytes": 1}]}', 400, "invalid_request"),
        ("{}", 422, "invalid_fields"),
        ('{"files": {}}', 422, "invalid_fields"),
        ('{"files": [{"name": "a"}]}', 422, "invalid_fields"),
        ('{"files": [{"name": "a", "size_bytes": -1}]}', 422, "invalid_fields"),
        ('{"files": [{"name": "a", "size_bytes": 9223372036854775808}]}', 422, "invalid_fields"),
        ('{"files": [{"name": "a", "size_bytes": 1.5}]}', 422, "invalid_fields"),
        ('{"files": [], "platform": "A B"}', 422, "invalid_fields"),
        ('{"files": []}' + " " * (1 << 20), 413, "too_large"),
    ],
)
def test_bodies_that_are_none(ask: Any, body: str, status: int, code: str) -> None:
    answered, answer = ask(body)
    assert (answered, answer["code"]) == (status, code)
