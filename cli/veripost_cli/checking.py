"""The server's verdict without the server: the same gate, the same rules, the same words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veripost.archive import FileSource, Limits, inspect, merge
from veripost.errors import Problem, has_errors
from veripost.platforms.registry import Platform
from veripost.platforms.rules import select


@dataclass(frozen=True, slots=True)
class CheckedMember:
    """A member of an archive; `sha256` (hex) is None unless it is verified. `size` is in bytes."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say of an archive; `files` counts those that belong to the package."""

    accepted: bool
    problems: tuple[Problem, ...]
    members: tuple[CheckedMember, ...]
    files: int


def check(path: Path, platform: Platform) -> Verdict:
    """Judge the archive at `path` by the server's standard limits. Raises `OSError`."""
    limits = Limits()
    with path.open("rb") as file:
        report = inspect(FileSource(file), limits)
    hashes = {member.member.index: member.sha256 for member in report.members}
    members = tuple(
        CheckedMember(member.name, member.size, hashes.get(member.index) or None)
        for member in report.directory.members
    )
    if not report.directory.readable:
        return Verdict(False, report.problems, members, 0)
    selection = select(platform, [(member.name, member.size) for member in report.directory.members])
    found = [problem for member in report.members for problem in member.problems]
    problems = merge(report.directory, (*selection.problems, *found), limits)
    return Verdict(not has_errors(problems), problems, members, len(selection.files))
