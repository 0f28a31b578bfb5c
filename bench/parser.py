"""What reading a CAMWorks source costs: `python -m bench.parser`.

50 MB of our large sample, in chunks of 1 MiB, beside splitting the same chunks into lines and doing nothing
with them, which no parser of lines in Python can beat. A sample of ordinary size. Memory while 10 and 50 MB
stream through. Then files made to hurt: twice the bytes must take about twice the time, whatever they are.
The ways take turns and the shortest time of each counts, as CPU time, so that a busy machine disturbs little.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from bench import results
from localcloud import samples
from veripost.platforms.camworks import ParseLimits, Source, parse
from veripost.platforms.lines import LONGEST_LINE

MB: Final = 1_000_000
LARGE_MB: Final = 50
CHUNK_BYTES: Final = 1 << 20
HOSTILE_MB: Final = 2
MEMORY_BAR_MIB: Final = 128
GROWTH_BAR: Final = 3.0  # twice the bytes; a quadratic parser would need four times the time

_FULL: Final = LONGEST_LINE - 100  # a line that is read to its end
HOSTILE: Final[dict[str, bytes]] = {
    "one endless line": b"A",
    "one endless call": b"CALL(",
    "long lines of half calls": b"\n:C: (" + b"CALL CALL\t" * (_FULL // 10),
    "long lines of open calls": b"\n:C: " + b"CALL(" * (_FULL // 5),
    "long lines of open braces": b"\n:C: (CALL" + b"{" * _FULL,
    "long lines of parentheses": b"\n:C: CALL" + b"(" * _FULL,
    "long lines of commas": b"\n:SECTION=A(" + b"," * _FULL,
    "long lines of blanks": b"\n" + b" " * _FULL,
    "line ends": b"\r\n",
    "CR alone": b"\r",
    "stray lines": b"?\n",
    "sections": b":SECTION=A\n",
    "sections with parameters": b":SECTION=A(B,C,D,E,F,G,H)\n",
    "headers": b":K=1\n",
    "blocks without an end": b":ATTRNAME=A\n",
    "calls": b":C: CALL(A) CALL(B)\n",
    "zeros": b"\0",
    "noise": random.Random(1).randbytes(65_536),
}


def chunks(data: bytes) -> list[bytes]:
    """Return `data` as it arrives."""
    return [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]


def split(pieces: list[bytes]) -> int:
    """Split each piece into lines, and no more."""
    return sum(len(piece.splitlines()) for piece in pieces)


def shortest(runs: int, ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return each way's shortest CPU time in seconds."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(runs):
        for name, way in ways.items():
            start = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - start)
    return best


def throughput(runs: int, data: bytes, times: int = 1) -> dict[str, float]:
    """Return MB/s of the parser and of the raw line split, `times` over the same bytes, and their ratio."""
    pieces = chunks(data)
    seconds = shortest(
        runs,
        {
            "parse": lambda: [parse(pieces) for _ in range(times)],
            "split": lambda: [split(pieces) for _ in range(times)],
        },
    )
    size = len(data) * times / MB
    return {
        "parse_mb_per_s": round(size / seconds["parse"], 1),
        "split_mb_per_s": round(size / seconds["split"], 1),
        "ratio": round(seconds["split"] / seconds["parse"], 3),
        "microseconds_a_file": round(seconds["parse"] / times * 1e6),
    }


def streamed(data: bytes, size: int) -> Iterator[bytes]:
    """Yield `size` bytes of `data` over and over, without ever holding them."""
    pieces = itertools.cycle(chunks(data))
    while size > 0:
        piece = next(pieces)[:size]
        size -= len(piece)
        yield piece


def peak_mib(data: bytes, megabytes: int) -> tuple[float, Source]:
    """Return the most memory that reading took, and what was read."""
    tracemalloc.start()
    try:
        source = parse(streamed(data, megabytes * MB))
        return tracemalloc.get_traced_memory()[1] / (1 << 20), source
    finally:
        tracemalloc.stop()


def growth(runs: int, unit: bytes) -> tuple[float, float]:
    """Return MB/s of a file made of `unit`, and how many times as long twice the bytes take."""
    begin = b":SECTION=CALC_A\n"
    once = chunks(begin + unit * (HOSTILE_MB * MB // len(unit)))
    twice = chunks(begin + unit * (2 * HOSTILE_MB * MB // len(unit)))
    seconds = shortest(runs, {"once": partial(parse, once), "twice": partial(parse, twice)})
    return 2 * HOSTILE_MB / seconds["twice"], seconds["twice"] / seconds["once"]


def main() -> int:
    """Print the figures; the exit status tells whether memory and growth keep below their bars."""
    options = results.arguments("What reading a CAMWorks source costs.", runs=5).parse_args()
    lines, sections, operations = samples.SIZES["large"]
    large = samples.source(lines=lines, sections=sections, operations=operations).data
    usual = samples.source().data
    print(results.machine(), f"\nshortest of {options.runs} runs, CPU time\n")

    found: dict[str, Any] = {
        "large": throughput(options.runs, large * (LARGE_MB * MB // len(large))),
        "usual": throughput(options.runs, usual, times=20),
    }
    labels = {"large": f"{LARGE_MB} MB", "usual": f"{len(usual) / 1000:.0f} kB"}
    for name, label in labels.items():
        row = found[name]
        print(
            f"{label:>7}: parser {row['parse_mb_per_s']:6,.1f} MB/s, raw line split "
            f"{row['split_mb_per_s']:6,.1f} MB/s, ratio {row['ratio']:.3f}; "
            f"{row['microseconds_a_file']:,} µs a file"
        )

    memory = {}
    for megabytes in (10, LARGE_MB):
        peak, source = peak_mib(large, megabytes)
        memory[f"{megabytes}_mb"] = round(peak, 1)
        print(
            f"{megabytes:>4} MB: peak {peak:6.1f} MiB, {len(source.sections):,} of {source.section_count:,}"
            f" sections kept ({source.facts:,} of at most {ParseLimits().facts:,} facts)"
        )

    print(f"\n{'made to hurt':28}{'MB/s':>8}   time for twice the bytes")
    hostile = {}
    for name, unit in HOSTILE.items():
        rate, grown = growth(options.runs, unit)
        hostile[name] = {"mb_per_s": round(rate, 1), "growth": round(grown, 2)}
        print(f"{name:28}{rate:8,.1f}   {grown:.2f} ×")

    met = max(memory.values()) <= MEMORY_BAR_MIB
    met = met and all(row["growth"] <= GROWTH_BAR for row in hostile.values())
    bars = f"≤ {MEMORY_BAR_MIB} MiB, ≤ {GROWTH_BAR:g} × for twice the bytes"
    print(f"\nbars ({bars}): {'met' if met else 'missed'}")
    if options.save:
        results.save("parser", {**found, "peak_mib": memory, "hostile": hostile})
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
