"""Each hazard is refused, for exactly the reasons that its row names, however its bytes arrive."""

from __future__ import annotations

import pytest

from tests.unit.archive.hazards import HAZARDS, Hazard
from veripost.archive import BytesSource, Limits, MemberReader, inflate, inspect, read_directory
from veripost.archive.findings import WORDING
from veripost.errors import Problem, ProblemCode, Severity

LIMITS = Limits()
ROWS = pytest.mark.parametrize("row", HAZARDS, ids=lambda row: row.name)


def found(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    return sorted((problem.code.value, problem.member or "") for problem in problems)


def wanted(row: Hazard) -> list[tuple[str, str]]:
    return sorted((code.value, member or "") for code, member in row.found)


@ROWS
def test_is_refused_for_exactly_what_is_wrong(row: Hazard) -> None:
    report = inspect(BytesSource(row.data), LIMITS)

    assert found(report.problems) == wanted(row)
    assert not report.accepted
    assert all(problem.severity is Severity.ERROR for problem in report.problems)


@ROWS
def test_is_refused_alike_with_the_standard_librarys_inflate(
    row: Hazard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflate, "new_inflater", inflate.ZlibInflater)

    report = inspect(BytesSource(row.data), LIMITS)

    assert found(report.problems) == wanted(row)


@ROWS
@pytest.mark.parametrize("step", [1, 13])
def test_is_refused_alike_in_small_pieces(row: Hazard, step: int) -> None:
    directory = read_directory(BytesSource(row.data), LIMITS)
    if len(row.data) > 100_000:
        step *= 1000
    members = directory.members if directory.readable else ()
    problems = set(directory.problems)
    for member in members:
        span = row.data[member.header_offset : member.end_offset]
        reader = MemberReader(member, (span[at : at + step] for at in range(0, len(span), step)), LIMITS)
        content = b"".join(reader)
        problems.update(reader.problems)

        assert reader.size == len(content) <= member.size
        assert bool(reader.sha256) == (not reader.problems)

    assert found(tuple(problems)) == wanted(row)


@ROWS
def test_is_told_in_words_that_help(row: Hazard) -> None:
    for problem in inspect(BytesSource(row.data), LIMITS).problems:
        assert problem.message.endswith((".", ")"))
        assert problem.hint
        assert problem.detail
        told = f"{problem.member}{problem.message}{problem.hint}{problem.detail}"
        assert told.isprintable()
        assert "None" not in problem.message
        assert "{" not in problem.message


def test_every_code_of_the_gate_has_a_row() -> None:
    # These three need other limits: test_limits.py.
    elsewhere = {ProblemCode.ARCHIVE_TOO_LARGE, ProblemCode.TOTAL_TOO_LARGE, ProblemCode.MORE_PROBLEMS}

    assert {code for row in HAZARDS for code, _ in row.found} == set(WORDING) - elsewhere


def test_there_are_enough_rows_and_no_two_alike() -> None:
    assert len(HAZARDS) >= 120
    assert len({row.name for row in HAZARDS}) == len(HAZARDS)
    assert len({row.data for row in HAZARDS}) == len(HAZARDS)
