"""What can go wrong, in one tree, and how it is told to people.

    AppError
    ├── InvalidRequest        the request itself is malformed
    │   └── NotAZip           what was sent is no ZIP archive at all
    ├── NotFound              nothing has that id, or no such route
    ├── Conflict              the thing exists, but its state forbids this
    ├── TooLarge              more bytes than this door takes
    ├── UnsupportedMedia      a body type this route does not read
    ├── PackageRefused        the archive was read and has problems (all of them are listed)
    ├── LeaseLost             another worker owns the job now; this one must stop writing
    └── Unavailable           a part we depend on is down; trying again later helps

This module knows no HTTP: `veripost.api` maps each class to a status.
Every error carries a stable `code`, a friendly `message` and a technical `detail`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs: an `error` refuses the package, a `notice` only informs."""

    ERROR = "error"
    NOTICE = "notice"


class ProblemCode(StrEnum):
    """Stable names of everything that can be found in a package. `docs/problems.md` explains each."""

    # -- the platform's rules (veripost.platforms.rules)
    FORBIDDEN_EXTENSION = "forbidden_extension"
    REQUIRED_FILE_MISSING = "required_file_missing"
    NAME_COLLISION = "name_collision"
    EMPTY_PACKAGE = "empty_package"
    JUNK_SKIPPED = "junk_skipped"
    UNKNOWN_PLATFORM = "unknown_platform"

    # -- the archive gate (veripost.archive)
    NOT_A_ZIP = "not_a_zip"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a package.

    `member` is the path inside the archive (None: the archive as a whole), `message` is for a
    machinist, `detail` for whoever debugs (offsets, sizes, header values), `hint` says what to do.
    """

    code: ProblemCode
    severity: Severity
    member: str | None
    message: str
    detail: str | None = None
    hint: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return the JSON form used in the database, the API and the command line."""
        return asdict(self)


def has_errors(problems: Iterable[Problem]) -> bool:
    """Tell whether any finding refuses the package."""
    return any(problem.severity is Severity.ERROR for problem in problems)


class AppError(Exception):
    """Base of everything VeriPost raises on purpose."""

    code = "internal_error"
    message = "Something went wrong on our side. Please try again."

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        detail: str | None = None,
        problems: Iterable[Problem] = (),
    ) -> None:
        self.code = code or type(self).code
        self.message = message or type(self).message
        self.detail = detail
        self.problems = tuple(problems)
        super().__init__(f"{self.code}: {self.message}" + (f" ({detail})" if detail else ""))


class InvalidRequest(AppError):
    """The request is malformed: a field is missing, has the wrong type or is out of range."""

    code = "invalid_request"
    message = "The request could not be understood."


class NotAZip(InvalidRequest):
    """What was sent does not start or end like a ZIP archive."""

    code = "not_a_zip"
    message = "This file is not a ZIP archive."


class NotFound(AppError):
    """Nothing has that id, or no such route exists."""

    code = "not_found"
    message = "There is nothing at this address."


class Conflict(AppError):
    """The thing exists, but its present state forbids what was asked."""

    code = "conflict"
    message = "The package is not in a state that allows this."


class TooLarge(AppError):
    """More bytes than this door takes."""

    code = "too_large"
    message = "The file is too large for this way of uploading."


class UnsupportedMedia(AppError):
    """The body is of a type that this route does not read."""

    code = "unsupported_media_type"
    message = "This route does not read a body of that type."


class PackageRefused(AppError):
    """The archive was read and cannot be accepted; `problems` lists everything found."""

    code = "package_refused"
    message = "The package was refused."


class LeaseLost(AppError):
    """Another worker took the job over; whoever holds this error must not write any more."""

    code = "lease_lost"
    message = "Another worker has taken over this package."


class Unavailable(AppError):
    """A part we depend on (database, storage, queue) does not answer; trying again later helps."""

    code = "unavailable"
    message = "VeriPost cannot reach one of its parts right now. Please try again in a moment."
