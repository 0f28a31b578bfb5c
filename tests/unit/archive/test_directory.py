"""How the directory is read: in as few reads as can be, of any source, and never with an exception."""

from __future__ import annotations

import hashlib
import io
import random

import pytest

from tests.unit.archive.builder import Part, build
from veripost.archive import BytesSource, FileSource, Limits, inspect, read_directory
from veripost.errors import ProblemCode

ONE = build(Part())


class CountingSource(BytesSource):
    """Remembers what was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return super().read_at(offset, length)


def test_a_small_archive_is_one_read() -> None:
    source = CountingSource(ONE)

    assert read_directory(source, Limits()).accepted
    assert source.reads == [(0, len(ONE))]


def test_a_large_archive_with_a_small_directory_is_one_read_of_its_tail() -> None:
    data = build(Part(data=bytes(range(256)) * 4000, method=0))
    source = CountingSource(data)

    assert read_directory(source, Limits()).accepted
    assert source.reads == [(len(data) - 65_633, 65_633)]


def test_a_large_directory_is_read_once() -> None:
    data = build(*[Part(f"{number:06}.src", b"") for number in range(3000)])
    source = CountingSource(data)
    directory = read_directory(source, Limits())

    assert directory.accepted
    (first_at, first_length), (rest_at, rest_length) = source.reads
    assert first_at + first_length == len(data)
    assert (rest_at, rest_at + rest_length) == (directory.directory_offset, first_at)


def test_a_file_is_a_source() -> None:
    with io.BytesIO(ONE) as file:
        assert inspect(FileSource(file), Limits()).accepted


@pytest.mark.parametrize("source", [BytesSource(b"abc"), FileSource(io.BytesIO(b"abc"))])
def test_a_source_never_gives_fewer_bytes_than_asked_for(source: BytesSource | FileSource) -> None:
    assert source.read_at(1, 2) == b"bc"
    with pytest.raises(EOFError, match="3 bytes wanted at 1, 2 there"):
        source.read_at(1, 3)


def test_failures_of_the_source_pass_through() -> None:
    class Broken(BytesSource):
        def read_at(self, offset: int, length: int) -> bytes:
            raise TimeoutError(offset, length)

    with pytest.raises(TimeoutError):
        read_directory(Broken(ONE), Limits())


def test_comment_and_places_are_reported() -> None:
    directory = read_directory(BytesSource(build(Part(), Part("b.src"), comment=b"hello")), Limits())

    assert directory.comment == b"hello"
    assert directory.entries_offset == 0
    assert [member.end_offset for member in directory.members][-1] == directory.directory_offset
    assert directory.readable
    assert directory.unlisted == 0


def test_other_problems_do_not_hide_what_is_wrong_with_the_content() -> None:
    report = inspect(BytesSource(build(Part("../a.src", packed=b"\xff" * 9))), Limits())

    assert [problem.code for problem in report.problems] == [
        ProblemCode.NAME_TRAVERSAL,
        ProblemCode.DEFLATE_CORRUPT,
    ]


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"", "empty"),
        (b"Rar!\x1a\x07\0", "RAR"),
        (b"7z\xbc\xaf\x27\x1c\0", "7-Zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"a".ljust(257, b"\0") + b"ustar\x0000", "tar"),
        (b"\xef\xbb\xbf\r\n <HTML><body>404", "web page"),
        (b"<!doctype HTML>", "web page"),
        (b'<?xml version="1.0"?><Error/>', "answer from a server"),
        (b'{"message": "no"}', "answer from a server"),
        (b"MZ\x90\0", "Windows program"),
        (b"%PDF-1.4", "PDF"),
        (bytes(100), "zeros"),
        (b"N10 G00 X0 Y0\r\n", "plain text"),
        (bytes(range(256)), "not a ZIP archive"),
    ],
)
def test_what_is_no_zip_is_called_by_its_name(head: bytes, word: str) -> None:
    (problem,) = read_directory(BytesSource(head), Limits()).problems

    assert problem.code is ProblemCode.NOT_A_ZIP
    assert word in problem.message
    assert problem.hint


def test_padding_is_told_from_other_data_behind_the_end() -> None:
    (padded,) = read_directory(BytesSource(ONE + bytes(100)), Limits()).problems
    (joined,) = read_directory(BytesSource(ONE + b"x" * 100), Limits()).problems

    assert padded.code is joined.code is ProblemCode.TRAILING_DATA
    assert "padded with zeros" in (padded.hint or "")
    assert "padded with zeros" not in (joined.hint or "")


def test_details_are_bounded() -> None:
    data = build(Part(b"x" * 60_000, local_name=b"y" * 60_000))

    for problem in inspect(BytesSource(data), Limits()).problems:
        assert len(problem.detail or "") <= 1001
        assert len(problem.member or "") <= 201


def test_what_is_there_three_times_is_told_once() -> None:
    problems = read_directory(BytesSource(build(Part(), Part(), Part())), Limits()).problems

    assert [problem.code for problem in problems] == [ProblemCode.DUPLICATE_NAME]


def test_members_of_all_sizes_are_inspected_in_one_pass_over_the_source() -> None:
    large = random.Random(3).randbytes(2_500_000)
    parts = [
        Part("small.src"),
        Part("large.src", large, method=0),
        Part("large.lib", large),
        Part("z/", b"", 0),
    ]
    data = build(*parts)
    source = CountingSource(data)

    report = inspect(source, Limits())

    assert report.accepted
    assert [verdict.sha256 for verdict in report.members] == [
        hashlib.sha256(part.data).hexdigest() for part in parts
    ]
    assert [verdict.member.is_dir for verdict in report.members] == [False, False, False, True]
    assert all(length <= 1 << 20 for _, length in source.reads)
    assert sum(length for _, length in source.reads) < len(data) + (1 << 20) + 70_000
