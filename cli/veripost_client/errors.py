"""What can go wrong between a program and VeriPost, in one tree.

    ClientError
    ├── InvalidRequest      the server does not accept what was asked (a field, a size, a type)
    ├── Refused             the package is at fault; `problems` lists everything found
    ├── NotAllowed          no key, a wrong one, or one that may not do this
    ├── NotFound            nothing has that id
    ├── Conflict            the thing exists, but its state forbids this, perhaps only for `retry_after`
    ├── Unavailable         no connection, too busy, or down; trying again later helps
    ├── Unfinished          it still was not done when the time was up
    ├── Mismatch            bytes are not those that the record names
    ├── TargetExists        a file is in the way of a download and holds something else
    ├── UnsafeName          a name from the server that must not become a file's name here
    └── UnexpectedAnswer    the answer is none that this client knows

Each carries the server's stable `code`, its friendly `message` and technical `detail`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veripost.schemas import ProblemView


class ClientError(Exception):
    """Base of everything that the client raises on purpose. `retry_after` is in seconds."""

    code = "client_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        detail: str | None = None,
        request_id: str | None = None,
        problems: Sequence[ProblemView] = (),
        retry_after: float | None = None,
    ) -> None:
        self.code = code or type(self).code
        self.message = message
        self.detail = detail
        self.request_id = request_id
        self.problems = tuple(problems)
        self.retry_after = retry_after
        super().__init__(f"{self.code}: {message}" + (f" ({detail})" if detail else ""))


class InvalidRequest(ClientError):
    """The server does not accept what was asked: a field, a size or a type is wrong."""

    code = "invalid_request"


class Refused(ClientError):
    """The package cannot be accepted; `problems` lists everything that was found."""

    code = "package_refused"


class NotAllowed(ClientError):
    """The key is missing, wrong, or may not do this."""

    code = "not_allowed"


class NotFound(ClientError):
    """Nothing has that id."""

    code = "not_found"


class Conflict(ClientError):
    """The thing exists, but its present state forbids what was asked."""

    code = "conflict"


class Unavailable(ClientError):
    """VeriPost or its store cannot be reached, or is too busy; trying again later helps."""

    code = "unavailable"


class Unfinished(ClientError):
    """It was not done when the time was up; it goes on by itself."""

    code = "unfinished"


class Mismatch(ClientError):
    """Bytes here are not those that the record names."""

    code = "mismatch"


class TargetExists(ClientError):
    """A file with other content stands where a download would go."""

    code = "target_exists"


class UnsafeName(ClientError):
    """The server names a file in a way that could leave the folder, or that a system cannot store."""

    code = "unsafe_name"


class UnexpectedAnswer(ClientError):
    """The answer is none that this client knows: not VeriPost, or another version of it."""

    code = "unexpected_answer"
