"""S3 PUT → `ready` on the warm local cloud, beside the cloud itself: `python -m bench.local_cloud`.

The round trip is the same PUT of the same bytes into a bucket of its own, whose notification goes through a
queue of its own to a function that leaves a mark in a local folder and does nothing else: what the cloud
itself takes. A third figure is the S3 work of one ingestion alone (one GET, a PUT per file, sixteen at once)
by a client that does nothing else: what is left over is ours. All are warm and take turns. Time counts from
before the PUT until the database says `ready`, or the mark is there; both are looked for every 2 ms.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import obstore
from obstore.store import S3Store
from sqlalchemy import Connection, create_engine, make_url, text

from bench import results, workloads
from bench.processes import CACHE
from bench.results import median
from bench.workloads import Archive
from localcloud import cloud as local
from localcloud import sam
from localcloud.cloud import Cloud

BAR: Final = 2.0
_POLL_SECONDS: Final = 0.002
_PATIENCE_SECONDS: Final = 60
_WARM_UP: Final = 8
_NAME: Final = "bench-empty"
TITLES: Final = {
    "ready": "S3 PUT → ready",
    "empty": "S3 PUT → empty function",
    "storage": "the same GET and PUTs, and nothing else",
}
_EMPTY_FUNCTION: Final = """
import json, os, pathlib, urllib.parse

def handler(event, context):
    for message in event["Records"]:
        for record in json.loads(message["body"]).get("Records", []):
            name = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
            pathlib.Path(os.environ["SEEN"], name).touch()
"""


class EmptyRoundTrip:
    """S3 → SQS → a function that only leaves a mark, with the settings of VeriPost's own ingestion."""

    def __init__(self, cloud: Cloud, seen: Path) -> None:
        self._seen = seen
        self._s3 = cloud.client("s3")
        self._s3.create_bucket(Bucket=_NAME)
        self._s3.put_bucket_versioning(Bucket=_NAME, VersioningConfiguration={"Status": "Enabled"})
        sqs, functions = cloud.client("sqs"), cloud.client("lambda")
        url = sqs.create_queue(QueueName=_NAME)["QueueUrl"]
        queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        functions.create_function(
            FunctionName=_NAME,
            Runtime="python3.13",
            Handler="app.handler",
            Role="arn:aws:iam::000000000000:role/bench",
            Architectures=[sam.host_architecture()],
            Timeout=60,
            MemorySize=1769,
            Environment={"Variables": {"SEEN": str(seen)}},
            Code={"ZipFile": _zip_of("app.py", _EMPTY_FUNCTION)},
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=_NAME)
        mapping = functions.create_event_source_mapping(
            FunctionName=_NAME,
            EventSourceArn=queue,
            BatchSize=5,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            ScalingConfig={"MaximumConcurrency": 10},
        )
        _wait(lambda: functions.get_event_source_mapping(UUID=mapping["UUID"])["State"] == "Enabled")
        self._s3.put_bucket_notification_configuration(
            Bucket=_NAME,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": queue, "Events": ["s3:ObjectCreated:*"]}]
            },
        )

    def __call__(self, data: bytes) -> float:
        """Return the seconds of one round trip."""
        name = uuid4().hex
        start = time.perf_counter()
        self._s3.put_object(Bucket=_NAME, Key=name, Body=data)
        _wait((self._seen / name).exists)
        return time.perf_counter() - start


class Ingestion:
    """A drop into the incoming bucket until its record is `ready`."""

    def __init__(self, cloud: Cloud, connection: Connection) -> None:
        self._s3 = cloud.client("s3")
        self._bucket = cloud.outputs["IncomingBucketName"]
        self._connection = connection

    def __call__(self, data: bytes) -> float:
        """Return the seconds from the PUT to `ready`."""
        key = f"drops/camworks/{uuid4()}.zip"
        start = time.perf_counter()
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=data)
        _wait(lambda: self._status(key) == "ready")
        return time.perf_counter() - start

    def _status(self, key: str) -> str | None:
        found: str | None = self._connection.scalar(
            text("SELECT status FROM post_packages WHERE source_key = :key"), {"key": key}
        )
        if found == "error":
            raise RuntimeError(f"the local cloud refused {key}")
        return found


class StorageWork:
    """The requests to S3 that one ingestion cannot do without."""

    def __init__(self, cloud: Cloud, archive: Archive) -> None:
        self._store = S3Store(
            cloud.outputs["PackageBucketName"],
            endpoint=cloud.endpoint_url,
            region=sam.REGION,
            access_key_id="test",
            secret_access_key="test",
            checksum_algorithm="SHA256",
            client_options={"allow_http": True},
        )
        self._files = [*workloads.contents(archive)]
        self._threads = ThreadPoolExecutor(16)

    def __call__(self, data: bytes) -> float:
        """Return the seconds that it takes."""
        name = uuid4().hex
        obstore.put(self._store, f"{name}.zip", data, use_multipart=False)
        start = time.perf_counter()
        obstore.get(self._store, f"{name}.zip").bytes()
        list(self._threads.map(partial(self._put, name), enumerate(self._files)))
        return time.perf_counter() - start

    def _put(self, name: str, file: tuple[int, bytes]) -> None:
        obstore.put(self._store, f"bench/{name}/{file[0]}", file[1], use_multipart=False)


def _wait(is_over: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_over():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened within {_PATIENCE_SECONDS} s")
        time.sleep(_POLL_SECONDS)


def _zip_of(name: str, source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, source)
    return buffer.getvalue()


def measure(runs: int) -> dict[str, Any]:
    """Return median and p99 of both, in seconds."""
    archive = workloads.ARCHIVES["thirty-files"]
    data = workloads.ensure(archive, CACHE).read_bytes()
    taken: dict[str, list[float]] = {title: [] for title in TITLES}
    # The database as in production: fsync on.
    with tempfile.TemporaryDirectory(prefix="bench-") as name, local.running(Path(name) / "cloud") as cloud:
        seen = Path(name) / "seen"
        seen.mkdir()
        url = make_url(cloud.database_url).set(drivername="postgresql+pg8000")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            ways: dict[str, Callable[[bytes], float]] = {
                "ready": Ingestion(cloud, connection),
                "empty": EmptyRoundTrip(cloud, seen),
                "storage": StorageWork(cloud, archive),
            }
            for turn in range(_WARM_UP + runs):
                for title, way in ways.items():
                    seconds = way(data)
                    if turn >= _WARM_UP:
                        taken[title].append(seconds)
        engine.dispose()
    return {
        "runs": runs,
        "archive_bytes": len(data),
        "files": archive.count,
        "median": {title: median(each) for title, each in taken.items()},
        "p99": {title: percentile(each, 0.99) for title, each in taken.items()},
        "ratio": median(taken["ready"]) / median(taken["empty"]),
        "ratio_with_storage": median(taken["ready"]) / (median(taken["empty"]) + median(taken["storage"])),
        "ratio_p99": percentile(taken["ready"], 0.99) / percentile(taken["empty"], 0.99),
    }


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> int:
    """Measure and print; the exit status tells whether the bar is met."""
    arguments = results.arguments("from PUT to ready on the local cloud", runs=100).parse_args()
    found = measure(arguments.runs)
    print(results.machine())
    print(f"{found['files']} files in {found['archive_bytes']:,} bytes, {found['runs']} runs")
    for name, title in TITLES.items():
        middle, high = found["median"][name] * 1e3, found["p99"][name] * 1e3
        print(f"  {title:44} median {middle:7.0f} ms, p99 {high:7.0f} ms")
    verdict = "met" if found["ratio"] <= BAR else "MISSED"
    print(
        f"  {verdict}: {found['ratio']:.2f} × the cloud's own round trip (bar {BAR} ×),"
        f" p99 {found['ratio_p99']:.2f} ×; {found['ratio_with_storage']:.2f} × round trip and S3 work"
    )
    if arguments.save:
        results.save("local_cloud", found)
    return 0 if found["ratio"] <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
