"""The judge of labelled archives fails whenever it has nothing to judge, or something to object to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.corpus.run import POLICY, main, rows
from tests.unit.archive.builder import Part, build
from veripost.errors import ProblemCode

GOOD, BAD = build(Part()), build(Part(), prefix=b"x")


def corpus(folder: Path, *entries: tuple[str, bytes, str, str]) -> str:
    lines = ["file,expected,tier,reasons,sha256,source"]
    for name, data, expected, tier in entries:
        (folder / name).write_bytes(data)
        lines.append(f"{name},{expected},{tier},,{hashlib.sha256(data).hexdigest()},")
    (folder / "INDEX.csv").write_text("\n".join(lines))
    return str(folder)


def test_all_as_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = corpus(tmp_path, ("good.zip", GOOD, "accept", ""), ("bad.zip", BAD, "reject", "hard"))

    assert main([folder]) == 0
    assert "2 archives (1 accept, 1 hard): nothing wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (("a.zip", GOOD, "reject", "hard"), "expected reject, the gate says accept"),
        (("a.zip", BAD, "accept", ""), "expected accept, the gate says reject"),
        (("a.zip", BAD, "reject", "policy"), "policy.csv does not decide it"),
    ],
)
def test_objections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: tuple[str, bytes, str, str], fault: str
) -> None:
    assert main([corpus(tmp_path, entry)]) == 1
    assert fault in capsys.readouterr().err


def test_a_missing_or_empty_folder_fails(tmp_path: Path) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "nowhere")]) == 1
    assert main([str(tmp_path)]) == 1
    assert main([corpus(tmp_path)]) == 1


def test_missing_and_changed_files_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = corpus(tmp_path, ("gone.zip", GOOD, "accept", ""), ("other.zip", GOOD, "accept", ""))
    (tmp_path / "gone.zip").unlink()
    (tmp_path / "other.zip").write_bytes(BAD)

    assert main([folder]) == 1
    told = capsys.readouterr().err
    assert "gone.zip (accept): the file is missing" in told
    assert "other.zip (accept): the file is not the one that was labelled" in told


def test_every_decision_is_argued() -> None:
    for row in rows(POLICY):
        assert row["decision"] in {"accept", "reject"}
        assert len(row["reason"]) > 40
        assert (row["code"] in set(ProblemCode)) == (row["decision"] == "reject")
