"""What the database costs per file row: `python -m bench.rows`.

The whole last transaction of an ingestion (10,000 file rows, the package, the job, the commit) beside the
ways that most programs take, on one real Postgres with fsync on. All end with the same rows in the table.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import Session

from bench import results
from bench.classic import PostFile
from bench.results import median
from localcloud.postgres import start_postgres
from migrations import app as migrations
from veripost import db, queries
from veripost.models import Status, post_files, post_packages
from veripost.queries import Source, StoredFile
from veripost.settings import Settings

BAR_MICROSECONDS: Final = 20
_ROWS: Final = 10_000
_LEASE: Final = timedelta(minutes=10)


def _files(count: int) -> list[StoredFile]:
    return [
        StoredFile(
            filename=f"MILL_{number:05d}.SRC",
            original_path=f"POSTS/{number // 500:03d}/MILL_{number:05d}.SRC",
            file_extension=".SRC",
            size_bytes=1000 + number,
            content_hash=hashlib.sha256(str(number).encode()).hexdigest(),
        )
        for number in range(count)
    ]


def _values(file: StoredFile, package_id: UUID) -> dict[str, Any]:
    return {
        "id": uuid4(),
        "package_id": package_id,
        "filename": file.filename,
        "original_path": file.original_path,
        "file_extension": file.file_extension,
        "s3_key": f"{queries.package_prefix(package_id)}{file.filename}",
        "size_bytes": file.size_bytes,
        "content_hash": file.content_hash,
    }


def _add_package(engine: Engine) -> UUID:
    source = Source("incoming", f"drops/camworks/{uuid4()}.zip", "1")
    with engine.begin() as connection:
        return queries.add_landed_package(
            connection, name="bench", platform="camworks", source=source, size_bytes=1
        )


def ours(engine: Engine, count: int) -> float:
    """Time the transaction that ends every ingestion."""
    package_id = _add_package(engine)
    with engine.begin() as connection:
        claim = queries.claim_job(
            connection, package_id, lease=_LEASE, request_id="bench", longest_run=_LEASE
        )
    if claim is None:
        raise RuntimeError("could not claim a job of the bench's own")
    for status in (Status.VALIDATING, Status.STORING, Status.PARSING):
        with engine.begin() as connection:
            queries.advance(connection, claim, status)
    files = _files(count)
    start = time.perf_counter()
    with engine.begin() as connection:
        written = queries.finish_ready(
            connection,
            claim,
            name="bench",
            files=files,
            contents=queries.Contents(),
            problems=[],
            size_bytes=1,
            content_hash=hashlib.sha256(package_id.bytes).hexdigest(),
        )
    seconds = time.perf_counter() - start
    if not written:
        raise RuntimeError("the claim was lost")
    return seconds


def commit_each(engine: Engine, count: int) -> float:
    """Time one INSERT and one commit per file."""
    package_id = _add_package(engine)
    files = _files(count)
    start = time.perf_counter()
    for file in files:
        with engine.begin() as connection:
            connection.execute(insert(post_files).values(_values(file, package_id)))
    return time.perf_counter() - start


def add_all(engine: Engine, count: int) -> float:
    """Time the ORM's `add_all` and one commit."""
    package_id = _add_package(engine)
    files = _files(count)
    start = time.perf_counter()
    with Session(engine) as session:
        session.add_all([PostFile(**_values(file, package_id)) for file in files])
        session.commit()
    return time.perf_counter() - start


def executemany(engine: Engine, count: int) -> float:
    """Time Core's `execute` with a list, which pg8000 sends one row at a time."""
    package_id = _add_package(engine)
    files = _files(count)
    start = time.perf_counter()
    with engine.begin() as connection:
        connection.execute(insert(post_files), [_values(file, package_id) for file in files])
    return time.perf_counter() - start


WAYS: Final[dict[str, Callable[[Engine, int], float]]] = {
    "ours (finish_ready)": ours,
    "ORM add_all, one commit": add_all,
    "Core executemany, one commit": executemany,
    "Core insert, a commit each": commit_each,
}


def measure(runs: int) -> dict[str, Any]:
    """Return the median seconds of every way; they take turns."""
    taken: dict[str, list[float]] = {title: [] for title in WAYS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, start_postgres(Path(folder)) as server:
        engine = db.get_engine(Settings(database_url=server.url, database_tls="disable"))
        with engine.connect() as connection:
            migrations.upgrade(connection)
        for way in WAYS.values():
            way(engine, 100)
        for _ in range(runs):
            for title, way in WAYS.items():
                taken[title].append(_checked(partial(way, engine), engine))
        engine.dispose()
    return {"rows": _ROWS, "runs": runs, "seconds": {title: median(each) for title, each in taken.items()}}


def _checked(way: Callable[[int], float], engine: Engine) -> float:
    with engine.begin() as connection:
        connection.execute(post_packages.delete())
    seconds = way(_ROWS)
    with engine.connect() as connection:
        found = connection.scalar(select(func.count()).select_from(post_files))
    if found != _ROWS:
        raise RuntimeError(f"{found} rows instead of {_ROWS}")
    return seconds


def main() -> int:
    """Measure and print; the exit status tells whether the bar is met."""
    arguments = results.arguments("what the database costs per file row").parse_args()
    found = measure(arguments.runs)
    first = next(iter(found["seconds"].values()))
    print(f"{results.machine()}\n{_ROWS:,} file rows, median of {arguments.runs}")
    for title, seconds in found["seconds"].items():
        print(
            f"  {title:30} {seconds:8.3f} s {seconds / _ROWS * 1e6:9.1f} µs a row"
            f" {seconds / first:7.1f} × ours"
        )
    met = first / _ROWS * 1e6 <= BAR_MICROSECONDS
    print(f"  {'met' if met else 'MISSED'}: {first / _ROWS * 1e6:.1f} µs a row (bar {BAR_MICROSECONDS})")
    if arguments.save:
        results.save("rows", found)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
