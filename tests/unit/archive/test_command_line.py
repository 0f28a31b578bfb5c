"""`python -m veripost.archive`: one JSON object a line, in a form that stays."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.archive.builder import Part, build
from veripost.archive.__main__ import main

TEXT = b"N10 G00 X0 Y0\n" * 20


def run(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    output = io.StringIO()
    status = main(arguments, output)
    return status, [json.loads(line) for line in output.getvalue().splitlines()]


def written(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def test_an_accepted_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.zip", build(Part("posts/", b"", method=0), Part("posts/mill.src")))

    status, (line,) = run(path)

    assert status == 0
    assert line == {
        "file": path,
        "accepted": True,
        "problems": [],
        "members": [
            {"name": "posts/", "size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
            {"name": "posts/mill.src", "size": len(TEXT), "sha256": hashlib.sha256(TEXT).hexdigest()},
        ],
    }


def test_a_refused_file_names_every_problem_and_no_hash_that_is_not_verified(tmp_path: Path) -> None:
    path = written(tmp_path, "a.zip", build(Part(packed=b"\xff" * 9), Part("../b.src")))

    status, (line,) = run(path)

    assert status == 1
    assert line["accepted"] is False
    assert [problem["code"] for problem in line["problems"]] == ["name_traversal", "deflate_corrupt"]
    assert set(line["problems"][0]) == {"code", "severity", "member", "message", "detail", "hint"}
    assert [member["sha256"] for member in line["members"]] == [None, hashlib.sha256(TEXT).hexdigest()]


def test_the_platforms_rules_apply_only_when_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "a.zip", build(Part("mill.src.txt"), Part("__MACOSX/._mill.src")))

    plain = run(path)
    status, (line,) = run("--platform", "camworks", path)

    assert plain[0] == 0
    assert status == 1
    assert [problem["code"] for problem in line["problems"]] == [
        "forbidden_extension",
        "junk_skipped",
        "required_file_missing",
    ]
    assert "rename" in line["problems"][0]["hint"]


def test_the_platform_does_not_judge_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    _, (line,) = run("--platform", "camworks", written(tmp_path, "a.zip", b"<html>404</html>"))

    assert [problem["code"] for problem in line["problems"]] == ["not_a_zip"]


def test_an_empty_archive_is_the_platforms_business(tmp_path: Path) -> None:
    path = written(tmp_path, "a.zip", build())

    assert run(path)[0] == 0
    assert [p["code"] for p in run("--platform", "camworks", path)[1][0]["problems"]] == ["empty_package"]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "a.zip", build(Part()))

    status, lines = run(str(tmp_path / "missing.zip"), path)

    assert status == 2
    assert [line["file"] for line in lines] == [path]
    assert "missing.zip: No such file" in capsys.readouterr().err


def test_lines_are_plain_ascii_whatever_the_names_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "a.zip", build(Part("Müller\u202e.src")))

    main([path])

    assert capsys.readouterr().out.isascii()
