"""The platform's rules on bare file lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from veripost.errors import ProblemCode, Severity
from veripost.platforms import registry, rules
from veripost.platforms.registry import CAMWORKS


def _select(*paths: str) -> rules.Selection:
    return rules.select(CAMWORKS, [(path, 1) for path in paths])


def _found(selection: rules.Selection) -> list[tuple[ProblemCode, str | None]]:
    return [(p.code, p.member) for p in selection.problems if p.severity is Severity.ERROR]


def test_a_whole_package_is_flattened_and_named_after_its_first_source() -> None:
    selection = _select(
        "post/", "post/b.LIB", "post/sub/Z.SRC", "post/Mill.src", "x.ctl", "x.kin", "x.atr", "x.pinf", "x.lng"
    )
    assert _found(selection) == []
    assert [file.filename for file in selection.files][:2] == ["b.LIB", "Z.SRC"]
    assert selection.files[0].index == 1
    assert selection.name == "Mill"


@pytest.mark.parametrize(
    "path",
    [
        "__MACOSX/a.SRC",
        "x/__MACOSX/._a.SRC",
        "._a.SRC",
        ".DS_Store",
        "sub/.DS_Store",
        "Thumbs.db",
        "THUMBS.DB",
    ],
)
def test_junk_is_skipped_with_a_notice(path: str) -> None:
    selection = _select("a.SRC", path)
    assert _found(selection) == []
    assert [file.path for file in selection.files] == ["a.SRC"]
    assert [(p.code, p.member) for p in selection.problems] == [(ProblemCode.JUNK_SKIPPED, path)]


@pytest.mark.parametrize("path", ["a.nc", "a.NC", "notes.txt", "README", ".SRC", "a.SRC.exe", "a."])
def test_other_extensions_are_refused(path: str) -> None:
    assert _found(_select("ok.SRC", path)) == [(ProblemCode.FORBIDDEN_EXTENSION, path)]


def test_a_source_is_required() -> None:
    assert _found(_select("a.LIB")) == [(ProblemCode.REQUIRED_FILE_MISSING, None)]


def test_every_problem_is_reported_at_once() -> None:
    selection = _select("a.nc", "b.exe", "x/a.LIB", "y/A.lib")
    assert _found(selection) == [
        (ProblemCode.FORBIDDEN_EXTENSION, "a.nc"),
        (ProblemCode.FORBIDDEN_EXTENSION, "b.exe"),
        (ProblemCode.NAME_COLLISION, "y/A.lib"),
        (ProblemCode.REQUIRED_FILE_MISSING, None),
    ]


def test_a_collision_names_both_paths() -> None:
    collision = next(p for p in _select("x/a.SRC", "y/A.src").problems)
    assert "x/a.SRC" in collision.message
    assert "y/A.src" in collision.message


@pytest.mark.parametrize(
    ("paths", "words"),
    [([], "empty"), (["folder/"], "empty"), (["__MACOSX/._a.SRC", ".DS_Store"], "operating system")],
)
def test_nothing_to_keep(paths: list[str], words: str) -> None:
    errors = [p for p in _select(*paths).problems if p.severity is Severity.ERROR]
    assert [p.code for p in errors] == [ProblemCode.EMPTY_PACKAGE]
    assert words in errors[0].message


def test_a_zip_in_the_zip_is_recognised() -> None:
    missing = [p for p in _select("post.zip").problems if p.code is ProblemCode.REQUIRED_FILE_MISSING]
    assert missing[0].hint is not None
    assert "ZIP inside" in missing[0].hint


def test_an_added_txt_is_recognised() -> None:
    forbidden = next(p for p in _select("ok.SRC", "post.LIB.txt").problems)
    assert forbidden.hint is not None
    assert "rename" in forbidden.hint


def test_extra_extensions_are_data() -> None:
    wider = registry.find("camworks", ["camworks:.cnf", "other:.xyz"])
    assert wider == replace(CAMWORKS, extensions=CAMWORKS.extensions | {".CNF"})
    assert registry.find("nobody") is None


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/b/Post 1.zip", "Post 1"),
        ("C:\\x\\post.zip", "post"),
        ("noext", "noext"),
        ("a/", "a"),
        ("", "unnamed"),
    ],
)
def test_stem(path: str, stem: str) -> None:
    assert rules.stem_of(path) == stem
