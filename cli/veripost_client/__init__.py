"""The typed client of VeriPost: `from veripost_client import Client`. See `veripost_client.client`."""

from veripost_client.answers import (
    Comparison,
    PackageFilter,
    Saved,
    State,
    Upload,
)
from veripost_client.client import DEFAULT_PLATFORM, FINAL, Client
from veripost_client.errors import (
    ClientError,
    Conflict,
    InvalidRequest,
    Mismatch,
    NotAllowed,
    NotFound,
    Refused,
    TargetExists,
    Unavailable,
    UnexpectedAnswer,
    Unfinished,
    UnsafeName,
)
from veripost_client.hashing import Facts, facts_of
from veripost_client.retry import Retry

__all__ = [
    "DEFAULT_PLATFORM",
    "FINAL",
    "Client",
    "ClientError",
    "Comparison",
    "Conflict",
    "Facts",
    "InvalidRequest",
    "Mismatch",
    "NotAllowed",
    "NotFound",
    "PackageFilter",
    "Refused",
    "Retry",
    "Saved",
    "State",
    "TargetExists",
    "Unavailable",
    "UnexpectedAnswer",
    "Unfinished",
    "UnsafeName",
    "Upload",
    "facts_of",
]
