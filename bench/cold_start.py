"""What a cold start spends on imports: `python -m bench.cold_start`.

Each function's module in a fresh interpreter, beside everything that the layer holds (and boto3, which the
runtime brings). Measured inside that interpreter, so its own start does not count; the files are in the page
cache. "Without .pyc" means that the standard library is compiled, as Lambda ships it, and nothing else is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench import results
from bench.processes import ROOT, environment
from bench.results import median

BAR: Final = 0.5
# The libraries of layers/common/requirements.in as a program uses them, plus the runtime's boto3.
EVERYTHING: Final = (
    "boto3",
    "sqlalchemy",
    "sqlalchemy.orm",
    "sqlalchemy.dialects.postgresql",
    "pg8000.dbapi",
    "alembic.command",
    "pydantic",
    "aws_lambda_powertools",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.event_handler.api_gateway",
    "aws_lambda_powertools.utilities.batch",
    "aws_lambda_powertools.utilities.data_classes",
    "isal.igzip_lib",
    "isal.isal_zlib",
    "obstore.store",
    "python_multipart",
)
TARGETS: Final = {
    "every library of the layer": EVERYTHING,
    "status": ("functions.status.app",),
    "ingest": ("functions.ingest.app",),
    "upload": ("functions.upload.app",),
    "migrate": ("migrations.app",),
}
BARRED: Final = ("status", "ingest")
_PROGRAM: Final = """
import sys, time
sys.modules["awscrt"] = None  # Lambda's runtime has none; here it is installed for object_writers.py only
start = time.perf_counter()
for name in sys.argv[1:]:
    __import__(name)
print(time.perf_counter() - start, len(sys.modules))
"""


def import_time(names: tuple[str, ...], *options: str, **variables: str) -> tuple[float, int]:
    """Return seconds and the number of loaded modules after importing `names` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, *options, "-c", _PROGRAM, *names],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, modules = done.stdout.split()[-2:]
    return float(seconds), int(modules)


def measure(runs: int) -> dict[str, Any]:
    """Return the median import time of every target, compiled and not; they take turns."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        cache = Path(name)
        for names in TARGETS.values():  # the first time compiles
            import_time(names, PYTHONPYCACHEPREFIX=name, PYTHONDONTWRITEBYTECODE="")
        compiled: dict[str, list[float]] = {title: [] for title in TARGETS}
        modules: dict[str, int] = {}
        for _ in range(runs):
            for title, names in TARGETS.items():
                seconds, modules[title] = import_time(names, "-B", PYTHONPYCACHEPREFIX=name)
                compiled[title].append(seconds)
        _forget_all_but_the_standard_library(cache)
        plain: dict[str, list[float]] = {title: [] for title in TARGETS}
        for _ in range(runs):
            for title, names in TARGETS.items():
                plain[title].append(import_time(names, "-B", PYTHONPYCACHEPREFIX=name)[0])
    return {
        "runs": runs,
        "modules": modules,
        "seconds": {title: median(each) for title, each in compiled.items()},
        "seconds_without_pyc": {title: median(each) for title, each in plain.items()},
    }


def _forget_all_but_the_standard_library(cache: Path) -> None:
    """Delete what was compiled of the layer and of our code; PYTHONPYCACHEPREFIX mirrors the whole tree."""
    for place in {path for path in sys.path if path.endswith("site-packages")} | {str(ROOT)}:
        shutil.rmtree(cache / place.lstrip("/"), ignore_errors=True)


def main() -> int:
    """Measure and print; the exit status tells whether the bar is met."""
    arguments = results.arguments("what a cold start spends on imports", runs=9).parse_args()
    found = measure(arguments.runs)
    print(f"{results.machine()}\nimports in a fresh interpreter, median of {arguments.runs}")
    everything = found["seconds"]["every library of the layer"]
    met = True
    for title in TARGETS:
        seconds, plain = found["seconds"][title], found["seconds_without_pyc"][title]
        share = seconds / everything
        verdict = ""
        if title in BARRED:
            met = met and share <= BAR
            verdict = f"  {'met' if share <= BAR else 'MISSED'} (bar {BAR:.0%})"
        print(
            f"  {title:28} {seconds * 1e3:7.0f} ms  {share:5.0%} of everything, {found['modules'][title]:5}"
            f" modules; without .pyc {plain * 1e3:7.0f} ms ({plain / seconds:.1f} ×){verdict}"
        )
    if arguments.save:
        results.save("cold_start", found)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
