"""Checks ZIP files from the command line: `python -m veripost.archive [--platform KEY] FILE...`.

One JSON object a line: `file`, `accepted`, `problems` (as in the API), `members` (name, size, sha256; null
where a member is not verified). The exit status is 0 when every file is accepted, 1 when one is refused, 2
when one cannot be read or the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from veripost.archive.limits import Limits
from veripost.archive.report import Report, inspect, merge
from veripost.archive.source import FileSource
from veripost.errors import Problem, has_errors
from veripost.platforms.registry import PLATFORMS
from veripost.platforms.rules import select


def main(arguments: Sequence[str] | None = None, output: IO[str] | None = None) -> int:
    """Check the files named in `arguments`, write a line for each to `output`, return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m veripost.archive", description="Check ZIP archives and print a JSON report a line."
    )
    parser.add_argument("--platform", choices=sorted(PLATFORMS), help="apply this platform's rules too")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a ZIP archive")
    options = parser.parse_args(arguments)
    out = output or sys.stdout
    limits = Limits()
    status = 0
    for name in options.files:
        try:
            with Path(name).open("rb") as file:
                report = inspect(FileSource(file), limits)
        except OSError as error:
            print(f"{parser.prog}: {name}: {error.strerror or error}", file=sys.stderr)
            status = 2
            continue
        problems = report.problems
        if options.platform:
            problems = _with_platform(report, options.platform, limits)
        accepted = not has_errors(problems)
        print(json.dumps(_line(name, report, problems, accepted=accepted)), file=out)
        status = max(status, 0 if accepted else 1)
    return status


def _with_platform(report: Report, platform: str, limits: Limits) -> tuple[Problem, ...]:
    directory = report.directory
    if not (directory.members or directory.readable):
        return report.problems  # without a directory there is no list of files to judge
    rows = [(member.name, member.size) for member in directory.members]
    found = [problem for member in report.members for problem in member.problems]
    return merge(directory, [*found, *select(PLATFORMS[platform], rows).problems], limits)


def _line(name: str, report: Report, problems: Sequence[Problem], *, accepted: bool) -> dict[str, Any]:
    verdicts = {verdict.member.index: verdict.sha256 for verdict in report.members}
    return {
        "file": name,
        "accepted": accepted,
        "problems": [problem.as_dict() for problem in problems],
        "members": [
            {"name": member.name, "size": member.size, "sha256": verdicts.get(member.index) or None}
            for member in report.directory.members
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
