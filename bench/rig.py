"""What every measured program works against: one real Postgres, migrated, and one S3 stand-in.

    with Rig() as rig, rig.worker("engine") as worker:
        worker.ingest(archive)

Postgres runs with fsync on, as in production, for us and for the peers alike.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from sqlalchemy import create_engine, make_url, text

from bench import workloads
from bench.processes import CACHE, ROOT, environment
from bench.s3_stand_in import StandIn
from bench.workloads import Archive
from localcloud.postgres import start_postgres
from migrations import app as migrations

INCOMING: Final = "incoming"
PACKAGES: Final = "packages"
_KEPT_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Run:
    """What one ingestion cost. `seconds` is wall time, the bytes are memory of the process."""

    seconds: float
    cpu_seconds: float
    database_seconds: float
    idle_bytes: int
    peak_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Peak memory over the idle process."""
        return self.peak_bytes - self.idle_bytes


class Worker:
    """A process that ingests with one implementation: fresh, warmed up by one tiny package."""

    def __init__(self, rig: Rig, kind: str, settings: dict[str, str]) -> None:
        self.kind = kind
        self.requests: dict[str, int] = {}
        """What the latest ingestion asked of S3, and how often."""
        self._rig = rig
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(**rig.settings, **settings),
            text=True,
        )
        self._verify()

    @property
    def pid(self) -> int:
        """The process that does the work."""
        return self._process.pid

    def _verify(self) -> None:
        """Ingest the first package and compare every object that arrived with what was packed."""
        archive = workloads.ARCHIVES["warm-up"]
        self._rig.s3.configure(keep_bytes=_KEPT_BYTES, verify=True, reset=True)
        self.ingest(archive)
        found = self._rig.s3.configure(keep_bytes=0, verify=False)["kept"]
        arrived = {key.rpartition("/")[2]: digest for key, digest in found.items()}
        if arrived != workloads.hashes(archive):
            raise RuntimeError(f"{self.kind} stored other bytes than the archive holds")
        self._rig.s3.configure(reset=True)

    def ingest(self, archive: Archive) -> Run:
        """Let a package land and wait until it is stored and recorded; check that all of it was."""
        path = workloads.ensure(archive, CACHE)
        key = f"drops/camworks/{uuid4()}/{archive.file}"
        self._rig.s3.configure(reset=True)
        answer = self._ask({"key": key, "size": path.stat().st_size})
        counters = self._rig.s3.configure()["counters"]
        self.requests = {name: count for name, count in counters.items() if not name.startswith("bytes_")}
        objects = counters.get("put", 0) + counters.get("complete_multipart_upload", 0)
        rows = self._rig.scalar(
            "SELECT count(*) FROM post_files JOIN post_packages p ON p.id = package_id"
            f" WHERE p.source_key = '{key}' AND p.status = 'ready'"
        )
        if objects != archive.count or rows != archive.count:
            raise RuntimeError(f"{self.kind}: {archive.count} members, {objects} objects, {rows} rows")
        # So that the tables are as small for the last run as for the first.
        self._rig.scalar("DELETE FROM post_packages RETURNING 1")
        return Run(**answer)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.kind} worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Rig:
    """Postgres and the stand-in; both end with the block, and with this process."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        try:
            workloads.ensure(workloads.ARCHIVES["warm-up"], CACHE)
            self.s3 = self._stack.enter_context(StandIn(CACHE))
            self.postgres = self._stack.enter_context(start_postgres(folder, fsync=True))
            url = make_url(self.postgres.url).set(drivername="postgresql+pg8000")
            engine = create_engine(url)
            self._stack.callback(engine.dispose)
            with engine.connect() as connection:
                migrations.upgrade(connection)
            self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        except BaseException:
            self._stack.close()
            raise

    @property
    def settings(self) -> dict[str, str]:
        """VeriPost's settings for this rig: limits high enough for every workload."""
        return {
            "DATABASE_URL": self.postgres.url,
            "DATABASE_TLS": "disable",
            "S3_ENDPOINT_URL": self.s3.url,
            "INCOMING_BUCKET": INCOMING,
            "PACKAGE_BUCKET": PACKAGES,
            "MAX_TOTAL_BYTES": str(8 << 30),
            "LOG_LEVEL": "WARNING",
        }

    @contextlib.contextmanager
    def workers(self, *kinds: str, **settings: str) -> Iterator[dict[str, Worker]]:
        """Start one worker of each kind; all but the one that is asked sleep."""
        with contextlib.ExitStack() as stack:
            yield {kind: stack.enter_context(Worker(self, kind, settings)) for kind in kinds}

    def scalar(self, statement: str) -> Any:
        """Run a statement of the bench's own and return the first value."""
        with self._engine.connect() as connection:
            return connection.scalar(text(statement))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
