"""How long a failed message waits."""

from __future__ import annotations

import time

import boto3
import pytest
from moto import mock_aws

from veripost import ingest_queue
from veripost.settings import load


def test_the_wait_doubles_up_to_a_quarter_of_an_hour() -> None:
    waits = [ingest_queue.backoff_seconds(delivery, 10) for delivery in (1, 2, 3, 4, 7, 8, 1000)]
    assert waits == [10, 20, 40, 80, 640, 900, 900]


def test_a_message_comes_back_when_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        ingest_queue._client.cache_clear()
        sqs = boto3.client("sqs")
        url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="x")
        handle = sqs.receive_message(QueueUrl=url)["Messages"][0]["ReceiptHandle"]
        settings = load({"INGEST_QUEUE_URL": url, "RETRY_BACKOFF_SECONDS": "1"})
        assert ingest_queue.delay_redelivery(handle, deliveries=1, settings=settings) == 1
        deadline = time.monotonic() + 60
        while not (again := sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages")):
            assert time.monotonic() < deadline, "the message did not come back"
        assert again[0]["Body"] == "x"
        gone = load({"INGEST_QUEUE_URL": f"{url}-gone"})
        assert ingest_queue.delay_redelivery(handle, deliveries=1, settings=gone) is None
    ingest_queue._client.cache_clear()
