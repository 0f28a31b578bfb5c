"""Many packages at once on the local cloud, good and bad, and not one lost or doubled: `make soak N=2000`.

Most are good drops; known shares are refused, are no ZIP at all, repeat the bytes of another, or come through
the other two doors. Folder markers land in between, some events are delivered twice, and garbage is put into
the queue. When all have ended, everything that is stored anywhere is counted.

The figures say what this machine's LocalStack can do, not what AWS can. What counts is the exit status.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus
from uuid import uuid4

from sqlalchemy import Engine, create_engine, make_url, text

from bench import results
from bench.local_cloud import percentile
from localcloud import cloud as local
from localcloud import samples
from localcloud.api_client import ApiClient
from localcloud.cloud import Cloud

PATIENCE_SECONDS: Final = 20 * 60
PARAMETERS: Final = {
    "RetryBackoffSeconds": "1",
    "MaxReceiveCount": "3",
    "LeaseSeconds": "20",
    "IngestTimeoutSeconds": "60",
    "QueueVisibilitySeconds": "120",
    "StaleSeconds": "120",
    "IngestConcurrency": "4",
    "LogLevel": "WARNING",
}
FILES: Final = 7  # of a good package
# Of a hundred packages; the rest are good drops.
_SHARES: Final = {"refused": 6, "no zip": 4, "repeated": 4, "api": 4, "presigned": 4}
_EXTRAS: Final = 50  # one folder marker and one garbage message for so many packages
_TWICE_EVERY: Final = 10  # of the drops: their event is delivered once more
_PUSHERS: Final = 8
_MOST_IN_A_BATCH: Final = 10


@dataclass(slots=True)
class Package:
    """One package of a soak: what is sent, and what must become of it."""

    kind: str
    data: bytes
    key: str
    status: str = "ready"
    error_code: str | None = None
    package_id: str = ""
    pushed: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a soak. `broken` is empty if every promise held."""

    packages: int
    seconds: float
    ready_seconds: Sequence[float]
    kinds: dict[str, int]
    duplicates: int
    garbage: int
    attempts: dict[int, int]
    events: int
    broken: tuple[str, ...]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        attempts = ", ".join(f"{count} × {attempt}" for attempt, count in sorted(self.attempts.items()))
        lines = [
            f"{self.packages} packages ({kinds}) in {self.seconds:.0f} s:"
            f" {self.packages / self.seconds:.1f} packages/s",
            f"  from PUT to ready: median {percentile(list(self.ready_seconds), 0.5):.1f} s,"
            f" p99 {percentile(list(self.ready_seconds), 0.99):.1f} s (all were pushed at once)",
            f"  attempts needed: {attempts}",
            f"  events delivered again and ignored: {self.duplicates}",
            f"  garbage messages, all parked: {self.garbage}",
            f"  events told to the outside: {self.events}",
            *(f"  BROKEN: {promise}" for promise in self.broken),
        ]
        return "\n".join(lines if self.broken else [*lines, "  none lost, none doubled, nothing left over"])


class Soak:
    """One run against a deployed cloud, which may have other packages besides ours."""

    def __init__(self, cloud: Cloud, count: int, say: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._key = cloud.mint_key("soak", "write")
        self._say = say
        self._token = uuid4().hex[:12]
        self._bucket = cloud.outputs["IncomingBucketName"]
        self._s3, self._sqs = cloud.client("s3"), cloud.client("sqs")
        self._engine: Engine = create_engine(
            make_url(cloud.database_url).set(drivername="postgresql+pg8000"), isolation_level="AUTOCOMMIT"
        )
        self._packages = list(self._plan(count))
        self._garbage = [f"garbage {self._token} {number}" for number in range(max(2, count // _EXTRAS))]
        self._markers = [f"drops/camworks/{self._token}/{number}/" for number in range(len(self._garbage))]
        self._again: list[Package] = []
        self._broken: list[str] = []

    def run(self, *, seconds: float) -> Report:
        """Push everything at once, wait until all have ended, and count."""
        with _Listener(self._cloud, self._token) as listener:
            began = time.monotonic()
            with ThreadPoolExecutor(_PUSHERS, thread_name_prefix="push") as pushers:
                for pushed in [pushers.submit(push) for push in self._pushes()]:
                    pushed.result()
            self._say(
                f"{len(self._packages)} packages are on their way after {time.monotonic() - began:.0f} s"
            )
            self._wait_until_all_have_ended(began + seconds)
            took = time.monotonic() - began
            self._wait_until_the_queues_are_empty(began + seconds)
            rows = self._rows()
            self._look_at_packages(rows)
            self._look_at_objects(rows)
            self._look_at_parked()
            events = self._look_at_events(rows, listener, began + seconds)
        self._engine.dispose()
        return Report(
            packages=len(self._packages),
            seconds=took,
            ready_seconds=[
                (rows[package.key]["ready_at"] - package.pushed).total_seconds()
                for package in self._packages
                if package.key in rows and rows[package.key]["ready_at"] is not None
            ],
            kinds=dict(Counter(package.kind for package in self._packages)),
            duplicates=len(self._again),
            garbage=len(self._garbage),
            attempts=dict(Counter(row["attempts"] for row in rows.values())),
            events=events,
            broken=tuple(self._broken),
        )

    # -- pushing

    def _plan(self, count: int) -> Iterator[Package]:
        kinds = [kind for kind, share in _SHARES.items() for _ in range(max(1, count * share // 100))]
        kinds = ["good"] * (count - len(kinds)) + kinds
        first = b""
        # Spread evenly, in an order that is the same each time.
        order = sorted(range(count), key=lambda number: hashlib.sha256(str(number).encode()).digest())
        for number in order:
            kind = kinds[number]
            key = f"drops/camworks/{self._token}/{number}.zip"
            # Its own name makes every package's bytes its own.
            files = samples.post_processor(f"SOAK_{self._token}_{number}", sections=2)
            if kind == "refused":
                data = samples.zip_of(files | {"part.NC": b"G0 X0\r\n"})
                yield Package(kind, data, key, "error", "forbidden_extension")
            elif kind == "no zip":
                yield Package(kind, f"no ZIP: {key}\n".encode() * 20, key, "error", "not_a_zip")
            elif kind == "repeated" and first:
                yield Package(kind, first, key)
            else:
                data = samples.zip_of(files)
                first = first or data
                yield Package("good" if kind == "repeated" else kind, data, key)

    def _pushes(self) -> list[Callable[[], None]]:
        """Return every call to make, the odd ones spread among the others."""
        pushes: list[Callable[[], None]] = []
        for number, package in enumerate(self._packages):
            if package.kind in {"api", "presigned"}:
                pushes.append(partial(self._push_through_api, package))
            else:
                pushes.append(partial(self._push_drop, package, twice=number % _TWICE_EVERY == 0))
        for number in range(len(self._garbage)):
            pushes.insert(number * _EXTRAS, partial(self._push_extra, number))
        return pushes

    def _push_extra(self, number: int) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=self._markers[number], Body=b"")
        self._sqs.send_message(
            QueueUrl=self._cloud.outputs["IngestQueueUrl"], MessageBody=self._garbage[number]
        )

    def _push_drop(self, package: Package, *, twice: bool) -> None:
        package.pushed = datetime.now(UTC)
        answer = self._s3.put_object(Bucket=self._bucket, Key=package.key, Body=package.data)
        if twice:
            body = _event(self._bucket, package.key, answer["VersionId"], len(package.data))
            self._sqs.send_message(QueueUrl=self._cloud.outputs["IngestQueueUrl"], MessageBody=body)
            self._again.append(package)

    def _push_through_api(self, package: Package) -> None:
        api = ApiClient(self._cloud.api_url, self._key)  # one for each push: connections are not shared
        package.pushed = datetime.now(UTC)
        if package.kind == "api":
            accepted = api.upload("soak.zip", package.data).json
        else:
            accepted = api.announce("soak.zip", package.data).json
            sent = api.send_form(accepted["upload"], package.data)
            if sent.status not in {200, 204}:
                raise ConnectionError(f"the store answered {sent.status} to a form")
        package.package_id = accepted["package_id"]
        package.key = f"uploads/{package.package_id}/archive.zip"

    # -- waiting

    def _wait_until_all_have_ended(self, deadline: float) -> None:
        told = time.monotonic()
        while (ended := self._ended()) < len(self._packages):
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {ended} of {len(self._packages)} packages have ended")
            if time.monotonic() - told > 15:
                told = time.monotonic()
                self._say(f"  {ended} have ended")
            time.sleep(0.25)

    def _ended(self) -> int:
        found = self._sql(
            "SELECT count(*) FROM post_packages"
            " WHERE source_key = ANY(:keys) AND status IN ('ready', 'error')"
        )
        return int(found[0]["count"])

    def _wait_until_the_queues_are_empty(self, deadline: float) -> None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        names.append("ApproximateNumberOfMessagesDelayed")
        for output in ("IngestQueueUrl", "DeadLetterQueueUrl"):
            while True:
                found = self._sqs.get_queue_attributes(
                    QueueUrl=self._cloud.outputs[output], AttributeNames=names
                )["Attributes"]
                if not any(int(found[name]) for name in names):
                    break
                if time.monotonic() > deadline:
                    self._broken.append(f"{output} holds {found}")
                    break
                time.sleep(0.25)

    # -- counting

    def _sql(self, statement: str, keys: Sequence[str] | None = None) -> list[Any]:
        """Run a statement; `:keys` are those of our packages unless others are given."""
        with self._engine.connect() as connection:
            keys = [package.key for package in self._packages] if keys is None else list(keys)
            return list(connection.execute(text(statement), {"keys": keys}).mappings())

    def _rows(self) -> dict[str, Any]:
        rows = self._sql(
            """
            SELECT id::text, source_key, status, error_code, ready_at, content_hash,
                (SELECT count(*) FROM post_files WHERE package_id = p.id) AS files,
                (SELECT count(*) FROM ingest_runs WHERE package_id = p.id) AS jobs,
                (SELECT max(attempt) FROM ingest_runs WHERE package_id = p.id) AS attempts
            FROM post_packages p WHERE source_key = ANY(:keys)
            """
        )
        if len(rows) != len(self._packages):
            self._broken.append(f"{len(rows)} records of {len(self._packages)} packages")
        return {row["source_key"]: row for row in rows}

    def _look_at_packages(self, rows: dict[str, Any]) -> None:
        for package in self._packages:
            row = rows.get(package.key)
            if row is None:
                self._broken.append(f"{package.kind} {package.key} was lost")
                continue
            files = FILES if package.status == "ready" else 0
            found = (row["status"], row["error_code"], row["files"], row["jobs"])
            if found != (package.status, package.error_code, files, 1):
                self._broken.append(f"{package.kind} {package.key} is {found}")
            if row["status"] == "ready" and row["content_hash"] != hashlib.sha256(package.data).hexdigest():
                self._broken.append(f"{package.kind} {package.key} has another hash")
        marked = "SELECT count(*) FROM post_packages WHERE source_key = ANY(:keys)"
        if markers := int(self._sql(marked, self._markers)[0]["count"]):
            self._broken.append(f"{markers} folder markers became packages")

    def _look_at_objects(self, rows: dict[str, Any]) -> None:
        bucket = self._cloud.outputs["PackageBucketName"]
        stored: Counter[str] = Counter()
        for page in self._s3.get_paginator("list_object_versions").paginate(
            Bucket=bucket, Prefix="packages/"
        ):
            entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            stored.update(entry["Key"].split("/")[1] for entry in entries)
        for package in self._packages:
            row = rows.get(package.key)
            if row is None:
                continue
            # Every further attempt may leave one more version of a file, which a rule of the bucket removes.
            most = row["files"] * row["attempts"]
            if not row["files"] <= stored[row["id"]] <= most:
                self._broken.append(f"{stored[row['id']]} objects below {row['id']} of {row['files']} files")
        owners = {row["id"] for row in self._sql("SELECT id::text FROM post_packages")}
        for stray in sorted(set(stored) - owners):
            self._broken.append(f"{stored[stray]} objects below {stray}, which is no package")
        unfinished = self._s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        if unfinished:
            self._broken.append(f"{len(unfinished)} unfinished uploads")

    def _look_at_parked(self) -> None:
        parked = _take(self._sqs, self._cloud.outputs["ParkingLotQueueUrl"], self._token)
        if sorted(parked) != sorted(self._garbage):
            self._broken.append(f"{len(parked)} messages are parked, {len(self._garbage)} were garbage")

    def _look_at_events(self, rows: dict[str, Any], listener: _Listener, deadline: float) -> int:
        waiting = "SELECT count(*) FROM outbox"
        while int(self._sql(waiting)[0]["count"]) and time.monotonic() < deadline:
            self._cloud.invoke("PublishFunctionName")
        wanted = {row["id"]: row["status"] for row in rows.values()}
        told: dict[str, Any] = {}
        while time.monotonic() < deadline:
            heard = listener.heard()
            told |= {event["detail"]["event_id"]: event for event in heard}
            ours = [event for event in told.values() if event["detail"]["package_id"] in wanted]
            if not heard and len(ours) >= len(wanted):
                break
        ours = [event for event in told.values() if event["detail"]["package_id"] in wanted]
        status_of = {event["detail"]["package_id"]: event["detail"]["status"] for event in ours}
        if len(ours) != len(wanted) or status_of != wanted:
            self._broken.append(f"{len(ours)} events of {len(wanted)} packages")
        return len(ours)


class _Listener:
    """A queue that hears every event of the bus."""

    def __init__(self, cloud: Cloud, token: str) -> None:
        self._sqs, self._events = cloud.client("sqs"), cloud.client("events")
        self._bus, self._name = cloud.outputs["EventBusName"], f"soak-{token}"

    def __enter__(self) -> _Listener:
        self._url = self._sqs.create_queue(QueueName=self._name)["QueueUrl"]
        found = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]
        pattern = json.dumps({"source": ["veripost"]})
        self._events.put_rule(Name=self._name, EventBusName=self._bus, EventPattern=pattern)
        targets = [{"Id": "1", "Arn": found["QueueArn"]}]
        self._events.put_targets(Rule=self._name, EventBusName=self._bus, Targets=targets)
        return self

    def heard(self) -> list[Any]:
        """Return what has come since the last call."""
        return [json.loads(body) for body in _take(self._sqs, self._url, "")]

    def __exit__(self, *_: object) -> None:
        self._events.remove_targets(Rule=self._name, EventBusName=self._bus, Ids=["1"])
        self._events.delete_rule(Name=self._name, EventBusName=self._bus)
        self._sqs.delete_queue(QueueUrl=self._url)


def _take(sqs: Any, url: str, token: str) -> list[str]:
    """Take every message that holds `token` out of a queue; return the bodies."""
    bodies: list[str] = []
    while True:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=_MOST_IN_A_BATCH, VisibilityTimeout=5)
        messages = answer.get("Messages", [])
        if not messages:
            return bodies
        for message in messages:
            if token in message["Body"]:
                bodies.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def _event(bucket: str, key: str, version: str, size: int) -> str:
    """Return the message that S3 sends for an object."""
    entry = {"key": quote_plus(key, safe="/"), "size": size, "versionId": version}
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": entry}}
    return json.dumps({"Records": [record]})


def soak(
    cloud: Cloud,
    count: int,
    *,
    seconds: float = PATIENCE_SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Soak a deployed cloud with `count` packages.

    Raises
    ------
    TimeoutError
        Not all of them had ended within `seconds`.
    """
    return Soak(cloud, count, say).run(seconds=seconds)


def main() -> int:
    """Boot a cloud and soak it; the exit status tells whether every promise held."""
    parser = argparse.ArgumentParser(description="many packages at once, and not one lost or doubled")
    parser.add_argument("count", type=int, nargs="?", default=2000, help="how many packages (default 2000)")
    arguments = parser.parse_args()
    print(results.machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        state = Path(name) / "cloud"
        with local.running(state, fsync=False, parameters=PARAMETERS) as cloud:
            report = soak(cloud, arguments.count, say=lambda line: print(line, flush=True))
    print(report)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
