"""A small AWS for one fault test: buckets, queues and a database of its own, real workers, and the sweeper.

The servers (Postgres, and moto's for S3, SQS and EventBridge, in a process of its own) are shared by all
tests of a run; what a test makes in them has names that no other test has. So tests can run side by side.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote_plus
from uuid import UUID, uuid4

import boto3
from sqlalchemy import RowMapping, create_engine, make_url, select, text
from urllib3.filepost import encode_multipart_formdata

from localcloud.postgres import Postgres, start_postgres
from localcloud.processes import Leashed, free_port
from migrations import app as migrations
from tests.faults import worker
from tests.faults.worker import Fault, Order
from veripost import db, ingest_queue, keys, telemetry, uploads
from veripost import settings as settings_module
from veripost.ingest_queue import LandedObject
from veripost.models import ingest_runs, outbox, post_files, post_packages
from veripost.schemas import AcceptedWithForm, CreateKey, CreatePackage
from veripost.settings import Settings
from veripost.storage import Storage
from veripost.upkeep.sweep import Sweeper, Swept

AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
VISIBILITY_SECONDS = 2
LEASE_SECONDS = 3
PATIENCE_SECONDS = 45.0
SWEEP_EVERY_SECONDS = 0.8
POLL_SECONDS = 0.02
TEMPLATE = "migrated"

# boto3 cannot make two clients at once, and starting one process looks after all others: an exit code can be
# read only once, so two threads that look at the same moment would both be wrong about it.
_one_at_a_time = threading.Lock()
_processes = threading.Lock()


class NotSettledError(AssertionError):
    """What had to happen did not happen in time."""


class Stage:
    """The servers that all worlds of a run share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        try:
            self.postgres = self._stack.enter_context(start_postgres(folder, fsync=False))
            migrated(self.postgres)
            self.aws_url = self._start_moto()
            self._stack.enter_context(_environment(AWS | {"AWS_ENDPOINT_URL": self.aws_url}))
            # The sweepers of all tests share this process's output: their every run is of no interest.
            telemetry.configure(level="ERROR", as_json=True, environment="faults")
            self.processes = multiprocessing.get_context("forkserver")
            self.processes.set_forkserver_preload([worker.__name__, "pytest"])
            # Python 3.13.0 does not tell the forking server our path; without it nothing would be preloaded.
            with _environment({"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}):
                forkserver.ensure_running()
            self.s3: Any = boto3.client("s3")
            self.sqs: Any = boto3.client("sqs")
            self.events: Any = boto3.client("events")
            ingest_queue._client()  # made once, here, where no thread makes another
        except BaseException:
            self._stack.close()
            raise

    def _start_moto(self) -> str:
        port = free_port()
        with (self.folder / "moto.log").open("wb") as log:
            server = Leashed(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                log=log,
                env=os.environ | AWS | {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
                grace=5,
            )
        self._stack.callback(server.stop)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5).close()
            except (OSError, urllib.error.URLError):
                if server.exit_code() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                return url

    def close(self) -> None:
        """End everything."""
        self._stack.close()


def driver_url(url: str, database: str | None = None) -> str:
    """Return `url` as SQLAlchemy wants it, or that of another database of the same server."""
    made = make_url(url).set(drivername="postgresql+pg8000")
    made = made if database is None else made.set(database=database)
    return made.render_as_string(hide_password=False)


def migrated(server: Postgres) -> None:
    """Make the database of a server that every world's own is copied from."""
    admin = create_engine(driver_url(server.url), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
    admin.dispose()
    engine = create_engine(driver_url(server.url, TEMPLATE))
    with _one_at_a_time, engine.connect() as connection:
        migrations.upgrade(connection)
    engine.dispose()


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process of a test."""

    process: Any
    order: Order

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; return the exit code, that of a signal being negative."""
        wait_until(lambda: self.exit_code() is not None, "the worker ends", self.printed, seconds=seconds)
        code = self.exit_code()
        assert code is not None
        return code

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs."""
        with _processes:
            code: int | None = self.process.exitcode
            return code

    def wait_until_killed(self) -> None:
        """Wait until it has died at its point, and of nothing else."""
        code = self.wait()
        assert code == -signal.SIGKILL, f"exit code {code}:\n{self.printed()}"
        assert self.order.reached.exists()

    def wait_until_reached(self) -> None:
        """Wait until it has come to its point (and, where it stops itself there, has stopped)."""
        fault = self.order.fault
        assert fault is not None
        wait_until(self.order.reached.exists, f"the point {fault.point!r} is reached", self.printed)
        if fault.act == "stop":
            wait_until(lambda: _state_of(self.process.pid) == "T", "the worker has stopped", self.printed)

    def resume(self) -> None:
        """Let a stopped or held worker go on."""
        self.order.resumed.touch()
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Have a serving worker end after its batch, and wait for that."""
        self.order.ended.touch()
        assert self.wait() == 0, self.printed()

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(self.process.pid, signal.SIGKILL)
            self.wait()

    def printed(self) -> str:
        """Return everything that it has printed."""
        return self.order.log.read_text(errors="replace") if self.order.log.exists() else ""

    def answer(self) -> Any:
        """Return what its handler returned."""
        return json.loads(self.order.answer.read_text())


def _state_of(pid: int) -> str:
    listed = subprocess.run(
        ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip()[:1]


def wait_until(
    condition: Callable[[], bool],
    what: str,
    explain: Callable[[], str] = str,
    *,
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Wait until `condition` holds; it must within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotSettledError(f"not in {seconds} s: {what}\n{explain()}")
        time.sleep(POLL_SECONDS)


class World:
    """What one test has for itself, and everything it can do with it."""

    def __init__(self, stage: Stage, *, postgres: Postgres | None = None, **settings: str) -> None:
        self._stage = stage
        self._server = postgres or stage.postgres
        name = uuid4().hex
        self.folder = stage.folder / name
        self.folder.mkdir()
        self._database = f"world_{name}"
        self._workers: list[Worker] = []
        self.s3, self.sqs = stage.s3, stage.sqs
        self._create_database()
        self.incoming, self.packages = f"incoming-{name}", f"packages-{name}"
        for bucket in (self.incoming, self.packages):
            self.s3.create_bucket(Bucket=bucket)
            self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        deliveries = settings.get("MAX_RECEIVE_COUNT", "5")
        self.parking_lot = self.make_queue(f"parking-{name}")
        self.dead_letters = self.make_queue(f"dead-{name}")
        self.queue = self.make_queue(f"ingest-{name}", dead_letters=self.dead_letters, deliveries=deliveries)
        self.environment = {
            **AWS,
            "AWS_ENDPOINT_URL": stage.aws_url,
            "DATABASE_URL": make_url(self._server.url)
            .set(database=self._database)
            .render_as_string(hide_password=False),
            "DATABASE_TLS": "disable",
            "S3_ENDPOINT_URL": stage.aws_url,
            "INCOMING_BUCKET": self.incoming,
            "PACKAGE_BUCKET": self.packages,
            "INGEST_QUEUE_URL": self.queue,
            "PARKING_LOT_QUEUE_URL": self.parking_lot,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "STALE_SECONDS": "1",
            "RETRY_BACKOFF_SECONDS": "1",
            "INGEST_TIMEOUT_SECONDS": "2",  # what a worker that lost its lease may go on writing
            **settings,
        }
        self.settings: Settings = settings_module.load(self.environment)
        # The test itself looks at S3 directly, even where workers meet a store that is down.
        self.storage = Storage(replace(self.settings, s3_endpoint_url=stage.aws_url))
        with _one_at_a_time:
            _ = self.storage._s3, self.storage._impatient_s3, self.storage._presigner
        self.engine = db.get_engine(self.settings)

    def _create_database(self) -> None:
        admin = create_engine(driver_url(self._server.url), isolation_level="AUTOCOMMIT")
        with _one_at_a_time, admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {self._database} TEMPLATE {TEMPLATE}"))
        admin.dispose()

    def make_queue(self, name: str, *, dead_letters: str = "", deliveries: str = "") -> str:
        """Make a queue; return its URL."""
        attributes = {"VisibilityTimeout": str(VISIBILITY_SECONDS)}
        if dead_letters:
            found = self.sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])
            policy = {
                "deadLetterTargetArn": found["Attributes"]["QueueArn"],
                "maxReceiveCount": int(deliveries),
            }
            attributes["RedrivePolicy"] = json.dumps(policy)
        return str(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._workers:
            each.kill()
        self.engine.dispose()
        if error is not None:
            for each in self._workers:
                print(f"-- {each.order.fault or each.order.handler}\n{each.printed()}")

    # -- what the outside does

    def put(self, data: bytes, key: str | None = None) -> LandedObject:
        """Let an object land, without an event."""
        key = key or f"drops/camworks/{uuid4()}/post.zip"
        answer = self.s3.put_object(Bucket=self.incoming, Key=key, Body=data)
        return LandedObject(self.incoming, key, answer["VersionId"], len(data))

    def send(self, body: str, *, times: int = 1) -> None:
        """Put a message into the queue."""
        for _ in range(times):
            self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def announce(self, *landed: LandedObject, times: int = 1) -> None:
        """Deliver S3's event of objects that landed."""
        for each in landed:
            self.send(event_of(each), times=times)

    def drop(self, data: bytes) -> LandedObject:
        """Let an object land, with its event."""
        landed = self.put(data)
        self.announce(landed)
        return landed

    def announce_upload(self, data: bytes) -> tuple[UUID, str]:
        """Ask for a presigned form, as a client does; return the package's id and the form's key."""
        accepted = uploads.announce(
            CreatePackage(filename="post.zip", size_bytes=len(data)),
            engine=self.engine,
            storage=self.storage,
            config=uploads.config_of(self.settings),
            allow_duplicate=True,
        )
        assert isinstance(accepted, AcceptedWithForm)
        return accepted.package_id, accepted.upload.fields["key"]

    # -- what AWS does

    def start(
        self,
        fault: str | Fault | None = None,
        *,
        handler: str = "ingest",
        once: bool = False,
        queue: str = "",
        event: Mapping[str, Any] | None = None,
        clock_offset: float = 0.0,
    ) -> Worker:
        """Start a worker process: it serves the queue unless it gets one `event`."""
        order = Order(
            environment=self.environment,
            files=self.folder / f"worker-{len(self._workers)}",
            handler=handler,
            queue_url="" if event is not None else (queue or self.queue),
            event=event,
            once=once,
            fault=Fault(fault) if isinstance(fault, str) else fault,
            clock_offset=clock_offset,
        )
        process = self._stage.processes.Process(target=worker.run, args=(order,), daemon=True)
        with _processes:
            process.start()
        started = Worker(process, order)
        self._workers.append(started)
        return started

    def invoke(self, handler: str, event: Mapping[str, Any] | None = None, **how: Any) -> Any:
        """Call a handler once, in a process of its own; return its answer."""
        called = self.start(handler=handler, event=event or {}, **how)
        assert called.wait() == 0, called.printed()
        return called.answer()

    def sweep(self) -> Swept:
        """Run the sweeper once."""
        return Sweeper(self.engine, self.storage, self.settings, seconds_left=lambda: 50.0).run()

    def settle(self, *, seconds: float = PATIENCE_SECONDS, cleaned_up: bool = True) -> None:
        """Run a worker, and the sweeper every now and then, until there is nothing left to do."""
        serving = self.start()
        try:
            deadline = time.monotonic() + seconds
            while True:
                self.sweep()
                left = self.left_to_do(cleaned_up=cleaned_up)
                if not left:
                    break
                if time.monotonic() > deadline:
                    raise NotSettledError(f"not settled in {seconds} s: {left}\n{serving.printed()}")
                time.sleep(SWEEP_EVERY_SECONDS)
        finally:
            serving.order.ended.touch()
        assert serving.wait() == 0, serving.printed()

    def left_to_do(self, *, cleaned_up: bool = True) -> list[str]:
        """Return what has not ended yet, in words."""
        names = ["", "NotVisible", "Delayed"]
        attributes = [f"ApproximateNumberOfMessages{name}" for name in names]
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=attributes)["Attributes"]
        left = [f"{found[name]} × {name}" for name in attributes if int(found[name])]
        with self.engine.connect() as connection:
            left += connection.scalars(
                text(
                    "SELECT status || ' job, attempt ' || attempt FROM ingest_runs"
                    " WHERE status IN ('queued', 'running', 'interrupted')"
                    " UNION ALL SELECT 'package ' || status FROM post_packages"
                    " WHERE status NOT IN ('ready', 'error')"
                )
            )
            if cleaned_up:
                left += connection.scalars(
                    text("SELECT 'cleanup of ' || id FROM post_packages WHERE clean_up_after IS NOT NULL")
                )
        return left

    # -- what there is

    def all_packages(self) -> Sequence[RowMapping]:
        """Return every package, the oldest first."""
        with self.engine.connect() as connection:
            statement = select(post_packages).order_by(post_packages.c.created_at)
            return connection.execute(statement).mappings().all()

    def the_package(self) -> RowMapping:
        """Return the one package that there is."""
        (package,) = self.all_packages()
        return package

    def jobs(self, package_id: UUID | None = None) -> Sequence[RowMapping]:
        """Return the jobs of a package, or of the only one, the oldest first."""
        wanted = package_id or self.the_package()["id"]
        with self.engine.connect() as connection:
            statement = select(ingest_runs).where(ingest_runs.c.package_id == wanted)
            return connection.execute(statement.order_by(ingest_runs.c.created_at)).mappings().all()

    def announced(self) -> list[str]:
        """Return the kinds of the events that wait in the outbox, in order."""
        with self.engine.connect() as connection:
            return list(connection.scalars(select(outbox.c.kind).order_by(outbox.c.id)))

    def stored(self) -> dict[str, set[str]]:
        """Return every object version of the package bucket: the SHA-256s of all versions, by key."""
        found: dict[str, set[str]] = {}
        for page in self.storage.list_versions(self.packages, ""):
            for version in page.versions:
                assert version.size is not None, f"a delete marker: {version}"
                answer = self.s3.get_object(Bucket=self.packages, Key=version.key, VersionId=version.version)
                digest = hashlib.sha256(answer["Body"].read()).hexdigest()
                found.setdefault(version.key, set()).add(digest)
        return found

    def waiting(self, queue: str) -> list[str]:
        """Take every message out of a queue; return the bodies."""
        bodies: list[str] = []
        while True:
            messages = self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
            if not messages:
                return bodies
            for message in messages:
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    def lease_ran_out(self) -> bool:
        """Tell whether a worker's lease has run out."""
        with self.engine.connect() as connection:
            found = connection.scalar(text("SELECT count(*) FROM ingest_runs WHERE lease_until < now()"))
            return bool(found)

    def somebody_waits_for_a_lock(self) -> bool:
        """Tell whether a transaction waits for another one."""
        with self.engine.connect() as connection:
            waiting = text(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(connection.scalar(waiting))

    @property
    def longest_run(self) -> timedelta:
        """How long a worker may write after it lost its lease."""
        return timedelta(seconds=self.settings.ingest_timeout_seconds)

    # -- what must hold

    def assert_ready(
        self, package: RowMapping, files: Mapping[str, bytes], *, attempts: Sequence[int] = (1,)
    ) -> None:
        """One record, whole: every file once, with its bytes and hash, and as many jobs as were promised."""
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        assert (package["status"], package["error_code"]) == ("ready", None), package
        assert package["file_count"] == len(files)
        with self.engine.connect() as connection:
            statement = select(post_files).where(post_files.c.package_id == package["id"])
            rows = connection.execute(statement).mappings().all()
        assert {row["filename"]: row["content_hash"] for row in rows} == hashes
        assert {row["filename"]: row["size_bytes"] for row in rows} == {
            name: len(data) for name, data in files.items()
        }
        assert len(rows) == len(files)
        # A worker that was cut off may have left older versions (a rule of the bucket removes them), but
        # never other bytes.
        below = {key: found for key, found in self.stored().items() if key.startswith(package["s3_prefix"])}
        assert below == {f"{package['s3_prefix']}{name}": {digest} for name, digest in hashes.items()}
        self.assert_jobs(package, "succeeded", attempts)

    def assert_refused(
        self, package: RowMapping, code: str, *, attempts: Sequence[int] = (1,), job: str = "refused"
    ) -> None:
        """One record that says why, and nothing else."""
        assert (package["status"], package["error_code"]) == ("error", code), package
        assert package["error_message"]
        with self.engine.connect() as connection:
            files = select(post_files.c.id).where(post_files.c.package_id == package["id"])
            assert connection.execute(files).all() == []
        assert [key for key in self.stored() if key.startswith(package["s3_prefix"])] == []
        self.assert_jobs(package, job, attempts)

    def assert_jobs(self, package: RowMapping, status: str, attempts: Sequence[int]) -> None:
        """As many jobs as `attempts`, each with so many, the last with this outcome."""
        jobs = self.jobs(package["id"])
        assert [job["attempt"] for job in jobs] == list(attempts), jobs
        assert jobs[-1]["status"] == status, jobs
        assert all(job["lease_until"] is None and job["finished_at"] is not None for job in jobs)

    def assert_nothing_is_left_over(self) -> None:
        """No object without a row, no unfinished upload, no message, and nothing that waits for anybody."""
        prefixes = tuple(package["s3_prefix"] for package in self.all_packages())
        assert [key for key in self.stored() if not key.startswith(prefixes)] == []
        assert self.storage.list_uploads("") == []
        assert self.left_to_do() == []
        assert self.waiting(self.dead_letters) == []
        assert self.waiting(self.parking_lot) == []

    def assert_original_kept(self, landed: LandedObject) -> None:
        """The object version that landed is where it landed."""
        assert self.storage.original_size(landed.bucket, landed.key, landed.version) == landed.size

    @cached_property
    def _key(self) -> str:
        wanted = CreateKey.model_validate({"client_name": "faults", "scopes": ["admin"]})
        return keys.mint(self.engine, wanted).key

    def http(self, method: str, path: str, *, file: bytes | None = None) -> dict[str, Any]:
        """Return a request as API Gateway hands it to a function, with a key; `file` makes it an upload."""
        headers = {"X-API-Key": self._key}
        body = None
        if file is not None:
            form, headers["Content-Type"] = encode_multipart_formdata(
                {"file": ("post.zip", file, "application/zip")}
            )
            body = base64.b64encode(form).decode()
        return {
            "httpMethod": method,
            "path": path,
            "resource": path,
            "headers": headers,
            "multiValueHeaders": {},
            "queryStringParameters": None,
            "multiValueQueryStringParameters": None,
            "requestContext": {"requestId": "req-1", "stage": "api", "path": f"/api{path}"},
            "body": body,
            "isBase64Encoded": file is not None,
        }


def event_of(landed: LandedObject) -> str:
    """Return the message that S3 sends for an object."""
    entry = {
        "key": quote_plus(landed.key, safe="/"),
        "size": landed.size,
        "versionId": landed.version,
        "sequencer": "0055AED6DCD90281E5",
    }
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": landed.bucket}, "object": entry},
    }
    return json.dumps({"Records": [record]})
