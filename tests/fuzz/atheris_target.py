"""Coverage-guided fuzzing of the gate: `python -m tests.fuzz.atheris_target SECONDS`.

Needs `atheris`. Starts from every archive of the hazard table and every honest one; stops, with the offending
bytes in the current folder, when the oracle fails, an example takes over a second or memory passes 512 MB.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # it has no types

with atheris.instrument_imports(include=["veripost.archive"]):
    import veripost.archive

from tests.fuzz.oracle import check
from tests.unit.archive.hazards import HAZARDS
from tests.unit.archive.test_honest import HONEST

LONGEST = 8_000


def main() -> None:
    """Fuzz for the seconds that the command line names."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 1800
    with tempfile.TemporaryDirectory() as folder:
        seeds = [row.data for row in HAZARDS] + list(HONEST.values())
        for number, data in enumerate(seeds):
            if len(data) <= LONGEST:
                (Path(folder) / f"{number}.zip").write_bytes(data)
        options = [
            "-timeout=1",
            "-rss_limit_mb=512",
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            "-print_final_stats=1",
        ]
        atheris.Setup([veripost.archive.__name__, *options, folder], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
