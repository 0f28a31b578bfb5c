"""What a warm request costs besides the network: `python -m bench.handlers`.

The status function's handler in this process, called as API Gateway calls it, on real Postgres (fsync on, as
many packages as given). One client after the other, as a Lambda process has them. Counted are the statements
of ours, and the round trips to the database that they make: the driver prepares each statement, and the pool
looks whether its connection is alive.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pg8000.core
from sqlalchemy import Engine, event, text

from bench import results
from localcloud.postgres import start_postgres
from migrations import app as migrations
from veripost import db, keys, telemetry
from veripost.schemas import CreateKey
from veripost.settings import get_settings

STATEMENTS_BAR: Final = 2  # of a status request whose key is known
_PROBLEMS: Final = 20  # of each package: a listing has some, a refusal a few
_CONTEXT: Final = SimpleNamespace(aws_request_id="bench", function_name="status")

_FILL: Final = """
WITH made AS (
    INSERT INTO post_packages (id, name, status, source_bucket, source_key, source_version, s3_prefix,
        problems, file_count, size_bytes, content_hash, ready_at, created_at)
    SELECT id, 'PACKAGE_' || number, 'ready', 'incoming', 'drops/camworks/' || number || '.zip', 'v',
        'packages/' || id || '/', CAST(:problems AS jsonb), 30, 100000, repeat('0', 64), now(),
        now() - number * interval '1 minute'
    FROM (SELECT gen_random_uuid() AS id, number FROM generate_series(1, :count) AS number) AS each
    RETURNING id
)
INSERT INTO ingest_runs (id, package_id, attempt, trigger, status, files, bytes, files_total, bytes_total)
SELECT gen_random_uuid(), id, 1, 'drop', 'succeeded', 30, 100000, 30, 100000 FROM made
"""


class Counted:
    """What went to the database since `reset`."""

    def __init__(self, engine: Engine) -> None:
        self.statements = self.round_trips = 0
        event.listen(engine, "before_cursor_execute", self._statement)
        self._handle = pg8000.core.CoreConnection.handle_messages

        def counting(connection: Any, context: Any) -> Any:
            self.round_trips += 1
            return self._handle(connection, context)

        pg8000.core.CoreConnection.handle_messages = counting

    def _statement(self, *_: Any) -> None:
        self.statements += 1

    def reset(self) -> None:
        """Count from 0."""
        self.statements = self.round_trips = 0


@contextmanager
def _deployed(packages: int) -> Iterator[tuple[Engine, str]]:
    """Run a database with so many packages; yield the functions' own engine and a key."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        start_postgres(Path(folder), fsync=True) as server,
    ):
        os.environ |= {"DATABASE_URL": server.url, "DATABASE_TLS": "disable", "LOG_LEVEL": "WARNING"}
        engine = db.get_engine(get_settings())
        with engine.connect() as connection:
            migrations.upgrade(connection)
        problem = {
            "code": "junk_skipped", "severity": "notice", "member": "__MACOSX/._A.SRC",
            "message": "“__MACOSX/._A.SRC” was added by an operating system; it was skipped.",
            "detail": None, "hint": None,
        }  # fmt: skip
        with engine.begin() as connection:
            values = {"count": packages, "problems": json.dumps([problem] * _PROBLEMS)}
            connection.execute(text(_FILL), values)
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
        telemetry.logger.setLevel("WARNING")
        key = keys.mint(engine, CreateKey.model_validate({"client_name": "bench", "scopes": ["read"]})).key
        yield engine, key
        engine.dispose()


def _request(path: str, key: str, query: dict[str, str] | None = None, **headers: str) -> dict[str, Any]:
    return {
        "httpMethod": "GET",
        "path": path,
        "resource": path,
        "headers": {"X-API-Key": key, **{name.replace("_", "-"): value for name, value in headers.items()}},
        "multiValueHeaders": {},
        "queryStringParameters": query,
        "requestContext": {"requestId": "bench", "stage": "api"},
        "body": None,
        "isBase64Encoded": False,
    }


def _measure(call: Callable[[], Any], counted: Counted, runs: int) -> dict[str, float]:
    for _ in range(20):
        call()
    seconds = []
    counted.reset()
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "median": statistics.median(seconds),
        "p99": cuts[98],
        "statements": counted.statements / runs,
        "round_trips": counted.round_trips / runs,
    }


def measure(packages: int, runs: int) -> dict[str, Any]:
    """Return median, p99 (seconds), statements and round trips of each kind of request."""
    from functions.status import app  # after the environment is set

    found: dict[str, dict[str, float]] = {}
    with _deployed(packages) as (engine, key):

        def call(event: dict[str, Any], expected: int = 200) -> Any:
            answer = app.handler(event, _CONTEXT)
            if answer["statusCode"] != expected:
                raise RuntimeError(f"{event['path']} answered {answer['statusCode']}: {answer['body']}")
            return answer

        counted = Counted(engine)
        first = json.loads(call(_request("/v1/packages", key, {"limit": "200"}))["body"])
        status = f"/v1/packages/{first['packages'][0]['id']}/status"
        deep = {"limit": "50", "cursor": first["next_cursor"]}
        tag = call(_request(status, key))["multiValueHeaders"]["ETag"][0]
        requests: dict[str, tuple[dict[str, Any], int]] = {
            "status": (_request(status, key), 200),
            "status, nothing new (304)": (_request(status, key, If_None_Match=tag), 304),
            "list, first 50": (_request("/v1/packages", key), 200),
            "list, 50 after a cursor": (_request("/v1/packages", key, deep), 200),
            "wrong key": (_request(status, "vp_wrong"), 401),
        }
        for title, (event_, expected) in requests.items():
            found[title] = _measure(partial(call, event_, expected), counted, runs)
    return {"packages": packages, "runs": runs, "requests": found}


def main() -> int:
    """Measure and print; the exit status tells whether the bar is met."""
    parser = results.arguments("what a warm request costs besides the network", runs=2000)
    parser.add_argument("--packages", type=int, default=20_000, help="so many packages (default 20000)")
    options = parser.parse_args()
    found = measure(options.packages, options.runs)
    print(f"{results.machine()}\n{found['packages']:,} packages, {found['runs']:,} requests of each kind")
    for title, figures in found["requests"].items():
        print(
            f"  {title:28} {figures['median'] * 1e3:6.2f} ms  p99 {figures['p99'] * 1e3:6.2f} ms"
            f"  {figures['statements']:.2f} statements in {figures['round_trips']:.2f} round trips"
        )
    if options.save:
        results.save("handlers", found)
    met = found["requests"]["status"]["statements"] <= STATEMENTS_BAR
    print(f"status: at most {STATEMENTS_BAR} statements: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
