"""The raw limit: inflate, CRC-32 and SHA-256 of every member with ISA-L, and nothing else.

No reader of archives can be faster on this machine; this one neither checks a rule nor stores a byte.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from isal import igzip_lib, isal_zlib

_CHUNK_BYTES: Final = 64 << 10
_LFH_BYTES: Final = 30

Packed = tuple[memoryview, int, bool]


def seconds(path: Path, *, threads: int) -> tuple[float, float]:
    """Return wall and CPU time to unpack and sum up the whole archive at `path`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        members = list(_members(path, memoryview(data)))
        shares = list(itertools.batched(members, -(-len(members) // threads), strict=False))
        with ThreadPoolExecutor(threads) as pool:
            start, cpu = time.perf_counter(), time.process_time()
            list(pool.map(_unpack, shares))
            taken = time.perf_counter() - start, time.process_time() - cpu
        for member, _, _ in members:
            member.release()
        return taken


def _members(path: Path, data: memoryview) -> Iterator[Packed]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # Our own archives have neither extra fields nor names that are not ASCII.
            start = info.header_offset + _LFH_BYTES + len(info.filename)
            packed = data[start : start + info.compress_size]
            yield packed, info.file_size, info.compress_type == zipfile.ZIP_STORED


def _unpack(members: tuple[Packed, ...]) -> None:
    for packed, size, stored in members:
        digest, crc, left = hashlib.sha256(), 0, size
        if stored:
            for offset in range(0, size, _CHUNK_BYTES):
                piece = packed[offset : offset + _CHUNK_BYTES]
                crc = isal_zlib.crc32(piece, crc)
                digest.update(piece)
            continue
        decoder = igzip_lib.IgzipDecompressor()
        chunk = decoder.decompress(packed, _CHUNK_BYTES)
        while chunk:
            crc = isal_zlib.crc32(chunk, crc)
            digest.update(chunk)
            left -= len(chunk)
            chunk = b"" if decoder.eof else decoder.decompress(b"", _CHUNK_BYTES)
        if left:
            raise RuntimeError("the benchmark's own archive is broken")
