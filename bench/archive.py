"""Prints what checking an archive costs: `PYTHONPATH=layers/common python bench/archive.py`.

Two archives built in memory: 5,000 members of 1 KB, 8 members of 10 MB of G-code. Three ways to read each:
the gate (every rule, CRC-32, SHA-256), the standard library's `zipfile` (CRC-32, hardly a rule), and
the raw limit: ISA-L inflate, CRC-32 and SHA-256 over data whose place is known beforehand, without any rule.
The ways take turns and the best round of each counts, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import hashlib
import io
import platform
import random
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Final

from isal import igzip_lib, isal_zlib

from veripost.archive import CHUNK_BYTES, BytesSource, Limits, inspect, read_directory

_ROUNDS: Final = 7
_SMALL: Final = (5_000, 1_000)
_LARGE: Final = (8, 10_000_000)
_TARGET_MICROSECONDS: Final = 15
_TARGET_SHARE: Final = 0.9

Span = tuple[bytes, int]


def gcode(size: int, seed: int) -> bytes:
    """Return `size` bytes of a machine's program: numbered lines with coordinates, as posts write them."""
    pick = random.Random(seed)
    block = "".join(
        f"N{line} G01 X{pick.uniform(-99, 99):.3f} Y{pick.uniform(-99, 99):.3f} F{pick.randrange(100, 900)}\n"
        for line in range(40 * (1 + min(size, 1_000_000) // 1000))
    ).encode()
    return (block * (size // len(block) + 1))[:size]


def archive(count: int, size: int) -> bytes:
    """Return a ZIP archive of `count` deflated members of `size` bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(count):
            target.writestr(f"posts/{number // 100}/mill{number}.src", gcode(size, number))
    return buffer.getvalue()


def with_gate(data: bytes) -> None:
    """Check everything that the gate checks."""
    report = inspect(BytesSource(data), Limits())
    if not report.accepted:
        raise RuntimeError(report.problems)


def with_zipfile(data: bytes) -> None:
    """Read every member as most programs do."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        for info in source.infolist():
            with source.open(info) as member:
                while member.read(CHUNK_BYTES):
                    pass


def spans(data: bytes) -> list[Span]:
    """Return each member's compressed bytes and plain size."""
    directory = read_directory(BytesSource(data), Limits())
    return [
        (data[member.end_offset - member.compressed_size : member.end_offset], member.size)
        for member in directory.members
    ]


def at_the_raw_limit(members: list[Span]) -> None:
    """Unpack and sum up, without one rule: what no checker can be faster than."""
    for packed, size in members:
        decoder = igzip_lib.IgzipDecompressor()
        digest, crc, left = hashlib.sha256(), 0, size
        chunk = decoder.decompress(packed, CHUNK_BYTES)
        while chunk:
            crc = isal_zlib.crc32(chunk, crc)
            digest.update(chunk)
            left -= len(chunk)
            chunk = b"" if decoder.eof else decoder.decompress(b"", CHUNK_BYTES)
        if left or not decoder.eof:
            raise RuntimeError("the benchmark's own archive is broken")
        digest.hexdigest()


def best_of_rounds(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return each way's shortest time in seconds; the ways take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> int:
    """Print the figures; the exit status tells whether both aims are met."""
    print(f"Python {platform.python_version()}, {platform.machine()}, best of {_ROUNDS} rounds, one thread\n")
    met = True
    for count, size in (_SMALL, _LARGE):
        data = archive(count, size)
        seconds = best_of_rounds(
            {
                "gate": partial(with_gate, data),
                "zipfile": partial(with_zipfile, data),
                "raw limit": partial(at_the_raw_limit, spans(data)),
            }
        )
        print(f"{count:,} members of {size:,} bytes, {len(data):,} bytes of archive")
        for name, taken in seconds.items():
            per_member = taken / count * 1e6
            rate = count * size / taken / 1e6
            share = f"{seconds['raw limit'] / taken:.0%} of the raw limit"
            print(f"  {name:10} {per_member:12,.1f} µs a member {rate:8,.0f} MB/s   {share}")
        print(f"  the gate is {seconds['zipfile'] / seconds['gate']:.1f} times as fast as zipfile\n")
        if (count, size) == _SMALL:
            met = met and seconds["gate"] / count * 1e6 <= _TARGET_MICROSECONDS
        else:
            met = met and seconds["raw limit"] / seconds["gate"] >= _TARGET_SHARE
    print(f"aims (≤ {_TARGET_MICROSECONDS} µs, ≥ {_TARGET_SHARE:.0%} of raw): {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
