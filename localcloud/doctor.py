"""Has a deployed stack examined, and shows what was found as a table."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from localcloud.cloud import CloudError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECONDS_BETWEEN = 2.0
LONGEST_CELL = 72


def examine(
    invoke: Callable[[Mapping[str, Any]], Any], *, fix: bool, deep: bool, pause: float = SECONDS_BETWEEN
) -> dict[str, Any]:
    """Invoke the doctor's function until its examination is done; return the report.

    What takes longer than one invocation goes on in the next; progress is told on stderr.
    """
    report = invoke({"now": True, "fix": fix, "deep": deep})
    while True:
        if not isinstance(report, dict) or "status" not in report:
            raise CloudError(f"the doctor answered with something else than a report: {report}")
        if report["status"] == "done":
            return report
        looked_at = ", ".join(f"{count} {what}" for what, count in report["looked_at"].items())
        print(f"    ... at {report['step']}: {looked_at}", file=sys.stderr, flush=True)
        time.sleep(pause)
        report = invoke({"doctor_id": report["doctor_id"]})


def table(report: Mapping[str, Any]) -> str:
    """Return a report for people: the findings, and below them what was looked at."""
    rows = [
        ("FINDING", "FIX", "WHERE", "DETAIL"),
        *(
            (finding["kind"], _fix(finding), _short(finding["key"]), finding["detail"])
            for finding in report["findings"]
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    if not report["findings"]:
        lines = ["Nothing was found: what is stored and what is recorded agree."]
    if report["truncated"]:
        lines.append(f"... of {report['found']} findings: the list is cut off, the counts below are not")
    looked_at, unread = report["looked_at"], report["not_compared"]
    lines += ["", *(f"{count:>9,}  {kind}" for kind, count in report["counts"].items() if count)]
    lines += [
        f"{report['found']:>9,}  findings, {report['fixed']:,} of them fixed",
        f"{looked_at['objects']:>9,}  objects beside {looked_at['rows']:,} rows of files; "
        f"{unread['files']:,} by size only",
        f"{looked_at['packages']:>9,}  packages beside {looked_at['originals']:,} originals; "
        f"{unread['originals']:,} by size only",
    ]
    if report["left_alone"]:
        lines.append(f"{report['left_alone']:>9,}  packages in work, left alone")
    if unread["files"] + unread["originals"] and not report["deep"]:
        lines.append("DEEP=1 reads the bytes of those that were compared by size only.")
    if not report["fix"] and any(finding["fix"] for finding in report["findings"]):
        lines.append("FIX=1 does what the column FIX says; docs/doctor.md explains every finding.")
    if report["error"]:
        lines.append(f"The examination was not finished: {report['error']}")
    return "\n".join(lines)


def _fix(finding: Mapping[str, Any]) -> str:
    if finding["fix"] is None:
        return "-"
    return f"{finding['fix']}: done" if finding["fixed"] else str(finding["fix"])


def _short(text: str) -> str:
    """Keep the end, which tells one file of a package from another."""
    return text if len(text) <= LONGEST_CELL else f"…{text[1 - LONGEST_CELL :]}"
