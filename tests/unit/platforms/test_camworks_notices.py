"""Notices on whole packages: what is odd, what is not, and that nothing of it refuses."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from localcloud import samples
from veripost.errors import ProblemCode, Severity
from veripost.platforms.camworks import ParseLimits, parse
from veripost.platforms.camworks_notices import notices


def found(
    files: Mapping[str, str], limits: ParseLimits | None = None
) -> list[tuple[str, str | None, str | None]]:
    sources = {
        path: parse([text.encode()], limits)
        for path, text in files.items()
        if path.casefold().endswith((".src", ".lib"))
    }
    problems = notices(list(files), sources)
    assert all(problem.severity is Severity.NOTICE for problem in problems)
    return [(problem.code.value, problem.member, problem.detail) for problem in problems]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"p/A.SRC": "", "p/a.ctl": "", "p/A.LNG": "", "A.kin": "", "A.ATR": "", "A.PINF": ""}, []),
        ({"A.SRC": "", "B.SRC": "", "B.CTL": ""}, []),
        ({"A.SRC": "", "x/B.CTL": ""}, [("ctl_without_src", "x/B.CTL", "no .SRC is called 'b'")]),
        ({"A.SRC": "", "B.LNG": ""}, [("stem_mismatch", "B.LNG", "names of the .SRC files: a")]),
        ({"A.LIB": ""}, [("stem_mismatch", "A.LIB", "names of the .SRC files: (none)")]),
        ({"A.SRC": ":LIBRARY=C:\\x\\b.lib", "p/B.LIB": ""}, []),
        ({"A.SRC": ":LIBRARY=..\\MILL.LIB"}, [("library_missing", "A.SRC", "..\\MILL.LIB")]),
        ({"A.SRC": ":INCLUDE=X\n:LIBRARY=X\n:LIBRARY=Y"}, [("library_missing", "A.SRC", "X, Y")]),
        ({"A.SRC": ":SECTION=X\n*\n:SECTION=X"}, [("section_defined_twice", "A.SRC", "X (lines 1, 3)")]),
        ({"A.SRC": ":SECTION=X\n*:SECTION=X\n:SECTION=x"}, []),
        ({"A.SRC": ":SECTION=X", "A.LIB": ":SECTION=X"}, []),
        ({"A.SRC": ":SECTION=CALC_A\n:C: CALL(B)"}, [("call_unresolved", "A.SRC", "B")]),
        ({"A.SRC": ":SECTION=CALC_A\n:C: CALL(calc_a)"}, []),
        ({"A.SRC": ":SECTION=CALC_A\n:C: CALL(B)", "A.LIB": ":SECTION=B"}, []),
        ({"A.SRC": ":SECTION=A\n:T:1\n*:C: CALL(B)"}, []),
    ],
)  # fmt: skip
def test_notices(files: Mapping[str, str], expected: list[tuple[str, str, str]]) -> None:
    assert found(files) == expected


def test_long_lists_are_cut_and_counted() -> None:
    calls = "".join(f":C: CALL(X{number})\n" for number in range(25))
    [(code, _, detail)] = found({"A.SRC": f":SECTION=CALC_A\n{calls}"})
    assert code == ProblemCode.CALL_UNRESOLVED
    assert detail == "X0, X1, X2, X3, X4, X5, X6, X7, X8, X9 and 15 more"


def test_calls_are_not_judged_when_not_every_section_is_known() -> None:
    files = {"A.SRC": ":SECTION=CALC_A\n:C: CALL(B)\n:SECTION=B\n"}
    assert found(files, ParseLimits(facts=2)) == []


def test_a_message_is_a_sentence() -> None:
    files = {"A.SRC": parse([b":SECTION=CALC_A\n:C: CALL(B)\n:SECTION=CALC_A\n:LIBRARY=C"])}
    assert [problem.message for problem in notices(["A.SRC"], files)] == [
        "In “A.SRC”, 1 section is defined more than once.",
        "“A.SRC” includes 1 library that this package does not hold.",
        "“A.SRC” calls 1 section that no file of this package defines.",
    ]


def test_a_sample_package_is_in_order() -> None:
    files = samples.post_processor("MILL")
    sources = {path: parse([data]) for path, data in files.items() if path.endswith((".SRC", ".LIB"))}
    assert notices(list(files), sources) == []
