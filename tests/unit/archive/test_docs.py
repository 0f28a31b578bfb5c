"""The two pages on the gate name every code and every limit, with its real default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from veripost.archive import Limits
from veripost.errors import ProblemCode

DOCS = Path(__file__).parents[3] / "docs"
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def rows(page: str) -> list[list[str]]:
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if line.startswith("| `")
    ]


def test_every_problem_code_has_one_line_with_an_example() -> None:
    listed = rows("problems.md")

    assert sorted(row[0].strip("`") for row in listed) == sorted(ProblemCode)
    for row in listed:
        assert len(row) == 3
        assert all(row), row


def test_every_limit_is_documented_with_its_default() -> None:
    documented = {}
    for row in rows("archive-rules.md"):
        if row[0].strip("`") in {field.name for field in fields(Limits)}:
            number, _, unit = row[1].partition(" ")
            documented[row[0].strip("`")] = int(number.replace(",", "")) * UNITS[unit]

    assert documented == {field.name: field.default for field in fields(Limits)}
