"""Ingests what it is told to, with one implementation, and measures itself: `python -m bench.worker engine`.

It is what a warm Lambda is: one process, imports done, one event at a time. Each line on standard input names
an object (`{"key": ..., "size": ...}`), each line on standard output says what it cost: see `rig.Worker`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import Engine, event

from veripost import settings
from veripost.settings import Settings

# Like the Lambda runtime, where botocore finds no awscrt; here it is installed for object_writers.py only.
# Nothing above imports botocore.
cast(dict[str, Any], sys.modules)["awscrt"] = None

KINDS: Final = ("engine", "naive", "classic")
Ingest = Callable[[str, int], None]


def engine_ingest(config: Settings) -> Ingest:
    """Return our engine behind the call that the Lambda makes."""
    from veripost import ingestion, telemetry
    from veripost.db import get_engine
    from veripost.ingest_queue import LandedObject
    from veripost.ingestion import Outcome
    from veripost.platforms import registry
    from veripost.platforms.facts import Reader
    from veripost.storage import get_storage

    telemetry.configure(level=config.log_level, as_json=True, environment="bench")
    if os.environ.get("BENCH_PARSING") == "0":  # beside peers that read no file either
        platforms = registry.PLATFORMS.items()
        registry.PLATFORMS = {key: replace(each, load_reader=Reader) for key, each in platforms}

    def ingest(key: str, size: int) -> None:
        outcome = ingestion.ingest(
            LandedObject(config.incoming_bucket, key, "1", size),
            engine=get_engine(config),
            storage=get_storage(config),
            config=ingestion.config_of(config),
            request_id="bench",
            seconds_left=lambda: 900.0,
        )
        if outcome is not Outcome.READY:
            raise RuntimeError(f"the engine says {outcome}")

    return ingest


def ingest_of(kind: str, config: Settings) -> Ingest:
    """Return the implementation called `kind`."""
    if kind == "engine":
        return engine_ingest(config)
    peer: Ingest = importlib.import_module(f"bench.{kind}").make_ingest(config)
    return peer


class DatabaseClock:
    """Adds up the wall time between sending a statement, or a commit, and its answer."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0
        for name in ("before_cursor_execute", "after_cursor_execute"):
            event.listen(Engine, name, self._begin if name.startswith("before") else self._end)
        event.listen(Engine, "engine_connect", self._watch_commits)

    def _watch_commits(self, connection: Any) -> None:
        dialect = connection.dialect
        if getattr(dialect, "_bench_watched", False):
            return
        dialect._bench_watched = True
        commit = dialect.do_commit

        def timed(dbapi_connection: Any) -> None:
            self._begin()
            commit(dbapi_connection)
            self._end()

        dialect.do_commit = timed

    def _begin(self, *_: Any) -> None:
        self._start = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._start


def memory(field: str) -> int:
    """Return `VmRSS` or `VmHWM` of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"no {field} in /proc/self/status")


def cpu_seconds() -> float:
    """Return user and system time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(kind: str) -> None:
    """Answer until standard input closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the implementation prints is no answer
    clock = DatabaseClock()
    ingest = ingest_of(kind, settings.load(os.environ))
    idle = 0
    for line in sys.stdin:
        asked = json.loads(line)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far: proc(5)
        clock.seconds, cpu, start = 0.0, cpu_seconds(), time.perf_counter()
        ingest(asked["key"], asked["size"])
        seconds = time.perf_counter() - start
        answer = {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds() - cpu,
            "database_seconds": clock.seconds,
            "peak_bytes": memory("VmHWM"),
            # Idle is what the first, tiny package left behind.
            "idle_bytes": idle or memory("VmRSS"),
        }
        idle = int(answer["idle_bytes"])
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
