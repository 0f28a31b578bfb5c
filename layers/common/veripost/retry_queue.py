"""When a message that failed is delivered again: soon at first, then less and less often."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from veripost.settings import Settings
from veripost.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_LONGEST_WAIT_SECONDS = 900


@cache
def _client() -> SQSClient:
    import boto3  # only a failure needs it

    return boto3.client("sqs")


def wait_before(delivery: int, first_wait: int) -> int:
    """Return the seconds to wait before a message's next delivery, after `delivery` of them have failed."""
    doublings = min(delivery - 1, 32)  # far above the cap already, and a small number to shift by
    return min(first_wait << max(doublings, 0), _LONGEST_WAIT_SECONDS)


def delay_redelivery(receipt_handle: str, *, deliveries: int, settings: Settings) -> int | None:
    """Have SQS deliver a message again after a wait that doubles each time; return that wait in seconds.

    Returns None where SQS did not answer: the message then comes back by itself after the queue's own
    visibility timeout, which is later but loses nothing.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    seconds = wait_before(deliveries, settings.retry_backoff_seconds)
    try:
        _client().change_message_visibility(
            QueueUrl=settings.ingest_queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
        )
    except (ClientError, BotoCoreError) as error:
        logger.warning("could not set when the message comes back", extra={"detail": str(error)})
        return None
    return seconds
