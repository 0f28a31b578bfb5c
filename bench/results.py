"""`bench/results.json`: each program owns one section, and remembers on what machine it ran."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.processes import ROOT

FILE: Final = ROOT / "bench" / "results.json"


def load() -> dict[str, Any]:
    """Return what was saved so far."""
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def save(section: str, values: dict[str, Any]) -> None:
    """Replace one program's section."""
    everything = load()
    everything[section] = {"machine": machine(), "measured": datetime.now(UTC).date().isoformat()} | values
    FILE.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n")


def merge(section: str, part: str, values: dict[str, Any]) -> None:
    """Replace only some entries below `section` → `part`; what else is there stays."""
    found = load().get(section, {}).get(part, {})
    others = {
        name: value
        for name, value in load().get(section, {}).items()
        if name not in {part, "machine", "measured"}
    }
    save(section, others | {part: found | values})


def machine() -> str:
    """Say what runs here, as far as figures depend on it."""
    model = platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            model = f"{line.partition(':')[2].strip()} ({platform.machine()})"
            break
    memory = next((line.split()[1] for line in _lines(Path("/proc/meminfo"))), "0")
    return (
        f"{os.cpu_count()} CPUs, {model}, {int(memory) / (1 << 20):.0f} GiB,"
        f" {platform.system()}, Python {platform.python_version()}"
    )


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def arguments(description: str, *, runs: int = 5) -> argparse.ArgumentParser:
    """Return the options that all programs understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--save", action="store_true", help="write the figures into bench/results.json")
    parser.add_argument("--runs", type=int, default=runs, help=f"measure so often (default {runs})")
    return parser


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
