"""Sixty packages of all kinds at once; `make soak` does the same with as many as one likes."""

from __future__ import annotations

from bench.soak import soak
from localcloud.cloud import Cloud


def test_a_small_soak(cloud: Cloud) -> None:
    report = soak(cloud, 60, seconds=180)
    assert report.broken == (), str(report)
    assert report.packages == report.events == 60
    assert set(report.kinds) == {"good", "refused", "no zip", "repeated", "api", "presigned"}
    assert len(report.ready_seconds) == 60 - report.kinds["refused"] - report.kinds["no zip"]
    assert report.duplicates > 0
    assert report.garbage > 0
