"""Upkeep on the deployed stack: schedules, deletion, replay, events, and an end for what fails for good."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from localcloud import samples
from localcloud.api_client import ApiClient
from localcloud.cloud import Cloud


def _until[T](look: Callable[[], T], *, seconds: float = 90) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return found


def _versions(cloud: Cloud, output: str, prefix: str) -> list[Any]:
    s3 = cloud.client("s3")
    answer = s3.list_object_versions(Bucket=cloud.outputs[output], Prefix=prefix)
    return [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]


def test_the_sweeper_and_the_publisher_run_by_themselves(cloud: Cloud) -> None:
    """Their schedules fire on the local cloud too: runs that no test caused appear within two minutes."""

    def runs(function: str) -> int:
        log = cloud.state_dir / "logs" / f"{cloud.outputs[function]}.log"
        return log.read_text().count("START RequestId") if log.exists() else 0

    functions = ("SweepFunctionName", "PublishFunctionName", "DoctorFunctionName")
    before = {function: runs(function) for function in functions}
    _until(lambda: all(runs(function) > count for function, count in before.items()), seconds=130)
    swept = cloud.invoke("SweepFunctionName")
    assert swept["given_up"] == 0


def test_a_package_is_replayed_and_deleted(cloud: Cloud, api: ApiClient) -> None:
    files = samples.post_processor("REPLAYED", sections=10)
    package_id = api.upload("replayed.zip", samples.zip_of(files)).json["package_id"]
    first = api.wait(package_id)
    again = api.request("POST", f"/v1/packages/{package_id}/replay")
    assert (again.status, again.json["status"]) == (202, "pending")
    second = api.wait(package_id)
    assert (second["status"], second["job_id"]) == ("ready", again.json["job_id"])
    assert first["job_id"] != second["job_id"]
    detail = api.get(f"/v1/packages/{package_id}").json
    assert [run["trigger"] for run in detail["runs"]] == ["replay", "api"]
    for file in detail["files"]:
        got = api.download(f"/v1/packages/{package_id}/files/{file['id']}/download")
        assert got == files[file["filename"]]

    gone = api.request("DELETE", f"/v1/packages/{package_id}")
    assert (gone.status, gone.body) == (204, b"")
    assert api.request("DELETE", f"/v1/packages/{package_id}").status == 204
    assert api.get(f"/v1/packages/{package_id}").status == 404
    assert _versions(cloud, "PackageBucketName", f"packages/{package_id}/") == []
    assert _versions(cloud, "IncomingBucketName", f"uploads/{package_id}/") == []
    assert api.request("POST", f"/v1/packages/{package_id}/replay").status == 404


def test_a_replay_of_what_has_not_ended_is_a_conflict(cloud: Cloud, api: ApiClient) -> None:
    package_id = api.announce("never.zip", b"PK\3\4").json["package_id"]
    answer = api.request("POST", f"/v1/packages/{package_id}/replay")
    assert (answer.status, answer.json["code"]) == (409, "package_busy")
    assert api.request("DELETE", f"/v1/packages/{package_id}").status == 204


def test_many_replays_and_their_filter(cloud: Cloud, api: ApiClient) -> None:
    platform = f"p{uuid4().hex[:10]}"
    key = f"drops/{platform}/one.zip"
    data = samples.zip_of(samples.post_processor("OTHER", sections=3))
    cloud.client("s3").put_object(Bucket=cloud.outputs["IncomingBucketName"], Key=key, Body=data)
    package_id = api.wait_for_drop(key)
    assert api.wait(package_id)["error_code"] == "unknown_platform"
    body = json.dumps({"status": "error", "error_code": "unknown_platform", "platform": platform}).encode()
    answer = api.request("POST", "/v1/replays", body=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json) == (202, {"packages": [package_id], "count": 1})
    assert api.wait(package_id)["error_code"] == "unknown_platform"
    wrong = api.request("POST", "/v1/replays", body=b'{"status": "gone"}')
    assert (wrong.status, wrong.json["code"]) == (422, "invalid_fields")


def test_the_outside_is_told_once_of_every_end(cloud: Cloud, api: ApiClient) -> None:
    sqs, events = cloud.client("sqs"), cloud.client("events")
    url = sqs.create_queue(QueueName=f"heard-{uuid4()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus, rule = cloud.outputs["EventBusName"], f"heard-{uuid4()}"
    events.put_rule(Name=rule, EventBusName=bus, EventPattern=json.dumps({"source": ["veripost"]}))
    events.put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "1", "Arn": arn}])
    package_id = api.upload("told.zip", samples.zip_of(samples.post_processor("TOLD"))).json["package_id"]
    api.wait(package_id)
    cloud.invoke("PublishFunctionName")

    def heard() -> list[Any]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=1)
        documents = [json.loads(message["Body"]) for message in messages.get("Messages", [])]
        return [each for each in documents if each["detail"]["package_id"] == package_id]

    (event,) = _until(heard)
    assert event["detail-type"] == "PackageReady"
    assert (event["detail"]["status"], event["detail"]["file_count"]) == ("ready", 7)
    events.remove_targets(Rule=rule, EventBusName=bus, Ids=["1"])
    events.delete_rule(Name=rule, EventBusName=bus)
