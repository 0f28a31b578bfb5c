"""Log lines, as JSON and as text: both carry a job's identifiers."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from veripost import telemetry
from veripost.telemetry import logger


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "stream", stream)
    yield stream
    telemetry.configure(level="INFO", as_json=True, environment="dev")


def test_json_lines(printed: io.StringIO) -> None:
    telemetry.configure(level="INFO", as_json=True, environment="shop")
    with logger.append_context_keys(package_id="p-1"):
        logger.info("stored", extra={"files": 7})
    logger.debug("not shown")
    line = json.loads(printed.getvalue())
    assert (line["message"], line["package_id"], line["files"]) == ("stored", "p-1", 7)
    assert line["environment"] == "shop"


def test_text_lines(printed: io.StringIO) -> None:
    telemetry.configure(level="INFO", as_json=False, environment="shop")
    with logger.append_context_keys(package_id="p-1", job_id="j-1"):
        logger.info("stored", extra={"files": 7})
    logger.info("after")
    first, second = printed.getvalue().splitlines()
    assert " INFO stored " in first
    assert {"package_id=p-1", "job_id=j-1", "files=7", "environment=shop"} <= set(first.split())
    assert "package_id" not in second


def test_a_traceback_stands_below_its_line(printed: io.StringIO) -> None:
    telemetry.configure(level="INFO", as_json=False, environment="shop")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("failed")
    lines = printed.getvalue().splitlines()
    assert "ERROR failed" in lines[0]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_configuring_again_keeps_the_level_that_was_asked_for() -> None:
    telemetry.configure(level="WARNING", as_json=True, environment="dev")
    assert logging.getLogger("veripost").level == logging.WARNING
    telemetry.configure(level="INFO", as_json=True, environment="dev")
