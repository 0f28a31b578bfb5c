"""A ZIP that the server packed: every file in it against the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Final

from veripost.archive import FileSource, Limits, inspect
from veripost_client.errors import Mismatch

# The server packs what it has accepted, under whatever limits its operator set: only hashes count here.
_ANY: Final = 1 << 62
_LIMITS: Final = Limits(
    archive_bytes=_ANY,
    entries=1 << 20,
    directory_bytes=1 << 28,
    member_bytes=_ANY,
    total_bytes=_ANY,
    ratio=1 << 20,
)


def check_bundle(file: BinaryIO, recorded: Mapping[str, str]) -> None:
    """Compare a bundle's members with the record's names and SHA-256 hashes (hex).

    Raises
    ------
    Mismatch
        The archive breaks a rule, or a file is missing, too many, or not what the record names.
    """
    report = inspect(FileSource(file), _LIMITS)
    found = {member.member.name: member.sha256 for member in report.members}
    wrong = sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name))
    if wrong or not report.accepted:
        faults = [problem.message for problem in report.problems] or [f"not as recorded: {', '.join(wrong)}"]
        raise Mismatch(
            "The bundle that came is not what the record names, so it was thrown away.",
            code="bundle_mismatch",
            detail="; ".join(faults[:5]),
        )
