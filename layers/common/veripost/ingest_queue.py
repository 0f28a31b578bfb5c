"""The ingest queue: what its messages say, sending them again, and when one that failed comes back.

S3 writes the messages; ours have the same form, so that there is one path from there on. They are read by a
small model of our own: unknown fields and versions are fine. Format:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import batched
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, unquote_plus

from veripost.errors import AppError, Unavailable
from veripost.settings import Settings
from veripost.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

LONGEST_BACKOFF_SECONDS = 900
_MOST_IN_A_BATCH = 10  # a limit of SQS


class MalformedEvent(AppError):
    """A message that S3 did not write; retrying it cannot help, so it ends in the parking lot."""

    code = "malformed_event"
    message = "A message in the queue is not an S3 event."


@dataclass(frozen=True, slots=True)
class LandedObject:
    """An object version that landed in the incoming bucket. `size` is in bytes."""

    bucket: str
    key: str
    version: str
    size: int


@cache
def _client() -> SQSClient:
    import boto3  # only failures and upkeep need it

    return boto3.client("sqs")


@contextmanager
def _sqs_errors() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise Unavailable(detail=f"the queue: {error}") from error


# -- reading


def landed_objects(body: str) -> list[LandedObject]:
    """Return the objects that a queue message announces: none for `s3:TestEvent`, several if it says so.

    Keys arrive form-encoded (`+` is a space). An unversioned bucket sends no `versionId`; S3 itself calls
    that version `null`.

    Raises
    ------
    MalformedEvent
        `body` is not an S3 event.
    """
    try:
        document = json.loads(body)
        if document.get("Event") == "s3:TestEvent":
            return []
        return [
            _landed(record["s3"])
            for record in document["Records"]
            if record.get("eventName", "").removeprefix("s3:").startswith("ObjectCreated:")
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MalformedEvent(detail=f"{type(error).__name__}: {error}") from error


def _landed(s3: dict[str, Any]) -> LandedObject:
    entry = s3["object"]
    key = unquote_plus(entry["key"], errors="strict")
    if "\0" in key:
        raise ValueError("the key holds a NUL, which neither S3 nor Postgres takes")
    return LandedObject(
        bucket=str(s3["bucket"]["name"]),
        key=key,
        version=str(entry.get("versionId") or "null"),
        size=int(entry.get("size", 0)),
    )


# -- sending


def message_of(landed: LandedObject) -> str:
    """Return the message that announces one object; `landed_objects` reads it back."""
    entry = {"key": quote_plus(landed.key, safe="/"), "size": landed.size}
    if landed.version != "null":
        entry["versionId"] = landed.version
    record = {
        "eventSource": "veripost",
        "eventName": "ObjectCreated:Requeued",
        "s3": {"bucket": {"name": landed.bucket}, "object": entry},
    }
    return json.dumps({"Records": [record]})


def send(objects: Iterable[LandedObject], *, settings: Settings) -> int:
    """Announce objects once more; return how many there were.

    Raises
    ------
    Unavailable
        SQS did not take all of them.
    """
    sent = 0
    for batch in batched(objects, _MOST_IN_A_BATCH, strict=False):
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(number), "MessageBody": message_of(landed)} for number, landed in enumerate(batch)
        ]
        with _sqs_errors():
            answer = _client().send_message_batch(QueueUrl=settings.ingest_queue_url, Entries=entries)
        if answer.get("Failed"):
            raise Unavailable(detail=f"the queue did not take {len(answer['Failed'])} messages")
        sent += len(batch)
    return sent


def park(body: str, *, settings: Settings) -> None:
    """Put a message that nobody can read where a person will find it. Raises `Unavailable`."""
    with _sqs_errors():
        _client().send_message(QueueUrl=settings.parking_lot_queue_url, MessageBody=body)


def backlog(settings: Settings) -> int:
    """Return about how many messages wait to be received. Raises `Unavailable`."""
    name: Any = "ApproximateNumberOfMessages"
    with _sqs_errors():
        answer = _client().get_queue_attributes(QueueUrl=settings.ingest_queue_url, AttributeNames=[name])
    return int(answer["Attributes"][name])


# -- retrying


def backoff_seconds(failures: int, first_wait: int) -> int:
    """Return the seconds to wait before a message's next delivery, after `failures` of them have failed."""
    doublings = min(failures - 1, 32)  # far above the cap already, and a small number to shift by
    return min(first_wait << max(doublings, 0), LONGEST_BACKOFF_SECONDS)


def delay_redelivery(receipt_handle: str, *, deliveries: int, settings: Settings) -> int | None:
    """Have SQS deliver a message again after a wait that doubles each time; return that wait in seconds.

    Returns None where SQS did not answer: the message then comes back by itself after the queue's own
    visibility timeout, which is later but loses nothing.
    """
    seconds = backoff_seconds(deliveries, settings.retry_backoff_seconds)
    try:
        with _sqs_errors():
            _client().change_message_visibility(
                QueueUrl=settings.ingest_queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
    except Unavailable as error:
        logger.warning("could not set when the message comes back", extra={"detail": error.detail})
        return None
    return seconds
