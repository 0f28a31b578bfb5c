"""Raw deflate, one bounded step at a time: ISA-L where it is installed, else the standard library.

The one module of the gate that imports anything beyond the standard library and `veripost.errors`.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW_BITS: Final = 15  # APPNOTE 4.4.5: method 8 looks back over at most 32 KiB


class Inflater(Protocol):
    """A deflate decoder that never returns more than it is asked for."""

    @property
    def eof(self) -> bool:
        """Tell whether the stream's final block has ended."""
        ...

    @property
    def needs_input(self) -> bool:
        """Tell whether the decoder can only go on with more compressed bytes."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Return the bytes that were given beyond the end of the stream."""
        ...

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        """Decode `data` (b"" to go on with earlier bytes) into at most `max_length` bytes.

        Raises one of CORRUPT_STREAM when the bytes are no deflate stream.
        """
        ...


class ZlibInflater:
    """The standard library's decoder behind the same four members."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(-_WINDOW_BITS)
        self._output_was_full = False

    @property
    def eof(self) -> bool:
        """Tell whether the stream's final block has ended."""
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        """Tell whether the decoder can only go on with more compressed bytes."""
        return not (self._output_was_full or self._decoder.eof)

    @property
    def unused_data(self) -> bytes:
        """Return the bytes that were given beyond the end of the stream."""
        return self._decoder.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        """Decode `data` (b"" to go on with earlier bytes) into at most `max_length` bytes."""
        tail = self._decoder.unconsumed_tail
        out = self._decoder.decompress(tail + data if tail else data, max_length)
        # A full output may hide more: zlib can hold decoded bytes back after its input is used up.
        self._output_was_full = len(out) == max_length
        return out


try:
    from isal import igzip_lib, isal_zlib
except ImportError:
    new_inflater: Callable[[], Inflater] = ZlibInflater
    crc32: Callable[[bytes | memoryview, int], int] = zlib.crc32
    CORRUPT_STREAM: tuple[type[Exception], ...] = (zlib.error,)
else:
    # Its defaults are raw deflate with a 32 KiB window; its class has the four members already.
    new_inflater = igzip_lib.IgzipDecompressor
    crc32 = isal_zlib.crc32
    # The stub calls the error class an instance of Exception.
    CORRUPT_STREAM = (zlib.error, cast("type[Exception]", igzip_lib.IsalError))
