"""The whole check of an archive in one call: directory, then every member, all problems in one list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from veripost.archive.directory import read_directory
from veripost.archive.entries import CONTENT_CODES, Directory, Member
from veripost.archive.findings import Findings
from veripost.archive.limits import Limits, MiB
from veripost.archive.reader import MemberReader
from veripost.archive.source import Source
from veripost.errors import Problem, ProblemCode, has_errors

_WINDOW_BYTES: Final = 1 * MiB


@dataclass(frozen=True, slots=True)
class MemberReport:
    """A member with the verdict on its bytes; `sha256` (hex) is empty unless it is verified."""

    member: Member
    sha256: str
    size: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the gate has to say of an archive; `problems` are those of directory and members."""

    directory: Directory
    members: tuple[MemberReport, ...]
    problems: tuple[Problem, ...]

    @property
    def accepted(self) -> bool:
        """Tell whether every rule was kept and every member is verified."""
        return not has_errors(self.problems)


def inspect(source: Source, limits: Limits) -> Report:
    """Check the archive in `source` completely, keeping no member's content.

    Never raises for what the bytes are; raises only what the source raises.
    """
    directory = read_directory(source, limits)
    reports = []
    if directory.readable:
        spans = _Spans(source)
        for member in directory.members:
            reader = MemberReader(member, spans.of(member), limits)
            for _ in reader:
                pass
            reports.append(MemberReport(member, reader.sha256, reader.size, reader.problems))
    problems = merge(directory, (problem for report in reports for problem in report.problems), limits)
    return Report(directory, tuple(reports), problems)


def merge(directory: Directory, others: Iterable[Problem], limits: Limits) -> tuple[Problem, ...]:
    """Return the directory's problems and `others` (of members, of a platform) as one list.

    Each once, and capped as `limits` says: what a reader repeats from the directory is not counted again.
    """
    findings = Findings(limits.problems)
    findings.extend(
        problem for problem in directory.problems if problem.code is not ProblemCode.MORE_PROBLEMS
    )
    findings.count_unlisted(directory.unlisted)
    findings.extend(problem for problem in others if problem.code not in CONTENT_CODES)
    return findings.listed()


class _Spans:
    """Cuts members' spans out of the source, reading neighbours that are small together."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._window = b""
        self._start = 0

    def of(self, member: Member) -> Iterable[bytes]:
        """Return the bytes of the member's span in pieces of at most 1 MiB."""
        start, end = member.header_offset, member.end_offset
        if end - start > _WINDOW_BYTES:
            return self._pieces(start, end)
        if not self._start <= start <= end <= self._start + len(self._window):
            self._window = self._source.read_at(start, min(_WINDOW_BYTES, self._source.size - start))
            self._start = start
        return (self._window[start - self._start : end - self._start],)

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        for offset in range(start, end, _WINDOW_BYTES):
            yield self._source.read_at(offset, min(_WINDOW_BYTES, end - offset))
