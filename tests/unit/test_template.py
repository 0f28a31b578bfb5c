"""What the template promises and no local cloud shows: runs that are not retried, alarms that can fire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from tests.unit.test_docs import ROOT, TEMPLATE
from veripost import db

RESOURCES: dict[str, Any] = TEMPLATE["Resources"]


def _metrics(node: Any) -> Iterator[tuple[str, str]]:
    """Every (namespace, name) that an alarm looks at, wherever it stands."""
    if isinstance(node, dict):
        if "MetricName" in node:
            yield node["Namespace"], node["MetricName"]
        for value in node.values():
            yield from _metrics(value)
    elif isinstance(node, list):
        for value in node:
            yield from _metrics(value)


def test_one_message_an_invocation() -> None:
    """Neighbours in a batch would share one time-out and one crash."""
    assert RESOURCES["IngestFunction"]["Properties"]["Events"]["Landed"]["Properties"]["BatchSize"] == 1


@pytest.mark.parametrize("function", ["SweepFunction", "PublishFunction"])
def test_a_scheduled_run_that_failed_is_not_run_again_on_top_of_the_next(function: str) -> None:
    assert RESOURCES[function]["Properties"]["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_every_alarm_on_our_own_metrics_names_one_that_is_reported() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text()  # which another test compares with the code
    alarms = {name: each for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
    ours = {name for alarm in alarms.values() for space, name in _metrics(alarm) if space == "VeriPost"}
    assert {"OldestUnfinishedAge", "OldestEventAge", "PackagesFailed", "SweepGivenUp"} <= ours
    assert {name for name in ours if f"`{name}`" not in page} == set()
    for name in alarms:
        assert f"`{name}`" in (ROOT / "docs" / "reliability.md").read_text(), name


def test_a_deadlock_is_no_mistake_of_ours() -> None:
    error = DBAPIError("UPDATE", None, Exception({"C": "40P01"}))
    assert db.is_unavailable(error)
    assert not db.is_unavailable(DBAPIError("UPDATE", None, Exception({"C": "23505"})))
