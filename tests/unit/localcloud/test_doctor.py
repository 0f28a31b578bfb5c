"""The doctor's command: how it waits for an examination, and what it prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from localcloud import doctor
from localcloud.cloud import CloudError

DONE: dict[str, Any] = {
    "doctor_id": "d-1",
    "status": "done",
    "step": None,
    "fix": False,
    "deep": False,
    "error": None,
    "looked_at": {"objects": 12345, "rows": 12344, "originals": 3, "packages": 2},
    "left_alone": 0,
    "not_compared": {"files": 0, "originals": 0},
    "found": 0,
    "fixed": 0,
    "counts": {"object_without_row": 0, "size_mismatch": 0},
    "findings": [],
    "truncated": False,
}
STRAY = {
    "kind": "object_without_row",
    "bucket": "packages",
    "key": "packages/0b" + "c" * 80 + "/A.SRC",
    "package_id": None,
    "detail": "1 versions with 5 bytes",
    "fix": "delete",
    "fixed": False,
}


def test_an_examination_is_followed_until_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [{**DONE, "status": "queued", "step": step} for step in ("files", "drops")] + [DONE]
    asked: list[Mapping[str, Any]] = []

    def invoke(payload: Mapping[str, Any]) -> Any:
        asked.append(payload)
        return answers[len(asked) - 1]

    assert doctor.examine(invoke, fix=True, deep=False, pause=0) == DONE
    assert asked == [{"now": True, "fix": True, "deep": False}, {"doctor_id": "d-1"}, {"doctor_id": "d-1"}]
    told = capsys.readouterr()
    assert told.out == ""
    assert "at drops: 12345 objects" in told.err


def test_an_answer_that_is_no_report_is_told() -> None:
    with pytest.raises(CloudError, match="something else"):
        doctor.examine(lambda _: {}, fix=False, deep=False)


def test_a_clean_report_says_so() -> None:
    shown = doctor.table(DONE)
    assert shown.startswith("Nothing was found")
    assert "12,345  objects beside 12,344 rows of files; 0 by size only" in shown
    assert "FIX=1" not in shown


def test_findings_are_a_table_with_what_can_be_done() -> None:
    mended = {**STRAY, "kind": "size_mismatch", "fix": "replay", "fixed": True}
    hopeless = {**STRAY, "kind": "stuck_package", "fix": None}
    report = {
        **DONE,
        "findings": [STRAY, mended, hopeless],
        "found": 2000,
        "truncated": True,
        "counts": {"object_without_row": 1998, "size_mismatch": 1},
        "not_compared": {"files": 1, "originals": 0},
        "left_alone": 4,
        "error": "the store is down",
    }
    lines = doctor.table(report).splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["FINDING", "FIX"],
        ["object_without_row", "delete"],
        ["size_mismatch", "replay:"],
        ["stuck_package", "-"],
    ]
    assert (
        len({line.index("DETAIL" if number == 0 else "1 versions") for number, line in enumerate(lines[:4])})
        == 1
    )
    assert "/A.SRC" in lines[1]
    text = "\n".join(lines)
    for part in ("of 2000 findings", "1,998  object_without_row", "4  packages in work", "DEEP=1", "FIX=1"):
        assert part in text
    assert "was not finished: the store is down" in text
