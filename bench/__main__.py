"""Runs every program of the bench, one after the other, and writes down what they found: `python -m bench`.

A missed bar does not stop the others; the exit status tells whether any was missed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

from bench.processes import ROOT, environment

PROGRAMS: Final = {
    "archive": (),
    "s3_stand_in": (),
    "object_writers": ("--save",),
    "rows": ("--save",),
    "listing": ("--save",),
    "parser": ("--save",),
    "handlers": ("--save",),
    "cold_start": ("--save",),
    "local_cloud": ("--save",),
    "engine": ("--save",),
    "memory_curve": ("--save",),
    "cost_model": ("--save",),
    "report": (),
}


def main() -> int:
    """Run all; the exit status is 1 if any program missed a bar or failed."""
    failed = []
    for program, options in PROGRAMS.items():
        print(f"\n== {program}", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{program}", *options], cwd=ROOT, env=environment(), check=False
        )
        print(f"   ({time.monotonic() - start:.0f} s)", flush=True)
        if done.returncode:
            failed.append(program)
    print(f"\nmissed a bar or failed: {', '.join(failed)}" if failed else "\nall bars met")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
