"""Measures our engine beside two peers: `python -m bench.engine --only tiny-1000 --runs 3`.

All take turns (A B C A B C …), so that whatever else the machine does disturbs all alike, and the median of
each counts. `--list` names the workloads; without `--only` all are measured.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench import raw_limit, results, s3_stand_in, workloads
from bench.processes import CACHE
from bench.results import median
from bench.rig import Rig, Run
from bench.workloads import ARCHIVES

OURS: Final = "engine"
MIB: Final = 1 << 20
MEMORY_BAR_MIB: Final = 64
CPU_BAR_MICROSECONDS: Final = 250
RAW_SHARE_BAR: Final = 0.65
# The size of function that Lambda gives two CPUs: the engine takes its number of threads from it.
TWO_CPUS: Final = {"INGEST_MEMORY_MB": "3538"}


@dataclass(frozen=True, slots=True)
class Workload:
    """One line of the table. `bar` is how many times faster than the naive peer we want to be."""

    title: str
    archive: str
    bar: float | None = None
    peers: tuple[str, ...] = ("naive", "classic")
    put_delay_ms: int = 0
    runs: int | None = None  # fewer than asked for, where one run takes minutes


WORKLOADS: Final = {
    "tiny-1000": Workload("1,000 × 1 KB", "tiny-1000", 15),
    "tiny-10000": Workload("10,000 × 1 KB", "tiny-10000", 15),
    "medium-2000": Workload("2,000 × 100 KB", "medium-2000", 9),
    "large-280": Workload("280 × 10 MB (500 MB → 2.8 GB)", "large-280", 3, runs=3),
    "slow-puts": Workload("1,000 × 1 KB, each PUT takes 25 ms longer", "tiny-1000", 30, put_delay_ms=25),
    "stored-2gib": Workload("2 GiB archive of 214 MB members, stored", "stored-2gib", runs=1),
    "huge-members": Workload("8 × 250 MB (2 GB of content)", "huge-members", peers=(), runs=3),
}
MEMBER_SERIES: Final = ("tiny-1000", "tiny-2000", "tiny-5000", "tiny-10000")
BYTE_SERIES: Final = ("large-10mb", "large-100mb", "large-500mb", "large-2gb")


def measure(rig: Rig, workload: Workload, runs: int) -> dict[str, Any]:
    """Return the medians of one workload, for us, the peers and the raw limit."""
    archive = ARCHIVES[workload.archive]
    path = workloads.ensure(archive, CACHE)
    found: dict[str, list[Run]] = {}
    raw: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with rig.workers(OURS, *workload.peers, **TWO_CPUS) as workers:
        rig.s3.configure(put_delay_ms=workload.put_delay_ms)
        for _ in range(min(runs, workload.runs or runs)):
            for kind, worker in workers.items():
                found.setdefault(kind, []).append(worker.ingest(archive))
            for threads, taken in raw.items():
                taken.append(raw_limit.seconds(path, threads=threads))
        rig.s3.configure(put_delay_ms=0)
    return {
        "title": workload.title,
        "archive_bytes": path.stat().st_size,
        "plain_bytes": archive.plain_bytes,
        "members": archive.count,
        "runs": len(found[OURS]),
        "bar": workload.bar,
        "raw_seconds": {str(threads): median([wall for wall, _ in taken]) for threads, taken in raw.items()},
        "raw_cpu_seconds": median([cpu for _, cpu in raw[1]]),
        **{kind: summary(each) for kind, each in found.items()},
        "ratios": {
            kind: median([run.seconds for run in found[kind]]) / median([run.seconds for run in found[OURS]])
            for kind in workload.peers
        },
        # What would be left of the ratio if the peer's database answered in no time, and ours as it does.
        "ratios_with_free_database": {
            kind: median([run.seconds - run.database_seconds for run in found[kind]])
            / median([run.seconds for run in found[OURS]])
            for kind in workload.peers
        },
    }


def summary(runs: Sequence[Run]) -> dict[str, float]:
    """Return the median of every figure, and the highest peak."""
    values = {name: median([asdict(run)[name] for run in runs]) for name in asdict(runs[0])}
    return values | {
        "memory_mib": max(run.memory_bytes for run in runs) / MIB,
        "fastest_seconds": min(run.seconds for run in runs),
    }


def show(found: dict[str, Any]) -> None:
    """Print one workload for people."""
    members, plain = found["members"], found["plain_bytes"]
    print(f"\n{found['title']}: {found['archive_bytes']:,} bytes of archive, median of {found['runs']}")
    for kind in (OURS, *found["ratios"]):
        figures = found[kind]
        ratio = ""
        if kind in found["ratios"]:
            free = found["ratios_with_free_database"][kind]
            ratio = f"   ours is {found['ratios'][kind]:.1f} × as fast ({free:.1f} × with a free database)"
        print(
            f"  {kind:8} {figures['seconds']:8.3f} s   CPU {figures['cpu_seconds']:7.3f} s"
            f" ({figures['cpu_seconds'] / members * 1e6:8,.0f} µs a member)"
            f"   database {figures['database_seconds']:7.3f} s"
            f"   memory +{figures['memory_mib']:6.1f} MiB{ratio}"
        )
    raw = found["raw_seconds"]
    print(
        f"  raw limit {raw['1']:.3f} s on one thread, {raw['2']:.3f} s on two; of it we reach"
        f" {found['raw_cpu_seconds'] / found[OURS]['cpu_seconds']:.0%} per CPU second and"
        f" {raw['2'] / found[OURS]['seconds']:.0%} by the clock"
        f" ({plain / found[OURS]['seconds'] / 1e6:,.0f} MB/s)"
    )
    for text, met in verdicts(found):
        print(f"  {'met   ' if met else 'MISSED'} {text}")


def verdicts(found: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return every bar that this workload is held against."""
    ours, listed = found[OURS], []
    if found["bar"]:
        ratio = found["ratios"]["naive"]
        listed.append((f"{ratio:.1f} × naive (bar {found['bar']} ×)", ratio >= found["bar"]))
    listed.append(
        (
            f"+{ours['memory_mib']:.1f} MiB of memory (bar {MEMORY_BAR_MIB})",
            ours["memory_mib"] <= MEMORY_BAR_MIB,
        )
    )
    if found["title"] == WORKLOADS["tiny-10000"].title:
        each = ours["cpu_seconds"] / found["members"] * 1e6
        listed.append(
            (f"{each:.0f} µs of CPU a member (bar {CPU_BAR_MICROSECONDS})", each <= CPU_BAR_MICROSECONDS)
        )
    if found["title"] == WORKLOADS["large-280"].title:
        share = found["raw_cpu_seconds"] / ours["cpu_seconds"]
        listed.append(
            (f"{share:.0%} of the raw limit per CPU (bar {RAW_SHARE_BAR:.0%})", share >= RAW_SHARE_BAR)
        )
    return listed


def measure_growth(rig: Rig, names: Sequence[str], runs: int, *, per: str) -> dict[str, Any]:
    """Return time against size, and the slope of both logarithms: 1.0 is linear, less is better."""
    with rig.workers(OURS, **TWO_CPUS) as workers:
        taken: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(runs):
            for name in names:
                taken[name].append(workers[OURS].ingest(ARCHIVES[name]).seconds)
    amounts = [getattr(ARCHIVES[name], per) for name in names]
    points = [(amount, median(taken[name])) for amount, name in zip(amounts, names, strict=True)]
    return {"points": points, "per": per, "runs": runs, "slope": slope(points), "marginal": marginal(points)}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the exponent k of the power law seconds ~ amount^k that fits best."""
    logs = [(math.log(amount), math.log(seconds)) for amount, seconds in points]
    return _fit(logs)


def marginal(points: Sequence[tuple[float, float]]) -> float:
    """Return the seconds that one more unit costs: the slope of the straight line that fits best."""
    return _fit(points)


def _fit(points: Sequence[tuple[float, float]]) -> float:
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def show_growth(found: dict[str, Any]) -> None:
    """Print a series for people."""
    unit, scale = ("member", 1e6) if found["per"] == "count" else ("MB", 1e6 * 1e6)
    print(f"\ntime against {unit}s")
    for amount, seconds in found["points"]:
        print(f"  {amount:15,} {'members' if unit == 'member' else 'bytes'}   {seconds:8.3f} s")
    print(
        f"  exponent {found['slope']:.2f} (1 is linear),"
        f" {found['marginal'] * scale:,.0f} µs per further {unit}"
    )


def main() -> int:
    """Measure and print; the exit status tells whether every bar is met."""
    parser = results.arguments("our engine beside its peers")
    parser.add_argument("--only", action="append", metavar="WORKLOAD", help="measure this one (repeatable)")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out, to tune the engine")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join([*WORKLOADS, "growth"]))
        return 0
    chosen = arguments.only or [*WORKLOADS, "growth"]
    print(results.machine())
    met = True
    with Rig() as rig:
        with tempfile.TemporaryDirectory(dir=CACHE) as folder, s3_stand_in.StandIn(Path(folder)) as s3:
            ceiling = s3_stand_in.ceiling(s3, Path(folder))
        print(
            f"the stand-in's own ceiling: {ceiling['puts_per_second_1kb']:,.0f} PUT/s of 1 KB,"
            f" {ceiling['put_mb_per_second_8mb']:,.0f} MB/s in, {ceiling['get_mb_per_second']:,.0f} MB/s out"
        )
        if arguments.save:
            results.merge("engine", "ceiling", ceiling)
        for name in chosen:
            if name == "growth":
                growth = {
                    "members": measure_growth(rig, MEMBER_SERIES, arguments.runs, per="count"),
                    "bytes": measure_growth(rig, BYTE_SERIES, arguments.runs, per="plain_bytes"),
                }
                for series in growth.values():
                    show_growth(series)
                if arguments.save:
                    results.merge("engine", "growth", growth)
                continue
            found = measure(rig, _without_peers(WORKLOADS[name], arguments.no_peers), arguments.runs)
            show(found)
            met = met and all(met for _, met in verdicts(found))
            if arguments.save:
                results.merge("engine", "workloads", {name: found})
    return 0 if met else 1


def _without_peers(workload: Workload, wanted: bool) -> Workload:
    if not wanted:
        return workload
    return Workload(workload.title, workload.archive, None, (), workload.put_delay_ms, workload.runs)


if __name__ == "__main__":
    sys.exit(main())
