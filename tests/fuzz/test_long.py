"""The long run: structure-aware mutations for FUZZ_SECONDS (default 1800) in FUZZ_PROCESSES processes.

What it finds is printed as hypothesis' smallest example; its bytes then become a row of the hazard table.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.mutations import archives
from tests.fuzz.oracle import check

ROUND = 2_000
MEMORY_BYTES = 256 << 20


def run(seconds: float, number: int) -> Counter[str]:
    """Check mutated archives for `seconds`; return how many were refused and accepted."""
    seen: Counter[str] = Counter()

    def examine(data: bytes) -> None:
        seen["accepted" if check(data).accepted else "refused"] += 1

    end = time.monotonic() + seconds
    start = number * 1_000_000_007 + time.time_ns() % 1_000_000_007
    while time.monotonic() < end:
        start += 1
        settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(seed(start)(given(archives())(examine)))()
    return seen


def test_no_bytes_raise_hang_or_disagree() -> None:
    seconds = float(os.environ.get("FUZZ_SECONDS", "1800"))
    processes = int(os.environ.get("FUZZ_PROCESSES", "2"))
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        counts = pool.starmap(run, [(seconds, number) for number in range(processes)])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    seen = sum(counts, Counter())

    print(f"\n{seen.total():,} archives, {seen['accepted']:,} accepted, {peak / 1e6:.0f} MB at most")
    assert seen["refused"]
    assert seen["accepted"]
    assert peak < MEMORY_BYTES
