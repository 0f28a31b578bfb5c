"""Where an archive's bytes come from: anything of known size that can be read at an offset."""

from __future__ import annotations

import io
from typing import BinaryIO, Protocol


class Source(Protocol):
    """Random access to an archive that does not change while it is read."""

    @property
    def size(self) -> int:
        """Return the archive's size in bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`, or raise an error of the source's own."""
        ...


class BytesSource:
    """An archive held in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Return the archive's size in bytes."""
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; EOFError where the archive ends before that."""
        return _exactly(self._data[offset : offset + length], offset, length)


class FileSource:
    """An archive in a seekable binary file, which the caller opens and closes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)

    @property
    def size(self) -> int:
        """Return the file's size in bytes, as it was when the source was made."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; EOFError where the file ends before that."""
        self._file.seek(offset)
        return _exactly(self._file.read(length), offset, length)


def _exactly(data: bytes, offset: int, length: int) -> bytes:
    if len(data) != length:
        raise EOFError(f"{length} bytes wanted at {offset}, {len(data)} there")
    return data
