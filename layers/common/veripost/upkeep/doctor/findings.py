"""What the doctor can find, and the report that it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from veripost.errors import printable

MOST_FINDINGS: Final = 1000
MOST_REPORT_BYTES: Final = 800_000  # of findings, as JSON: a report must fit into one answer of the API


class Kind(StrEnum):
    """Stable names of the findings."""

    OBJECT_WITHOUT_ROW = "object_without_row"
    ROW_WITHOUT_OBJECT = "row_without_object"
    SIZE_MISMATCH = "size_mismatch"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    ORIGINAL_WITHOUT_ROW = "original_without_row"
    ROW_WITHOUT_ORIGINAL = "row_without_original"
    UNFINISHED_UPLOAD = "unfinished_upload"
    BUNDLE_WITHOUT_PACKAGE = "bundle_without_package"
    STUCK_PACKAGE = "stuck_package"


class Fix(StrEnum):
    """What can be done about a finding without losing anything."""

    DELETE = "delete"  # exactly the versions that were looked at
    ABORT = "abort"  # the unfinished upload, which frees its parts
    REPLAY = "replay"  # the package, from its original
    ANNOUNCE = "announce"  # the original once more, for ingestion to decide


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement. `fix` is what can be done about it (None: a person must look)."""

    kind: Kind
    bucket: str
    key: str
    package_id: UUID | None
    detail: str
    fix: Fix | None


@dataclass(slots=True)
class Report:
    """What was looked at and what was found so far. It can be written down and read back at any page."""

    objects: int = 0  # in the packages bucket: files and bundles
    rows: int = 0  # of files
    originals: int = 0  # object versions in the incoming bucket
    packages: int = 0
    left_alone: int = 0  # packages in work, which were not compared
    files_not_compared: int = 0  # as to their bytes; their sizes were
    originals_not_compared: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    fixed: int = 0
    gone_packages_cleared: int = 0  # packages without any row of which --fix deleted objects
    findings: list[dict[str, Any]] = field(default_factory=list)
    findings_bytes: int = 0  # as JSON
    truncated: bool = False  # there are more findings than are listed
    failures: int = 0  # attempts at the next page that failed
    error: str | None = None  # why the examination was given up before its end

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Report:
        """Return what `as_dict` gave, as a copy; an empty report for None."""
        known = {spec.name for spec in fields(cls)}  # another release may have written it
        return cls(**{name: deepcopy(value) for name, value in (stored or {}).items() if name in known})

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @property
    def found(self) -> int:
        """How many findings there are in all."""
        return sum(self.counts.values())

    def add(self, finding: Finding, *, fixed: bool) -> None:
        """Count a finding, and list it while there is room."""
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        self.fixed += fixed
        shown = {
            "kind": str(finding.kind),
            "bucket": finding.bucket,
            "key": printable(finding.key),
            "package_id": None if finding.package_id is None else str(finding.package_id),
            "detail": printable(finding.detail),
            "fix": None if finding.fix is None else str(finding.fix),
            "fixed": fixed,
        }
        size = len(json.dumps(shown)) + 2
        if len(self.findings) < MOST_FINDINGS and self.findings_bytes + size <= MOST_REPORT_BYTES:
            self.findings.append(shown)
            self.findings_bytes += size
        else:
            self.truncated = True
