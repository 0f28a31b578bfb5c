"""Checks a mere list of names and sizes: what the gate would say of an archive of these."""

from __future__ import annotations

from collections.abc import Sequence

from veripost.archive.entries import (
    Directory,
    count_problems,
    folder_problems,
    size_problems,
    total_problems,
)
from veripost.archive.findings import Findings
from veripost.archive.limits import Limits
from veripost.archive.names import clash_problems, name_problems


def check_listing(rows: Sequence[tuple[str, int]], limits: Limits) -> Directory:
    """Return the verdict on `rows` of (path, uncompressed size in bytes), in the order of the archive.

    The same functions in the same order as for a directory that says so, so that the findings are equal; what
    only an archive has (encryption, ratio, checksums, structure) cannot be found. `members` stays empty, and
    `readable` tells whether the gate would go on to the members.
    """
    findings = Findings(limits.problems)
    findings.extend(count_problems(len(rows), limits))
    total = 0
    if not findings.has_errors:
        names, raw_names = [name for name, _ in rows], [name.encode() for name, _ in rows]
        for raw, (name, size) in zip(raw_names, rows, strict=True):
            findings.extend(name_problems(raw, name, limits))
            findings.extend(folder_problems(name, size))
        for name, size in rows:
            findings.extend(size_problems(name, size, limits))
            total += size
        findings.extend(total_problems(total, limits))
        findings.extend(clash_problems(names, raw_names, limits))
    return Directory(
        members=(),
        problems=findings.listed(),
        unlisted=findings.unlisted_errors,
        readable=len(rows) <= limits.entries and total <= limits.total_bytes,
        directory_offset=0,
        size=0,
        comment=b"",
    )
