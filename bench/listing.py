"""What a page of the list of packages costs, near and far: `python -m bench.listing`.

100,000 packages on a real Postgres, asked for at the catalogue's own function, with the cursor that a client
gets who walks there page by page. Also what of that is the server's, and what it needs for the same page by
OFFSET, as most programs do it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, text

from bench import results
from bench.results import median
from localcloud.postgres import start_postgres
from migrations import app as migrations
from veripost import catalog, db, queries
from veripost.models import Sort, Status
from veripost.queries import PackageFilter
from veripost.settings import Settings

BAR: Final = 1.5
_PACKAGES: Final = 100_000
_PAGE: Final = 50
_FAR: Final = 500  # the depth, in pages
# The far end of each must exist: 500 pages of 50.
LISTS: Final[dict[str, tuple[PackageFilter, Sort]]] = {
    "all, newest first": (PackageFilter(), Sort.NEWEST),
    "all, by name": (PackageFilter(), Sort.NAME),
    "all, last updated first": (PackageFilter(), Sort.LAST_UPDATED),
    "ready, by name": (PackageFilter(status=Status.READY), Sort.NAME),
    "with a .KIN, newest first": (PackageFilter(extension=".KIN"), Sort.NEWEST),
}


def fill(connection: Connection, count: int) -> None:
    """Record `count` packages as years of use would leave them, one a minute; the same ones each time.

    Of all packages 5 % are `error` and 1 % `pending`; the 20 oldest are `storing`. 2 % are of the platform
    `other`; machines are `Mill 0` to `Mill 39` and, 50 times, `Rare 5X`; controllers are `Fanuc 0` to
    `Fanuc 11`. All files are .SRC and .LIB, .KIN in a third and .CNF in a thousandth of the packages. Three
    in a row share their bytes. Names begin with `POST_` and a letter from A to Z.
    """
    connection.execute(_FILL, {"count": count})


_FILL = text(
    """
    INSERT INTO post_packages (
        id, name, platform, machine_type, controller_type, status, error_code, error_message, size_bytes,
        content_hash, extensions, source_bucket, source_key, source_version, s3_prefix, created_at,
        updated_at, ready_at
    )
    SELECT
        id, name, platform, machine_type, controller_type, status,
        CASE status WHEN 'error' THEN 'not_a_zip' END, CASE status WHEN 'error' THEN 'It is no ZIP.' END,
        1000 + n,
        CASE WHEN status <> 'pending' THEN encode(sha256(CAST(CAST(n / 3 AS text) AS bytea)), 'hex') END,
        CASE
            WHEN status <> 'ready' THEN CAST(ARRAY[] AS text[])
            WHEN mod(n, 1000) = 7 THEN ARRAY['.CNF', '.SRC']
            WHEN mod(n, 3) = 0 THEN ARRAY['.KIN', '.LIB', '.SRC']
            ELSE ARRAY['.LIB', '.SRC']
        END,
        'incoming', 'drops/camworks/' || n, '1', 'packages/' || id || '/', created_at,
        created_at + mod(n * 7919, 3600) * interval '1 second',
        CASE status WHEN 'ready' THEN created_at END
    FROM (
        SELECT
            n,
            CAST(md5(CAST(n AS text)) AS uuid) AS id,
            'POST_' || chr(CAST(65 + mod(n * 7919, 26) AS integer)) || '_' || mod(n * 104729, 1000003)
                AS name,
            CASE WHEN mod(n, 50) = 0 THEN 'other' ELSE 'camworks' END AS platform,
            CASE
                WHEN mod(n, 10) = 0 THEN NULL
                WHEN mod(n, 2000) = 1 THEN 'Rare 5X'
                ELSE 'Mill ' || mod(n, 40)
            END AS machine_type,
            CASE WHEN mod(n, 10) > 0 THEN 'Fanuc ' || mod(n, 12) END AS controller_type,
            CASE
                WHEN n <= 20 THEN 'storing'
                WHEN mod(n, 20) = 3 THEN 'error'
                WHEN mod(n, 100) = 4 THEN 'pending'
                ELSE 'ready'
            END AS status,
            timestamptz '2026-01-01 00:00Z' + n * interval '1 minute' AS created_at
        FROM generate_series(CAST(1 AS bigint), :count) AS n
    ) AS made
    """
)


def walk(engine: Engine, chosen: PackageFilter, sort: Sort, pages: int) -> str:
    """Go through so many pages as a client does; return the cursor of the one that follows."""
    cursor = None
    for _ in range(pages):
        cursor = catalog.list_packages(engine, chosen, sort, limit=_PAGE, cursor=cursor).next_cursor
    if cursor is None:
        raise RuntimeError("the list ended early")
    return cursor


def server_seconds(engine: Engine, statement: Select[Any], runs: int) -> float:
    """Return the median seconds that the server itself needs for a statement."""
    compiled = statement.compile(dialect=engine.dialect)
    explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {compiled}"
    values = tuple(compiled.params[name] for name in compiled.positiontup or ())
    with engine.connect() as connection:
        plans = [connection.exec_driver_sql(explain, values).scalar_one()[0] for _ in range(runs)]
    return median([plan["Execution Time"] / 1000 for plan in plans])


def measure(runs: int) -> dict[str, Any]:
    """Return the median seconds of the first and the far page of every list; they take turns."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, start_postgres(Path(folder)) as server:
        settings = Settings(database_url=server.url, database_tls="disable", database_timeout_seconds=120)
        engine = db.get_engine(settings)
        with engine.connect() as connection:
            migrations.upgrade(connection)
        with engine.begin() as connection:
            fill(connection, _PACKAGES)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE post_packages"))
        for title, (chosen, sort) in LISTS.items():
            found[title] = _measure_one(engine, chosen, sort, runs)
        engine.dispose()
    return {"packages": _PACKAGES, "page": _PAGE, "depth": _FAR, "runs": runs, "lists": found}


def _measure_one(engine: Engine, chosen: PackageFilter, sort: Sort, runs: int) -> dict[str, float]:
    cursor = walk(engine, chosen, sort, _FAR - 1)
    by_offset = queries.listing(chosen, sort, limit=_PAGE + 1).offset((_FAR - 1) * _PAGE)
    with engine.connect() as connection:
        *_, last = queries.list_packages(connection, chosen, sort, limit=(_FAR - 1) * _PAGE, after=None)
        expected = [row["id"] for row in connection.execute(by_offset).mappings()][:_PAGE]
    there = queries.Place(last["sort_key"], last["id"])
    seen: list[UUID] = []
    taken: dict[str, list[float]] = {"first": [], "far": []}
    for _ in range(runs):
        for name, place in (("first", None), ("far", cursor)):
            start = time.perf_counter()
            page = catalog.list_packages(engine, chosen, sort, limit=_PAGE, cursor=place)
            taken[name].append(time.perf_counter() - start)
            seen = [package.id for package in page.packages]
    if seen != expected:
        raise RuntimeError("the cursor led elsewhere")
    statements = {
        "server_first": queries.listing(chosen, sort, limit=_PAGE + 1),
        "server_far": queries.listing(chosen, sort, limit=_PAGE + 1, after=there),
        "server_offset": by_offset,
    }
    return {name: median(each) for name, each in taken.items()} | {
        name: server_seconds(engine, statement, runs) for name, statement in statements.items()
    }


def ratio(seconds: dict[str, float]) -> float:
    """Return how much longer the far page takes than the first."""
    return seconds["far"] / seconds["first"]


def main() -> int:
    """Measure and print; the exit status tells whether the bar is met."""
    arguments = results.arguments("what a page costs, near and far", runs=200).parse_args()
    found = measure(arguments.runs)
    print(f"{results.machine()}\n{_PACKAGES:,} packages, pages of {_PAGE}, median of {arguments.runs}")
    for title, seconds in found["lists"].items():
        first, far, offset = (seconds[f"server_{name}"] * 1e3 for name in ("first", "far", "offset"))
        print(
            f"  {title:26} page 1 {seconds['first'] * 1e3:5.2f} ms,"
            f" page {_FAR} {seconds['far'] * 1e3:5.2f} ms: {ratio(seconds):4.2f} ×;"
            f" in the server {first:.2f} and {far:.2f} ms, by OFFSET {offset:.1f} ms"
        )
    worst = max(ratio(seconds) for seconds in found["lists"].values())
    met = worst <= BAR
    print(f"  {'met' if met else 'MISSED'}: at most {worst:.2f} × (bar {BAR} ×)")
    if arguments.save:
        results.save("listing", found)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
