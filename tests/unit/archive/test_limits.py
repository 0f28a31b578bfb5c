"""Every limit holds exactly: what reaches it is accepted, one more is refused, and at no cost."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import pytest

from tests.unit.archive.builder import Part, build, deflate
from veripost.archive import BytesSource, Limits, MemberReader, inspect, merge, read_directory
from veripost.errors import Problem, ProblemCode, Severity

TEXT = b"N10 G00 X0 Y0\n" * 20
ONE = build(Part(), comment=b"ab")
THREE = build(Part("posts/mill/a.src"), Part("b.src"), Part("c.src"))
ROWS = [
    (ONE, "archive_bytes", len(ONE), ProblemCode.ARCHIVE_TOO_LARGE, None),
    (THREE, "entries", 3, ProblemCode.TOO_MANY_ENTRIES, None),
    (ONE, "directory_bytes", 51, ProblemCode.DIRECTORY_TOO_LARGE, None),
    (ONE, "member_bytes", len(TEXT), ProblemCode.MEMBER_TOO_LARGE, "a.src"),
    (THREE, "total_bytes", 3 * len(TEXT), ProblemCode.TOTAL_TOO_LARGE, None),
    (ONE, "comment_bytes", 2, ProblemCode.COMMENT_TOO_LONG, None),
    (THREE, "name_bytes", 16, ProblemCode.NAME_TOO_LONG, "posts/mill/a.src"),
    (THREE, "segment_bytes", 5, ProblemCode.NAME_PART_TOO_LONG, "posts/mill/a.src"),
    (THREE, "depth", 3, ProblemCode.NAME_TOO_DEEP, "posts/mill/a.src"),
]


@pytest.mark.parametrize(("data", "limit", "reached", "code", "member"), ROWS, ids=[row[1] for row in ROWS])
def test_limit_holds_exactly(
    data: bytes, limit: str, reached: int, code: ProblemCode, member: str | None
) -> None:
    within = inspect(BytesSource(data), replace(Limits(), **{limit: reached}))
    beyond = inspect(BytesSource(data), replace(Limits(), **{limit: reached - 1}))

    assert within.accepted
    assert (code, member) in [(problem.code, problem.member) for problem in beyond.problems]


def test_ratio_counts_above_its_floor_only() -> None:
    data = build(Part(data=bytes(100_000), packed=deflate(bytes(100_000))))
    packed = len(deflate(bytes(100_000)))
    exact = Limits(ratio=-(-100_000 // packed), ratio_floor_bytes=99_999)

    assert inspect(BytesSource(data), exact).accepted
    assert inspect(BytesSource(data), replace(exact, ratio=2, ratio_floor_bytes=100_000)).accepted
    refused = inspect(BytesSource(data), replace(exact, ratio=exact.ratio - 1))
    assert [(p.code, p.member) for p in refused.problems] == [(ProblemCode.RATIO_TOO_HIGH, "a.src")]


def test_a_member_beyond_a_limit_is_not_unpacked_at_all() -> None:
    data = build(Part(data=bytes(4 << 20)))
    (member,) = read_directory(BytesSource(data), Limits()).members

    reader = MemberReader(member, [data[: member.end_offset]], Limits())

    assert list(reader) == []
    assert [problem.code for problem in reader.problems] == [ProblemCode.RATIO_TOO_HIGH]


def test_members_of_too_large_a_total_are_listed_but_not_read() -> None:
    report = inspect(BytesSource(THREE), Limits(total_bytes=100))

    assert not report.directory.readable
    assert report.members == ()
    assert [member.name for member in report.directory.members] == ["posts/mill/a.src", "b.src", "c.src"]


def test_problems_beyond_the_cap_are_counted() -> None:
    data = build(*[Part(f"../{number}.src", flags=1) for number in range(150)])

    report = inspect(BytesSource(data), Limits(problems=100))

    assert len(report.problems) == 101
    assert report.problems[-1].code is ProblemCode.MORE_PROBLEMS
    assert report.problems[-1].message == "There are 200 more problems than are listed here."
    assert report.directory.problems == report.problems
    assert report.directory.unlisted == 200


def test_problems_of_directory_and_members_are_capped_together() -> None:
    packed = deflate(TEXT) + b"\0"
    data = build(*[Part(f"../{number}.src", packed=packed) for number in range(80)])

    report = inspect(BytesSource(data), Limits(problems=100))

    assert [problem.code for problem in report.problems[78:82]] == [
        ProblemCode.NAME_TRAVERSAL,
        ProblemCode.NAME_TRAVERSAL,
        ProblemCode.DATA_AFTER_STREAM,
        ProblemCode.DATA_AFTER_STREAM,
    ]
    assert report.problems[-1].message == "There are 60 more problems than are listed here."


def test_remarks_do_not_crowd_out_errors() -> None:
    notice = Problem(ProblemCode.JUNK_SKIPPED, Severity.NOTICE, "._a", "junk")
    notices = [replace(notice, member=f"._{number}") for number in range(150)]
    error = Problem(ProblemCode.REQUIRED_FILE_MISSING, Severity.ERROR, None, "no .SRC")

    merged = merge(read_directory(BytesSource(ONE), Limits()), [*notices, error], Limits())

    assert error in merged
    assert len(merged) == 102
    assert merged[-1].severity is Severity.NOTICE
    assert merged[-1].message == "There are 50 more remarks than are listed here."


def _cost(data: bytes) -> tuple[float, int]:
    inspect(BytesSource(data), Limits())
    tracemalloc.start()
    try:
        inspect(BytesSource(data), Limits())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    start = time.process_time()  # not the clock on the wall: other tests may run beside
    inspect(BytesSource(data), Limits())
    return time.process_time() - start, peak


def test_a_small_bomb_costs_milliseconds_and_kilobytes() -> None:
    """42 kB that declare terabytes, as overlapping entries, as one huge member, and as nested archives."""
    packed = deflate(bytes(40 << 20))[:41_000]
    overlapping = build(
        Part(packed=bytes(20_000), central={"size": 1 << 30}),
        *[Part(f"{n}.src", ghost=True, central={"offset": 0, "size": 1 << 30}) for n in range(350)],
    )
    huge = build(Part(packed=packed, local={"size": 1 << 31}, central={"size": 1 << 31}))
    lying = build(Part(data=bytes(1000), packed=packed))
    nested = build(*[Part(f"{n}.zip", huge, method=0) for n in range(1)])

    for bomb in (overlapping, huge, lying, nested):
        seconds, peak = _cost(bomb)

        assert len(bomb) < 50_000
        assert seconds < 0.1
        assert peak < 1_000_000


def test_many_small_bombs_are_a_bomb() -> None:
    """Each member is below the floor of the ratio; together they would unpack 1000 times their size."""
    zeros, packed = bytes(1 << 20), deflate(bytes(1 << 20))
    data = build(*[Part(f"{number}.src", zeros, packed=packed) for number in range(20)])

    report = inspect(BytesSource(data), Limits())

    assert [(problem.code, problem.member) for problem in report.problems] == [
        (ProblemCode.RATIO_TOO_HIGH, None)
    ]
    assert report.members == ()


@pytest.mark.parametrize(
    "data",
    [
        build(Part(b"a/" * 20_000)),
        build(*[Part(b"%d/" % number + b"a/" * 30_000) for number in range(15)]),
        build(*[Part("\u0378" * 10_000 + str(number)) for number in range(30)]),
        build(*[Part(b"%d" % number, central_extra=bytes(65_532)) for number in range(15)]),
        build(
            *[
                Part(f"../\\/{number}", flags=0x61, attributes=0o120000 << 16, data=b"")
                for number in range(3_000)
            ]
        ),
        build(*[Part(f"{number}", packed=b"\xff", data=b"") for number in range(3_000)]),
        build(*[Part(f"{number}", local_name=b"x" * 100, data=b"") for number in range(2_000)]),
        build(*[Part(b"\xff" * 100, flags=0x800, data=b"") for number in range(1_500)]),
        build(Part(), comment=b"PK\5\6" * 16_000),
        build(Part(data=bytes(100), packed=deflate(b"", 0)[:-5] + b"\0\0\0\xff\xff" * 190_000)),
    ],
    ids=[
        "deep",
        "deep, often",
        "unassigned",
        "extras",
        "names",
        "corrupt",
        "local names",
        "bytes",
        "ends",
        "blocks",
    ],
)
def test_what_costs_most_per_byte_is_still_cheap(data: bytes) -> None:
    seconds, peak = _cost(data)

    assert len(data) < 2_100_000
    assert seconds < 2 * len(data) / 1e6
    assert peak < 20 * len(data)
