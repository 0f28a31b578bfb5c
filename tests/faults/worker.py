"""A worker process: what Lambda does around a handler, with a fault at a named point of the work.

The process is forked from a server that has imported everything, so that one more costs some milliseconds.
"""

from __future__ import annotations

import datetime as clock_module
import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from uuid import uuid4

import boto3

# What a worker may be asked to run: imported here, once, for all workers that are forked later.
from functions.ingest import app as ingest_app
from functions.ingest import failed, publish, sweep
from functions.upload import app as upload_app
from veripost.models import Status
from veripost.settings import get_settings
from veripost.storage import ObjectVersion, Storage, get_storage

HANDLERS: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "ingest": ingest_app.handler,
    "failed": failed.handler,
    "sweep": sweep.handler,
    "publish": publish.handler,
    "upload": upload_app.handler,
}
BATCH = 5  # messages, as in template.yaml
REMAINING_SECONDS = 60  # of the function's time, whatever the settings say
POLL_SECONDS = 0.02
IDLE_SECONDS = 0.25

type Act = Literal["die", "stop", "hold", "fail"]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the code: before or after the `nth` call of `target` for which `when` holds."""

    target: str  # module:attribute
    side: Literal["before", "after"]
    nth: int = 1
    when: Callable[..., bool] = lambda *_args, **_kwargs: True


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a point, once: `die` (SIGKILL), `stop` (SIGSTOP), `hold` (until told) or `fail`."""

    point: str
    act: Act = "die"


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker process does; files beside `files` carry what it and the test tell each other."""

    environment: Mapping[str, str]
    files: Path
    handler: str = "ingest"
    queue_url: str = ""  # empty: the handler is called once, with `event`
    event: Mapping[str, Any] | None = None
    once: bool = False  # end after the first batch
    fault: Fault | None = None
    clock_offset: float = 0.0  # seconds by which this process's clock is wrong

    @property
    def log(self) -> Path:
        """Everything that the process prints."""
        return self.files.with_suffix(".log")

    @property
    def answer(self) -> Path:
        """What the handler returned, where it was called once."""
        return self.files.with_suffix(".answer")

    @property
    def reached(self) -> Path:
        """There once the fault's point was reached."""
        return self.files.with_suffix(".reached")

    @property
    def resumed(self) -> Path:
        """Made by the test: a held worker goes on."""
        return self.files.with_suffix(".resumed")

    @property
    def ended(self) -> Path:
        """Made by the test: a serving worker ends after its batch."""
        return self.files.with_suffix(".ended")


class Failure(RuntimeError):
    """What `fail` raises."""


# -- the points


def _is(status: Status) -> Callable[..., bool]:
    return lambda _job, reached: reached is status


def _a_part_is_there(*_: object) -> bool:
    """Tell whether S3 has the first part of an upload that nobody has completed."""
    storage = get_storage(get_settings())
    s3 = boto3.client("s3", endpoint_url=get_settings().s3_endpoint_url)
    for upload in storage.list_uploads("packages/"):
        parts = s3.list_parts(Bucket=storage.packages, Key=upload.key, UploadId=upload.upload_id)
        if parts.get("Parts"):
            return True
    return False


_JOBS = "veripost.ingestion.jobs"
_STORAGE = "veripost.storage:Storage"
POINTS = {
    # ingestion
    "inside the row's transaction": Point("veripost.queries:add_landed_package", "after"),
    "row made, before the claim": Point(f"{_JOBS}:_package_of", "after"),
    "inside the claim": Point("veripost.queries:claim_job", "after"),
    "after the claim": Point(f"{_JOBS}:_Heartbeat.__enter__", "before"),
    "after advance to validating": Point(f"{_JOBS}:_Job._advance", "after", when=_is(Status.VALIDATING)),
    "amid verification": Point("veripost.ingestion.pipeline:MemberReader", "before", nth=4),
    "before the first PUT": Point(f"{_STORAGE}.put_file", "before"),
    "before the fourth PUT": Point(f"{_STORAGE}.put_file", "before", nth=4),
    "after the fourth PUT": Point(f"{_STORAGE}.put_file", "after", nth=4),
    "amid a multipart upload": Point(
        "veripost.storage:PartsUpload.write", "after", nth=6, when=_a_part_is_there
    ),
    "before multipart complete": Point("veripost.storage:PartsUpload.complete", "before"),
    "after multipart complete": Point("veripost.storage:PartsUpload.complete", "after"),
    "after the last PUT": Point(f"{_JOBS}:extract", "after"),
    "inside the final transaction": Point("veripost.queries:finish_ready", "after"),
    "after commit, before the acknowledgement": Point(f"{_JOBS}:_Job._end", "after"),
    # refusals
    "refused, before the deletion": Point(f"{_JOBS}:_Job._refuse", "before"),
    "refused, amid the deletion": Point(
        f"{_STORAGE}.delete_versions", "after"
    ),  # of the first half, see below
    "refused, after the deletion": Point(f"{_STORAGE}.delete_prefix", "after"),
    "refused, inside the final transaction": Point("veripost.queries:finish_refused", "after"),
    # everything else
    "upload, between row and PUT": Point(f"{_STORAGE}.put_original", "before"),
    "upload, between PUT and answer": Point(f"{_STORAGE}.put_original", "after"),
    "deletion, before the objects": Point("veripost.upkeep.deletion:go_on", "before"),
    "deletion, between objects and row": Point("veripost.queries:finish_deletion", "before"),
    "replay, between job and message": Point("veripost.upkeep.replay:_send", "before"),
    "sweeper, between announcement and note": Point("veripost.queries:interrupt_job", "before"),
    "publisher, between acceptance and deletion": Point("veripost.upkeep.announcing:_put", "after"),
    "dead letter, inside the transaction": Point("veripost.queries:fail_job", "after"),
}


def _arm(order: Order, fault: Fault) -> None:
    """Put the fault into the code; the process is ours alone, so nothing has to be put back."""
    point = POINTS[fault.point]
    module, _, path = point.target.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    real = getattr(owner, name)
    lock = threading.Lock()
    calls = 0
    fired = False

    def is_due(*args: Any, **kwargs: Any) -> bool:
        nonlocal calls, fired
        with lock:
            if fired or not point.when(*args, **kwargs):
                return False
            calls += 1
            fired = calls >= point.nth
            return fired

    @functools.wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if point.side == "before" and is_due(*args, **kwargs):
            _act(order, fault.act)
        result = real(*args, **kwargs)
        if point.side == "after" and is_due(*args, **kwargs):
            _act(order, fault.act)
        return result

    setattr(owner, name, wrapped)
    if fault.point == "refused, amid the deletion":
        _delete_by_halves(order, fault)


def _delete_by_halves(order: Order, fault: Fault) -> None:
    """Let a deletion get through one half of the objects before the fault."""
    whole = Storage.delete_versions

    def half(storage: Storage, bucket: str, versions: Sequence[ObjectVersion]) -> int:
        return whole(storage, bucket, versions[: len(versions) // 2])

    Storage.delete_versions = half  # type: ignore[method-assign, assignment]


def _act(order: Order, act: Act) -> None:
    order.reached.touch()
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif act == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif act == "hold":
        while not order.resumed.exists():
            time.sleep(POLL_SECONDS)
    else:
        raise Failure(f"told to fail at {order.fault}")


# -- the clock


def _set_clock(offset: float) -> None:
    """Make this process believe that it is `offset` seconds later."""
    real_time, real_datetime = time.time, clock_module.datetime

    class Kind(type):
        """Takes what was made before, or in C, for its own."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime)

    class Skewed(real_datetime, metaclass=Kind):  # type: ignore[misc, valid-type]
        """The clock on this process's wall."""

        @classmethod
        def now(cls, tz: clock_module.tzinfo | None = None) -> Any:
            return real_datetime.now(tz) + clock_module.timedelta(seconds=offset)

        @classmethod
        def utcnow(cls) -> Any:
            return real_datetime.now(clock_module.UTC).replace(tzinfo=None) + clock_module.timedelta(
                seconds=offset
            )

    time.time = lambda: real_time() + offset
    vars(clock_module)["datetime"] = Skewed
    for name, module in list(sys.modules.items()):
        ours = name.partition(".")[0] in {
            "veripost",
            "functions",
            "botocore",
            "boto3",
            "aws_lambda_powertools",
        }
        if ours and getattr(module, "datetime", None) is real_datetime:
            vars(module)["datetime"] = Skewed


# -- what Lambda does


def run(order: Order) -> None:
    """Be the worker; the entry point of the process."""
    with order.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update(order.environment)
    get_settings.cache_clear()
    if order.clock_offset:
        _set_clock(order.clock_offset)
    if order.fault is not None:
        _arm(order, order.fault)
    if order.queue_url:
        _serve(order)
    else:
        answer = HANDLERS[order.handler](dict(order.event or {}), _context())
        order.answer.write_text(json.dumps(answer))
    sys.stdout.flush()


def _serve(order: Order) -> None:
    """Receive, call the handler, delete what it did not report: Lambda's event source mapping."""
    sqs = boto3.client("sqs")
    while not order.ended.exists():
        answer = sqs.receive_message(
            QueueUrl=order.queue_url, MaxNumberOfMessages=BATCH, AttributeNames=["All"], WaitTimeSeconds=0
        )
        messages = answer.get("Messages", [])
        if not messages:
            time.sleep(IDLE_SECONDS)
            continue
        records = [_record(message) for message in messages]
        failures = HANDLERS[order.handler]({"Records": records}, _context())["batchItemFailures"]
        failed_ids = {failure["itemIdentifier"] for failure in failures}
        for message in messages:
            if message["MessageId"] not in failed_ids:
                sqs.delete_message(QueueUrl=order.queue_url, ReceiptHandle=message["ReceiptHandle"])
        if order.once:
            return


def _record(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as Lambda hands it over."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
        "awsRegion": "us-east-1",
    }


def _context() -> Any:
    deadline = time.monotonic() + REMAINING_SECONDS
    return SimpleNamespace(
        aws_request_id=str(uuid4()),
        function_name="worker",
        get_remaining_time_in_millis=lambda: int((deadline - time.monotonic()) * 1000),
    )
