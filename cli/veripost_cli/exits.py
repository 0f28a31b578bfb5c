"""Exit statuses: a part of the product, listed in `docs/cli.md`."""

from __future__ import annotations

from enum import IntEnum

from veripost_client.errors import (
    ClientError,
    Conflict,
    InvalidRequest,
    Mismatch,
    NotAllowed,
    NotFound,
    Refused,
    TargetExists,
    Unfinished,
    UnsafeName,
)


class Exit(IntEnum):
    """What a command ends with; of several files, the highest counts."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNAVAILABLE = 5
    CONFLICT = 6
    UNFINISHED = 7
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    BROKEN_PIPE = 141  # 128 + SIGPIPE: whoever read our output has gone


_KINDS: tuple[tuple[type[ClientError], Exit], ...] = (
    (Refused, Exit.REFUSED),
    (Mismatch, Exit.REFUSED),
    (TargetExists, Exit.REFUSED),
    (UnsafeName, Exit.REFUSED),
    (InvalidRequest, Exit.USAGE),
    (NotFound, Exit.NOT_FOUND),
    (NotAllowed, Exit.NOT_ALLOWED),
    (Conflict, Exit.CONFLICT),
    (Unfinished, Exit.UNFINISHED),
)


def exit_of(error: Exception) -> Exit:
    """Return the exit status that tells of `error`; a file that cannot be read counts as wrong usage."""
    if isinstance(error, OSError):
        return Exit.USAGE
    if isinstance(error, ClientError) and error.code == "too_large":
        return Exit.REFUSED
    return next((status for kind, status in _KINDS if isinstance(error, kind)), Exit.UNAVAILABLE)


def exit_of_package(error_code: str | None) -> Exit:
    """Return the exit status for a package that ended in `error`."""
    return Exit.UNAVAILABLE if error_code == "ingest_failed" else Exit.REFUSED
