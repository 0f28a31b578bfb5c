"""What the queue does with the odd message, and what survives a restart of the database."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import quote_plus
from uuid import uuid4

from localcloud import samples
from localcloud.api_client import ApiClient
from localcloud.cloud import Cloud


def _until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def _counts(cloud: Cloud, output: str) -> tuple[int, int]:
    """Return how many messages of a queue are waiting and how many are being worked on."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = cloud.client("sqs").get_queue_attributes(QueueUrl=cloud.outputs[output], AttributeNames=names)
    return int(found["Attributes"][names[0]]), int(found["Attributes"][names[1]])


def _event(cloud: Cloud, key: str) -> str:
    """The message that S3 would send for a stored object, which is looked up first."""
    bucket = cloud.outputs["IncomingBucketName"]
    head = cloud.client("s3").head_object(Bucket=bucket, Key=key)
    entry = {"key": quote_plus(key, safe="/"), "size": head["ContentLength"], "versionId": head["VersionId"]}
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": entry}}
    return json.dumps({"Records": [record]})


def test_the_test_event_of_s3_is_acknowledged(cloud: Cloud) -> None:
    body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": cloud.outputs["IncomingBucketName"]}
    cloud.client("sqs").send_message(QueueUrl=cloud.outputs["IngestQueueUrl"], MessageBody=json.dumps(body))
    _until(lambda: _counts(cloud, "IngestQueueUrl") == (0, 0))
    assert _counts(cloud, "DeadLetterQueueUrl") == (0, 0)


def test_a_bad_message_in_a_batch_is_retried_alone_while_its_neighbours_finish(
    cloud: Cloud, api: ApiClient
) -> None:
    sqs, s3 = cloud.client("sqs"), cloud.client("s3")
    keys = [f"drops/camworks/{uuid4().hex}/{number}.zip" for number in range(4)]
    for number, key in enumerate(keys):
        data = samples.zip_of(samples.post_processor(f"BATCH_{number}", sections=5))
        s3.put_object(Bucket=cloud.outputs["IncomingBucketName"], Key=key, Body=data)
    bodies = [_event(cloud, key) for key in keys]
    bodies.insert(2, "this is not an event")
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    sqs.send_message_batch(QueueUrl=cloud.outputs["IngestQueueUrl"], Entries=entries)
    for key in keys:
        package_id = api.wait_for_drop(key)
        assert api.wait(package_id)["status"] == "ready"
        # Each object was announced twice, by S3 and by this test: still one package, ingested once.
        detail = api.get(f"/v1/packages/{package_id}").json
        assert (detail["run_count"], detail["runs"][0]["attempt"], len(detail["files"])) == (1, 1, 7)
    # Delivered three times, it becomes a dead letter; nobody can read that either, so it is parked.
    _until(lambda: _counts(cloud, "ParkingLotQueueUrl")[0] == 1)
    _until(lambda: _counts(cloud, "DeadLetterQueueUrl") == (0, 0))
    parking_lot = cloud.outputs["ParkingLotQueueUrl"]
    parked = sqs.receive_message(QueueUrl=parking_lot, VisibilityTimeout=0)["Messages"]
    assert [message["Body"] for message in parked] == ["this is not an event"]
    # A person may put it back; nothing has changed about it, so it ends where it was.
    moved = subprocess.run(
        [sys.executable, "-m", "localcloud", "redrive", "--state", str(cloud.state_dir)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert moved.stdout.startswith("1 parked messages")
    _until(lambda: _counts(cloud, "ParkingLotQueueUrl")[0] == 0)
    _until(lambda: _counts(cloud, "ParkingLotQueueUrl")[0] == 1)
    sqs.purge_queue(QueueUrl=parking_lot)
    _until(lambda: _counts(cloud, "IngestQueueUrl") == (0, 0))


def test_an_upload_that_belongs_to_nobody_is_deleted(cloud: Cloud) -> None:
    s3, bucket = cloud.client("s3"), cloud.outputs["IncomingBucketName"]
    key = f"uploads/{uuid4()}/archive.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=samples.zip_of({"A.SRC": b"1"}))
    _until(lambda: "Versions" not in s3.list_object_versions(Bucket=bucket, Prefix=key))


def test_packages_and_files_survive_a_restart_of_the_database(cloud: Cloud, api: ApiClient) -> None:
    files = samples.post_processor("SURVIVOR", sections=20)
    data = samples.zip_of(files)
    before = api.upload("before.zip", data).json["package_id"]
    api.wait(before)
    cloud.restart_postgres()
    assert api.get("/v1/health").json["status"] == "ok"
    detail = api.get(f"/v1/packages/{before}").json
    assert (detail["status"], len(detail["files"])) == ("ready", 7)
    for file in detail["files"]:
        got = api.download(f"/v1/packages/{before}/files/{file['id']}/download")
        assert got == files[file["filename"]]
    after = api.upload("after.zip", data, path="/v1/packages/upload?allow_duplicate=true").json["package_id"]
    assert api.wait(after)["status"] == "ready"
