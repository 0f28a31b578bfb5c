"""The archives that are measured: text as machine tools read it, the same bytes on every machine.

They are written once, streamed to disk, into `.local/bench`. Members repeat after some distinct ones: far
enough apart that no cache, window or deduplication can gain from it.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1 << 20  # text repeats after this much: 32 windows of deflate away
_DOS_DATE: Final = (2026 - 1980) << 9 | 1 << 5 | 1
_SPARE_BYTES: Final = 4 << 30  # left on the disk when all is written
_LIBRARY: Final = (":T:<N><G:90><G:17><G:40><EOL>", ":C: IF SECTIONEXIST(START_OF_TAPE) THEN", ":C: ENDIF")


@dataclass(frozen=True, slots=True)
class Archive:
    """`count` members of `size` bytes each, `distinct` of them different."""

    name: str
    count: int
    size: int
    distinct: int
    stored: bool = False

    @property
    def plain_bytes(self) -> int:
        """What comes out of it."""
        return self.count * self.size

    @property
    def file(self) -> str:
        """Its name on disk and the last segment of its key."""
        return f"{self.name}.zip"


TINY: Final = 1_000
ARCHIVES: Final = {
    archive.name: archive
    for archive in (
        Archive("warm-up", 7, 3_000, 7),
        Archive("tiny-1000", 1_000, TINY, 1_000),
        Archive("tiny-2000", 2_000, TINY, 1_000),
        Archive("tiny-5000", 5_000, TINY, 1_000),
        Archive("tiny-10000", 10_000, TINY, 1_000),
        Archive("medium-2000", 2_000, 100_000, 100),
        Archive("large-10mb", 1, 10_000_000, 1),
        Archive("large-100mb", 10, 10_000_000, 8),
        Archive("large-500mb", 50, 10_000_000, 8),
        Archive("large-2gb", 200, 10_000_000, 8),
        Archive("large-280", 280, 10_000_000, 8),
        Archive("huge-members", 8, 250_000_000, 1),
        Archive("stored-2gib", 10, 214_000_000, 1, stored=True),
        Archive("thirty-files", 30, 35_000, 30),
    )
}


def text(size: int, seed: int) -> bytes:
    """Return `size` bytes of a post processor's program: sections that resemble each other, and numbers."""
    pick = random.Random(seed)
    lines, length = [f"*PROGRAM {seed:06d}"], 0
    target = min(size, _BLOCK_BYTES)
    while length < target:
        number = pick.randrange(1000)
        section = [f":SECTION=MOVE_{number:03d}", f":T:<N><G:0{number % 4}><X!><Y><Z><EOL>", *_LIBRARY]
        section += [
            f"N{number} G0{pick.randrange(4)} X{pick.uniform(-99, 99):.3f} Y{pick.uniform(-99, 99):.3f}"
            for _ in range(pick.randrange(9))
        ]
        section.append(f":T:<N>F<#4.{number % 4}N:FEEDRATE><M:08><H:{pick.randrange(24):02d}><EOL>\r\n")
        lines.append("\r\n".join(section))
        length += len(lines[-1])
    block = "".join(lines).encode("ascii")
    return (block * (size // len(block) + 1))[:size]


def member_name(number: int) -> str:
    """Return the path of a member: folders and types as packages have them."""
    kind = (".SRC", ".LIB", ".CTL", ".ATR", ".LNG")[number % 5]
    return f"POSTS/{number // 500:03d}/MILL_{number:05d}{kind}"


def contents(archive: Archive) -> Iterator[bytes]:
    """Yield the distinct members, in order; the archive repeats them until `count` is reached."""
    for seed in range(archive.distinct):
        if archive.stored:
            noise = random.Random(seed).randbytes(min(archive.size, _BLOCK_BYTES))
            yield (noise * (archive.size // len(noise) + 1))[: archive.size]
        else:
            yield text(archive.size, seed)


def hashes(archive: Archive) -> dict[str, str]:
    """Return the SHA-256 of every member by its file name."""
    found = [hashlib.sha256(data).hexdigest() for data in contents(archive)]
    return {
        member_name(number).rpartition("/")[2]: found[number % len(found)] for number in range(archive.count)
    }


def ensure(archive: Archive, folder: Path) -> Path:
    """Return the archive's file, written now unless it is there."""
    path = folder / archive.file
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    needed = archive.plain_bytes if archive.stored else archive.plain_bytes // 4
    if shutil.disk_usage(folder).free < needed + _SPARE_BYTES:
        raise OSError(f"{folder} has no room for {archive.file}")
    unfinished = path.with_suffix(".part")
    _write(archive, unfinished)
    return unfinished.rename(path)


def _write(archive: Archive, path: Path) -> None:
    """Write the archive member by member; each distinct one is packed once."""
    directory = bytearray()
    packed = [_pack(data, stored=archive.stored) for data in contents(archive)]
    with path.open("wb") as file:
        for number in range(archive.count):
            data, crc = packed[number % len(packed)]
            name = member_name(number).encode("ascii")
            method = 0 if archive.stored else zlib.DEFLATED
            # APPNOTE 4.3.7 and 4.3.12: what both headers share, from "version needed" to "extra length".
            shared = struct.pack(
                "<5H3L2H", 20, 0, method, 0, _DOS_DATE, crc, len(data), archive.size, len(name), 0
            )
            directory += b"PK\x01\x02" + struct.pack("<H", 20) + shared
            directory += struct.pack("<3H2L", 0, 0, 0, 0, file.tell()) + name
            file.write(b"PK\x03\x04" + shared + name)
            file.write(data)
        offset = file.tell()
        file.write(directory)
        count = archive.count
        file.write(b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, count, count, len(directory), offset, 0))


def _pack(data: bytes, *, stored: bool) -> tuple[bytes, int]:
    crc = zlib.crc32(data)
    if stored:
        return data, crc
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return deflater.compress(data) + deflater.flush(), crc
