"""What can go wrong, in one tree, and how it is told to people.

    AppError
    ├── InvalidRequest        the request itself is malformed
    │   └── NotAZip           what was sent is no ZIP archive at all
    ├── InvalidFields         the request was read, but some fields hold values that cannot be
    ├── Unauthenticated       the request carries no API key that may be used
    ├── Forbidden             the key is good, but its scope does not reach so far
    ├── NotFound              nothing has that id, or no such route
    ├── Conflict              the thing exists, but its state forbids this
    │   └── BundleFailed      the package could not be put together as one ZIP
    ├── TooLarge              more bytes than this door takes
    ├── UnsupportedMedia      a body type this route does not read
    ├── PackageRefused        the archive was read and has problems (all of them are listed)
    ├── LeaseLost             another worker owns the job now; this one must stop writing
    ├── IngestFailed          we could not process a package that nothing is known to be wrong with
    └── Unavailable           a part we depend on is down; trying again later helps

This module knows no HTTP: `veripost.api` maps each class to a status.
Every error carries a stable `code`, a friendly `message` and a technical `detail`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    # -- what is odd about a CAMWorks package (veripost.platforms.camworks_notices)
    CTL_WITHOUT_SRC = "ctl_without_src"
    STEM_MISMATCH = "stem_mismatch"
    SECTION_DEFINED_TWICE = "section_defined_twice"
    CALL_UNRESOLVED = "call_unresolved"
    LIBRARY_MISSING = "library_missing"
    SOURCE_WARNINGS = "source_warnings"

    # -- reading what is stored (veripost.ingestion)
    PARTLY_READ = "partly_read"
    NOT_READ = "not_read"

    # -- the place where the package landed (veripost.ingestion)
    UNKNOWN_PLATFORM = "unknown_platform"
    ORIGINAL_MISSING = "original_missing"

    # -- the archive gate (veripost.archive)
    # The file as a whole
    NOT_A_ZIP = "not_a_zip"
    TRUNCATED_ARCHIVE = "truncated_archive"
    PREFIX_DATA = "prefix_data"
    TRAILING_DATA = "trailing_data"
    ARCHIVE_TOO_LARGE = "archive_too_large"
    COMMENT_TOO_LONG = "comment_too_long"
    COMMENT_SIGNATURE = "comment_signature"
    MULTI_DISK = "multi_disk"
    TOO_MANY_ENTRIES = "too_many_entries"
    ENTRY_COUNT_MISMATCH = "entry_count_mismatch"
    DIRECTORY_TOO_LARGE = "directory_too_large"
    DIRECTORY_MISPLACED = "directory_misplaced"
    DIRECTORY_OUT_OF_BOUNDS = "directory_out_of_bounds"
    DIRECTORY_CORRUPT = "directory_corrupt"
    DIRECTORY_SIGNED = "directory_signed"
    DIRECTORY_ENCRYPTED = "directory_encrypted"
    ZIP64_LOCATOR_MISSING = "zip64_locator_missing"
    ZIP64_RECORD_MISPLACED = "zip64_record_misplaced"
    ZIP64_RECORD_MISMATCH = "zip64_record_mismatch"
    ZIP64_RECORD_EXTENDED = "zip64_record_extended"
    TOTAL_TOO_LARGE = "total_too_large"
    # What the directory says of one member
    ENTRY_OUT_OF_BOUNDS = "entry_out_of_bounds"
    ENTRIES_OVERLAP = "entries_overlap"
    UNCLAIMED_BYTES = "unclaimed_bytes"
    EXTRA_MALFORMED = "extra_malformed"
    EXTRA_DUPLICATE = "extra_duplicate"
    ZIP64_EXTRA_INVALID = "zip64_extra_invalid"
    UNICODE_PATH_INVALID = "unicode_path_invalid"
    UNICODE_PATH_CONFLICT = "unicode_path_conflict"
    ENCRYPTED = "encrypted"
    STRONG_ENCRYPTION = "strong_encryption"
    PATCHED_DATA = "patched_data"
    UNSUPPORTED_METHOD = "unsupported_method"
    VERSION_TOO_NEW = "version_too_new"
    SYMLINK = "symlink"
    SPECIAL_FILE = "special_file"
    FOLDER_WITH_DATA = "folder_with_data"
    FOLDER_MISMATCH = "folder_mismatch"
    STORED_SIZE_MISMATCH = "stored_size_mismatch"
    MEMBER_TOO_LARGE = "member_too_large"
    RATIO_TOO_HIGH = "ratio_too_high"
    # Names
    NAME_EMPTY = "name_empty"
    NAME_NUL = "name_nul"
    NAME_ENCODING = "name_encoding"
    NAME_CONTROL = "name_control"
    NAME_BIDI = "name_bidi"
    NAME_UNASSIGNED = "name_unassigned"
    NAME_ABSOLUTE = "name_absolute"
    NAME_DRIVE = "name_drive"
    NAME_BACKSLASH = "name_backslash"
    NAME_TRAVERSAL = "name_traversal"
    NAME_DOT_SEGMENT = "name_dot_segment"
    NAME_EMPTY_SEGMENT = "name_empty_segment"
    NAME_TOO_LONG = "name_too_long"
    NAME_PART_TOO_LONG = "name_part_too_long"
    NAME_TOO_DEEP = "name_too_deep"
    DUPLICATE_NAME = "duplicate_name"
    LOOKALIKE_NAME = "lookalike_name"
    FILE_AND_FOLDER = "file_and_folder"
    # A member's own bytes
    LOCAL_HEADER_MISSING = "local_header_missing"
    LOCAL_HEADER_OVERRUN = "local_header_overrun"
    LOCAL_NAME_MISMATCH = "local_name_mismatch"
    LOCAL_METHOD_MISMATCH = "local_method_mismatch"
    LOCAL_FLAGS_MISMATCH = "local_flags_mismatch"
    LOCAL_SIZE_MISMATCH = "local_size_mismatch"
    LOCAL_CRC_MISMATCH = "local_crc_mismatch"
    DESCRIPTOR_MISSING = "descriptor_missing"
    DESCRIPTOR_MISMATCH = "descriptor_mismatch"
    DESCRIPTOR_AMBIGUOUS = "descriptor_ambiguous"
    DEFLATE_CORRUPT = "deflate_corrupt"
    DEFLATE_TRUNCATED = "deflate_truncated"
    DATA_AFTER_STREAM = "data_after_stream"
    LONGER_THAN_DECLARED = "longer_than_declared"
    SHORTER_THAN_DECLARED = "shorter_than_declared"
    CRC_MISMATCH = "crc_mismatch"
    # How the list ends when there is too much to list
    MORE_PROBLEMS = "more_problems"


def printable(text: str) -> str:
    """Return `text` with every character that does not print spelled out (NUL becomes `\\x00`)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


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

    def __post_init__(self) -> None:
        # Names come from untrusted archives: what is stored, logged and shown holds no control characters
        # (Postgres refuses NUL, terminals obey escapes, bidi marks lie), so they are spelled out.
        for name in ("member", "message", "detail", "hint"):
            text = getattr(self, name)
            if text is not None and not text.isprintable():
                object.__setattr__(self, name, printable(text))

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
    retry_after: int | None = None  # seconds after which trying again can help

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        detail: str | None = None,
        problems: Iterable[Problem] = (),
        retry_after: int | None = None,
    ) -> None:
        self.retry_after = retry_after or type(self).retry_after
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


class InvalidFields(AppError):
    """The request was understood, but some of its fields hold values that cannot be; `detail` names each."""

    code = "invalid_fields"
    message = "Some fields of the request are missing or hold a value that is not allowed."


class Unauthenticated(AppError):
    """The request carries no API key that may be used. Why not is nobody's business who has none."""

    code = "unauthenticated"
    message = "This needs an API key, and the request came without one that is valid."


class Forbidden(AppError):
    """The key is good, but what it may do does not reach so far."""

    code = "forbidden"
    message = "This API key may not do that."


class NotFound(AppError):
    """Nothing has that id, or no such route exists."""

    code = "not_found"
    message = "There is nothing at this address."


class Conflict(AppError):
    """The thing exists, but its present state forbids what was asked."""

    code = "conflict"
    message = "The package is not in a state that allows this."


class BundleFailed(Conflict):
    """The package could not be put together as one ZIP; `detail` says why. It can be ordered again."""

    code = "bundle_failed"
    message = "This package could not be put together as one ZIP. Ask again to have it tried once more."


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


def refusal(problems: Sequence[Problem]) -> NotAZip | PackageRefused:
    """Return the error that tells of `problems`: the first one speaks for all, the rest are attached.

    Every door answers with this, so the same archive gets the same words everywhere.
    """
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    first, others = errors[0], len(errors) - 1
    message = first.message
    if others:
        message += f" And {others} more {'problem was' if others == 1 else 'problems were'} found."
    kind = NotAZip if first.code is ProblemCode.NOT_A_ZIP else PackageRefused
    return kind(message, code=first.code, detail=first.detail, problems=problems)


class LeaseLost(AppError):
    """Another worker took the job over; whoever holds this error must not write any more."""

    code = "lease_lost"
    message = "Another worker has taken over this package."


class IngestFailed(AppError):
    """A package was given up after too many attempts; a replay can help once the cause is gone."""

    code = "ingest_failed"
    message = "VeriPost could not process this package, although nothing is known to be wrong with it."


class Unavailable(AppError):
    """A part we depend on (database, storage, queue) does not answer; trying again later helps."""

    code = "unavailable"
    retry_after = 5
    message = "VeriPost cannot reach one of its parts right now. Please try again in a moment."
