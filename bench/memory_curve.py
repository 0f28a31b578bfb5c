"""What one package takes and costs, by the memory of the ingest function: `python -m bench.memory_curve`.

Lambda gives CPU in proportion to memory, one core for each 1,769 MB, by stopping a function that has used up
its share of a short period. So does this program: it stops and continues the worker by signals. The memory
itself is not limited; docs/performance.md says what the worker needs at its peak. The stand-in for S3 answers
each PUT 25 ms later, as S3 does.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from bench import results
from bench.cost_model import LAMBDA_GB_SECOND, PACKAGES, PUT_DELAY_MS
from bench.results import median
from bench.rig import Rig
from bench.workloads import ARCHIVES

MEMORY_MB: Final = (512, 1024, 1769, 2654, 3538)
SIZES: Final = ("thirty-files", "tiny-1000", "large-100mb")
_MB_PER_CPU: Final = 1769
_PERIOD_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 0.002


class Share:
    """Gives a process `cpus` of CPU time and no more, for the length of a `with` block. Linux only."""

    def __init__(self, pid: int, cpus: float) -> None:
        self._pid = pid
        self._clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) returns: the CPU time of all its threads
        self._cpus = cpus
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cpu-share")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        budget, used = 0.0, time.clock_gettime(self._clock)
        stopped = False
        while not self._ended.is_set():
            budget = min(budget + self._cpus * _PERIOD_SECONDS, self._cpus * _PERIOD_SECONDS)
            end = time.monotonic() + _PERIOD_SECONDS
            while (left := end - time.monotonic()) > 0:
                now = time.clock_gettime(self._clock)
                budget, used = budget - (now - used), now
                if stopped != (budget <= 0):  # it may owe more than one period: we look only now and then
                    stopped = not stopped
                    os.kill(self._pid, signal.SIGSTOP if stopped else signal.SIGCONT)
                time.sleep(left if stopped else min(left, _LOOK_SECONDS))
        os.kill(self._pid, signal.SIGCONT)


def measure(runs: int) -> list[dict[str, Any]]:
    """Return seconds and dollars of each package at each memory."""
    lines = []
    with Rig() as rig:
        rig.s3.configure(put_delay_ms=PUT_DELAY_MS)
        for memory in MEMORY_MB:
            with (
                rig.workers("engine", INGEST_MEMORY_MB=str(memory)) as workers,
                Share(workers["engine"].pid, memory / _MB_PER_CPU),
            ):
                for name in SIZES:
                    found = [workers["engine"].ingest(ARCHIVES[name]) for _ in range(runs)]
                    seconds = median([run.seconds for run in found])
                    lines.append(
                        {
                            "memory_mb": memory,
                            "archive": name,
                            "seconds": seconds,
                            "cpu_seconds": median([run.cpu_seconds for run in found]),
                            "dollars": PACKAGES * seconds * memory / 1024 * LAMBDA_GB_SECOND,
                        }
                    )
    return lines


def show(lines: list[dict[str, Any]]) -> None:
    """Print the curve of each package."""
    for name in SIZES:
        archive = ARCHIVES[name]
        print(f"\n{archive.count:,} files, {archive.plain_bytes / 1e6:,.0f} MB")
        for line in (line for line in lines if line["archive"] == name):
            share = line["cpu_seconds"] / line["seconds"]
            print(
                f"  {line['memory_mb']:5} MB  {line['seconds']:7.3f} s  {share:4.0%} of a CPU used"
                f"  ${line['dollars']:.4f} compute for {PACKAGES:,}"
            )


def main() -> int:
    """Measure and print."""
    arguments = results.arguments("duration and price by memory", runs=5).parse_args()
    lines = measure(arguments.runs)
    print(f"{results.machine()}\nevery PUT takes {PUT_DELAY_MS} ms longer than the stand-in")
    show(lines)
    if arguments.save:
        results.save("memory_curve", {"runs": arguments.runs, "lines": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
