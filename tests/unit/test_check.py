"""What is said of a list of files is what ingestion says of a ZIP of them, in the same words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.archive.builder import FILE, FOLDER, Part, build
from veripost import uploads
from veripost.archive import Limits
from veripost.errors import NotAZip, PackageRefused, Problem, ProblemCode
from veripost.schemas import CheckPackage, CheckView
from veripost.uploads import UploadConfig

CONFIG = UploadConfig(Limits(), 3600, ())
SMALL = UploadConfig(
    dataclasses.replace(Limits(), entries=6, member_bytes=40, total_bytes=100, name_bytes=60, depth=3),
    3600,
    (),
)
Files = list[tuple[str, int]]


class LetIn(Exception):
    """The archive was accepted, and is about to be recorded."""


class _Recording:
    def begin(self) -> Any:
        raise LetIn


def _check(files: Files, config: UploadConfig = CONFIG, **fields: str) -> CheckView:
    listed = [{"name": name, "size_bytes": size} for name, size in files]
    return uploads.check(CheckPackage.model_validate({"files": listed, **fields}), config=config)


def _upload(files: Files, config: UploadConfig) -> tuple[bool, tuple[Problem, ...]]:
    parts = [
        Part(
            name,
            bytes(size),
            method=0,
            flags=0 if name.isascii() else 0x800,
            attributes=FOLDER if name.endswith("/") else FILE,
        )
        for name, size in files
    ]
    never: Any = _Recording()
    try:
        uploads.upload(
            "x.zip",
            "camworks",
            build(*parts),
            engine=never,
            storage=never,
            config=config,
            allow_duplicate=True,
        )
    except LetIn:
        return True, ()
    except (NotAZip, PackageRefused) as refused:
        return False, refused.problems
    raise AssertionError("neither recorded nor refused")


def _said(problems: Any) -> list[tuple[Any, ...]]:
    """Everything but the one detail that only an archive has: the checksum of a folder that has content."""
    return [
        (p.code, p.severity, p.member, p.message, p.hint)
        + ((p.detail,) if p.code != ProblemCode.FOLDER_WITH_DATA else ())
        for p in problems
    ]


def _assert_the_same(files: Files, config: UploadConfig = CONFIG) -> CheckView:
    view = _check(files, config)
    accepted, problems = _upload(files, config)
    assert view.accepted == accepted
    if not accepted:
        assert _said(view.problems) == _said(problems)
    return view


@pytest.mark.parametrize(
    ("files", "codes"),
    [
        ([("A.SRC", 10)], []),
        ([("MILL/A.SRC", 10), ("MILL/", 0), ("__MACOSX/._A.SRC", 5)], ["junk_skipped"]),
        ([], ["empty_package"]),
        ([(".DS_Store", 1)], ["junk_skipped", "empty_package"]),
        ([("A.LIB", 1)], ["required_file_missing"]),
        ([("A.SRC", 1), ("b.nc", 1), ("c", 1)], ["forbidden_extension"] * 2),
        ([("a/A.SRC", 1), ("b/a.src", 1)], ["name_collision"]),
        ([("../A.SRC", 1), ("/B.SRC", 1), ("C:\\D.SRC", 1)],
         ["name_traversal", "name_absolute", "name_backslash", "name_drive"]),
        ([("", 1), ("A.SRC", 1)], ["name_empty", "forbidden_extension"]),
        ([("A.SRC", 1), ("A.SRC", 1)], ["duplicate_name", "name_collision"]),
        ([("Ａ.SRC", 1), ("A.SRC", 1)], ["lookalike_name"]),
        ([("A.SRC", 1), ("A.SRC/B.LIB", 1)], ["file_and_folder"]),
        ([("A.SRC", 1), ("x/", 3)], ["folder_with_data"]),
        ([("A\x00.SRC", 1), ("B\u202eC.SRC", 1)], ["name_nul", "name_bidi"]),
        ([("A.SRC.txt", 1)], ["forbidden_extension", "required_file_missing"]),
        ([("all.zip", 1)], ["forbidden_extension", "required_file_missing"]),
        ([(f"{number}.nc", 1) for number in range(300)],
         ["forbidden_extension"] * 100 + ["more_problems"]),
    ],
)  # fmt: skip
def test_each_rule(files: Files, codes: list[str]) -> None:
    assert [problem.code for problem in _assert_the_same(files).problems] == codes


@pytest.mark.parametrize(
    ("files", "codes"),
    [
        ([("A.SRC", 41)], ["member_too_large"]),
        ([("A.SRC", 40), ("B.LIB", 40), ("C.nc", 40)], ["total_too_large"]),
        ([(f"A{number}.SRC", 1) for number in range(7)], ["too_many_entries"]),
        ([("A.SRC", 1), ("a/b/c/d/e.LIB", 1), ("x" * 70 + ".LIB", 1)], ["name_too_deep", "name_too_long"]),
    ],
)
def test_each_limit(files: Files, codes: list[str]) -> None:
    assert [problem.code for problem in _assert_the_same(files, SMALL).problems] == codes


_NAMES = st.one_of(
    st.sampled_from(["A.SRC", "a.src", "B.LIB", "d/A.SRC", "d/", "d", "..", "../x.SRC", ".DS_Store", "x.nc"]),
    st.text(st.sampled_from("aA.SRCß/\\ :\x00İＡ\u200b\u202e"), max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(_NAMES, st.integers(0, 60)), max_size=8))
def test_any_list_is_judged_as_its_archive(files: Files) -> None:
    _assert_the_same(files)
    _assert_the_same(files, SMALL)


def test_an_unknown_platform_is_a_finding_like_any_other() -> None:
    view = _check([("A.SRC", 1)], platform="nobody")
    assert not view.accepted
    assert [problem.code for problem in view.problems] == ["unknown_platform"]


def test_the_name_is_what_the_package_would_be_called() -> None:
    assert _check([("z/LATHE.SRC", 1), ("a/MILL.SRC", 1)]).name == "MILL"
    assert _check([("A.LIB", 1)]).name is None
