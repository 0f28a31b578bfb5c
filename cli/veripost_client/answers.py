"""What the client itself tells, and what it is told to look for. The API's answers are `veripost.schemas`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID


@dataclass(frozen=True, slots=True)
class PackageFilter:
    """What to list: packages that match every field that is given. Times need a zone."""

    status: str | None = None
    platform: str | None = None
    machine: str | None = None
    controller: str | None = None
    extension: str | None = None
    name: str | None = None
    sha256: str | None = None
    created_since: datetime | None = None
    created_until: datetime | None = None
    sort: str | None = None

    def query(self) -> list[tuple[str, str]]:
        """Return the fields that are given as a query string's pairs."""
        pairs = ((name, getattr(self, name)) for name in self.__slots__)
        return [
            (name, value.isoformat() if isinstance(value, datetime) else str(value))
            for name, value in pairs
            if value is not None
        ]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has landed.

    `resumed`: an earlier, interrupted upload of it was gone on with. `duplicate`: the server had these very
    bytes as a ready package already, which this names; nothing was sent, and there is no job.
    """

    package_id: UUID
    job_id: UUID | None
    sha256: str
    size: int
    resumed: bool = False
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that was downloaded. `fresh` is false where the same content was there already.

    `verified` is false only for an archive of which the server knows no hash.
    """

    path: Path
    size: int
    sha256: str
    fresh: bool
    verified: bool = True


class State(StrEnum):
    """How a file in a folder compares with the record."""

    SAME = "same"
    DIFFERENT = "different"
    MISSING = "missing"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One file of a record or of the folder it was compared with; hashes are SHA-256 in hex."""

    filename: str
    state: State
    recorded: str | None
    found: str | None
