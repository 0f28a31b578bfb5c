"""SHA-256 and size of files, in constant memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from veripost_client.transport import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Facts:
    """What identifies a file's content: its size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


def facts_of(path: Path) -> Facts:
    """Return size and SHA-256 of a file's content. Raises `OSError`."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return Facts(size, digest.hexdigest())
