"""A presigned POST: the form's fields, then the file, in pieces (RFC 7578; S3 wants the file last)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from veripost_client.errors import Mismatch
from veripost_client.transport import CHUNK_BYTES


class FormBody:
    """The body of one attempt; iterating reads the file from disk and tells `on_progress` how far it is."""

    def __init__(
        self, fields: Mapping[str, str], path: Path, size: int, on_progress: Callable[[int], object]
    ) -> None:
        boundary = secrets.token_hex(16)
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="archive.zip"\r\n'
            "Content-Type: application/zip\r\n\r\n"
        )
        self._head = head.encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._path = path
        self._size = size
        self._on_progress = on_progress
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(self._head) + size + len(self._tail)),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        done = 0
        self._on_progress(0)
        with self._path.open("rb") as file:
            while chunk := file.read(min(CHUNK_BYTES, self._size - done + 1)):
                done += len(chunk)
                if done > self._size:
                    break
                yield chunk
                self._on_progress(done)
        if done != self._size:
            raise Mismatch(
                "The file changed while it was being sent. Send it again once nothing writes to it.",
                code="file_changed",
                detail=f"{self._path}: {self._size} bytes at first",
            )
        yield self._tail


def told_by_store(body: bytes) -> tuple[str, str]:
    """Return `Code` and `Message` of an S3 error document; what is none gives empty code and the text."""
    try:
        # Bounded by whoever read it; and entities that grow are stopped by expat itself, from 2.4.0 on.
        root = ET.fromstring(body)  # noqa: S314
    except ET.ParseError:
        return "", body[:200].decode("utf-8", errors="replace")
    return root.findtext("Code") or "", root.findtext("Message") or ""
