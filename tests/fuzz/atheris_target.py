"""Coverage-guided fuzzing of the gate: `python -m tests.fuzz.atheris_target SECONDS`.

Needs `atheris`, which is no part of the pinned environment. Starts from every archive of the hazard table and
every honest one; stops, with the offending bytes in the current folder, when the oracle fails, an example
takes over a second or memory passes 512 MB.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path

LONGEST = 8_000


def main() -> None:
    """Fuzz for the seconds that the command line names."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 1800
    atheris = import_module("atheris")
    # Imported here and not above: atheris instruments modules while they are imported.
    with atheris.instrument_imports(include=["veripost.archive"]):
        oracle = import_module("tests.fuzz.oracle")
    hazards = import_module("tests.unit.archive.hazards").HAZARDS
    honest = import_module("tests.unit.archive.test_honest").HONEST
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate([row.data for row in hazards] + list(honest.values())):
            if len(data) <= LONGEST:
                (Path(folder) / f"{number}.zip").write_bytes(data)
        options = [
            "-timeout=1",
            "-rss_limit_mb=512",
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            "-print_final_stats=1",
        ]
        atheris.Setup([__file__, *options, folder], oracle.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
