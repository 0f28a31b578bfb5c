"""The page on CAMWorks packages says what the parser does."""

from __future__ import annotations

import re
from pathlib import Path

from veripost.platforms import camworks, camworks_companions, camworks_notices, lines
from veripost.platforms.camworks import ParseLimits, WarningCode

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "camworks.md").read_text(encoding="utf-8")


def test_every_warning_is_documented() -> None:
    section = PAGE.partition("## Warnings")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [code.value for code in WarningCode]


def test_every_limit_is_documented() -> None:
    limits = ParseLimits()
    for words in (
        f"more than {limits.text_bytes} bytes",
        f"{limits.facts:,} are",
        f"beyond the {limits.warnings} that",
        f"more than {lines.LONGEST_LINE >> 10} KiB",
    ):
        assert words in PAGE


def test_every_rule_that_is_cited_is_on_the_page() -> None:
    modules = (camworks, camworks_companions, camworks_notices, lines)
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules]
    cited = set(re.findall(r"UPG, “([^”]+)”", "\n".join(sources)))
    assert cited
    assert cited <= set(re.findall(r"^\| ([^|`]+) \|", PAGE, re.MULTILINE))


def test_the_example_has_the_shape_of_the_output() -> None:
    shown = re.findall(r'^  "(\w+)":', PAGE, re.MULTILINE)
    assert shown == list(camworks.parse([]).as_dict())
