"""What S3 puts into the queue, read by a small model of our own: unknown fields and versions are fine.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from veripost.errors import AppError


class MalformedEvent(AppError):
    """A message that S3 did not write; retrying it cannot help, so it ends in the dead-letter queue."""

    code = "malformed_event"
    message = "A message in the queue is not an S3 event."


@dataclass(frozen=True, slots=True)
class LandedObject:
    """An object version that landed in the incoming bucket. `size` is in bytes."""

    bucket: str
    key: str
    version: str
    size: int


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
