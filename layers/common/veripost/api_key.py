"""What an API key looks like, and what it may allow: text only, no database.

    vp_ 5gKq0bXw 7Yc…(32 characters)…Zr 0b1XqK
    │   │        │                      └ checksum: CRC-32 of all before it, so that a scanner for leaked
    │   │        │                        secrets, or a client, can tell a key from noise without asking us
    │   │        └ secret: 190 random bits
    │   └ the rest of the prefix: random, not secret; a key is listed and looked up by it
    └ recognisable

All but the first three characters are digits and ASCII letters.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_ALPHABET: Final = string.digits + string.ascii_letters
_MARK: Final = "vp_"
_PREFIX_LENGTH: Final = len(_MARK) + 8
_SECRET_LENGTH: Final = 32
_CHECKSUM_LENGTH: Final = 6  # 62^6 > 2^32
_SHAPE: Final = re.compile(
    rf"{_MARK}[0-9A-Za-z]{{{_PREFIX_LENGTH - len(_MARK) + _SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
)


class Scope(StrEnum):
    """What a key may do. Each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: Scope) -> bool:
        """Tell whether this scope allows what `needed` allows."""
        ranks = list(Scope)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `text` is the secret itself: shown once, stored nowhere."""

    text: str
    prefix: str
    hash: str

    def __repr__(self) -> str:
        return f"NewKey({self.prefix}…)"


def make() -> NewKey:
    """Return a new random key."""
    body = _MARK + "".join(
        secrets.choice(_ALPHABET) for _ in range(_PREFIX_LENGTH - len(_MARK) + _SECRET_LENGTH)
    )
    text = body + _checksum(body)
    return NewKey(text, text[:_PREFIX_LENGTH], hash_of(text))


def prefix_of(text: str) -> str | None:
    """Return the part by which a key is looked up; None for what cannot be one of our keys."""
    if not _SHAPE.fullmatch(text):
        return None
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return text[:_PREFIX_LENGTH] if _checksum(body) == checksum else None


def hash_of(text: str) -> str:
    """Return the SHA-256 of a key in hex: all that is ever stored of it (docs/decisions/0005-api-keys.md)."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
