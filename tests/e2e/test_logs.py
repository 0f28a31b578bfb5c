"""What the functions print: everything that a person needs to follow a package, and no secret."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from localcloud import samples
from localcloud.api_client import ApiClient
from localcloud.cloud import Cloud
from localcloud.postgres import Address

# Lines of ingestion that belong to no job: there is none, or it is the message that is told of.
NO_JOB = {
    "nothing to ingest",
    "deleted an upload that belongs to no package",
    "message will be delivered again",
}
JOB_FUNCTIONS = ("IngestFunctionName", "FailedFunctionName", "SweepFunctionName")


@dataclass(frozen=True)
class Traffic:
    """What was sent through the cloud, what must not be printed, and where each log stood before."""

    ready: list[str]
    refused: str
    failed: str
    secrets: dict[str, str]
    before: dict[Path, int]


def _logs(cloud: Cloud) -> list[Path]:
    return sorted((cloud.state_dir / "logs").glob("*.log"))


@pytest.fixture(scope="module")
def traffic(cloud: Cloud, api: ApiClient) -> Traffic:
    """All doors, every kind of download, a refusal, an examination, and a failure that is given up."""
    before = {log: log.stat().st_size for log in _logs(cloud)}
    s3, bucket = cloud.client("s3"), cloud.outputs["IncomingBucketName"]
    files = samples.post_processor(f"LOGGED_{uuid4().hex[:8]}", sections=5)
    data = samples.zip_of(files)
    assert api.key is not None
    secrets = {
        "the database's password": Address.from_url(cloud.database_url).password,
        "an API key": api.key,
    }

    announced = api.announce("logged.zip", data).json
    form = announced["upload"]["fields"]
    for name, value in form.items():
        if name in {"policy", "x-amz-signature", "x-amz-credential", "x-amz-security-token"}:
            secrets[f"the form's {name}"] = value
    assert api.send_form(announced["upload"], data).status in {200, 204}
    uploaded = api.upload("logged.zip", data).json["package_id"]
    key = f"drops/camworks/{uuid4().hex}.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=data)
    s3.put_object(Bucket=bucket, Key="drops/camworks/a folder/", Body=b"")
    ready = [announced["package_id"], uploaded, api.wait_for_drop(key)]
    for package_id in ready:
        assert api.wait(package_id)["status"] == "ready"

    file_id = api.get(f"/v1/packages/{uploaded}").json["files"][0]["id"]
    bundle = f"/v1/packages/{uploaded}/bundle"
    api.request("POST", bundle)
    deadline = time.monotonic() + 60
    while api.get(bundle).status == 202:
        assert time.monotonic() < deadline, "the bundle is not built"
        time.sleep(0.2)
    for path in (
        f"/v1/packages/{uploaded}/files/{file_id}/download",
        f"/v1/packages/{uploaded}/archive",
        bundle,
    ):
        redirect = api.get(path).headers["Location"]
        assert api.request("GET", redirect).status == 200
        for name, values in parse_qs(urlsplit(redirect).query).items():
            if name.lower() in {"x-amz-signature", "x-amz-security-token", "x-amz-credential"}:
                secrets[f"{name} of {path.rpartition('/')[2]}"] = values[0]

    wrong = samples.zip_of(files | {"part.NC": b"G0 X0"})
    assert api.upload("wrong.zip", wrong).status == 422
    key = f"drops/camworks/{uuid4().hex}.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=wrong)
    refused = api.wait_for_drop(key)
    assert api.wait(refused)["error_code"] == "forbidden_extension"
    assert api.get(f"/v1/packages/{uuid4()}").status == 404

    # A bucket that does not exist is nobody's fault but ours: three attempts, then it is given up.
    key = f"drops/camworks/{uuid4().hex}.zip"
    entry = {"key": key, "size": 10, "versionId": uuid4().hex}
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "no-such-bucket"}, "object": entry}}
    body = json.dumps({"Records": [record]})
    cloud.client("sqs").send_message(QueueUrl=cloud.outputs["IngestQueueUrl"], MessageBody=body)
    failed = api.wait_for_drop(key)
    assert api.wait(failed)["error_code"] == "ingest_failed"
    doctor_id = api.post("/v1/doctor", {}).json["doctor_id"]
    cloud.invoke("DoctorFunctionName", {"doctor_id": doctor_id})
    cloud.invoke("SweepFunctionName")
    cloud.invoke("PublishFunctionName")
    return Traffic(ready, refused, failed, secrets, before)


def _lines(cloud: Cloud, traffic: Traffic, function: str) -> Iterator[Any]:
    """Yield the lines that a function's own logger has printed for our traffic."""
    log = cloud.state_dir / "logs" / f"{cloud.outputs[function]}.log"
    printed = log.read_bytes()[traffic.before.get(log, 0) :].decode()
    for line in printed.splitlines():
        if line.startswith("{"):
            document = json.loads(line)
            if "level" in document:  # what has none is a metric
                yield document


def test_no_log_holds_a_secret(cloud: Cloud, traffic: Traffic) -> None:
    logs = {log: log.read_text() for log in _logs(cloud)}
    names = {output for output in cloud.outputs if output.endswith("FunctionName")}
    assert {log.stem for log in logs} == {cloud.outputs[name] for name in names}, "every function has a log"
    assert all(logs.values())
    assert len(traffic.secrets) >= 9
    assert all(len(value) >= 16 for value in traffic.secrets.values())
    known = traffic.secrets | {
        "a presigned URL": "x-amz-signature",
        "a session's token": "x-amz-security-token",
        "a form's policy": '"policy"',
        "the URL of a database with its password": "postgresql://",
    }
    for log, printed in logs.items():
        lowered = printed.lower()
        for name, value in known.items():
            assert value.lower() not in lowered, f"{log.name} holds {name}"


def test_every_line_of_a_job_says_whose_it_is(cloud: Cloud, traffic: Traffic) -> None:
    seen: dict[str, set[str]] = {}
    for function in JOB_FUNCTIONS:
        for line in _lines(cloud, traffic, function):
            assert line["request_id"], line
            assert line["environment"] == "local", line
            of_a_job = function != "SweepFunctionName" or "package_id" in line
            if of_a_job and line["message"] not in NO_JOB:
                assert line["package_id"], line
                assert line["job_id"], line
                if function != "SweepFunctionName":
                    assert line["message_id"], line
                seen.setdefault(line["package_id"], set()).add(line["message"])
    for package_id in (*traffic.ready, traffic.refused):
        assert "ingestion ended" in seen[package_id]
    assert {"ingestion failed; the job is given back", "package given up"} <= seen[traffic.failed]


def test_every_request_is_one_line(cloud: Cloud, traffic: Traffic) -> None:
    lines = [*_lines(cloud, traffic, "UploadFunctionName"), *_lines(cloud, traffic, "StatusFunctionName")]
    requests = [line for line in lines if line["message"] == "request"]
    assert all(line["request_id"] for line in lines)
    assert {202, 422} <= {line["status"] for line in requests if line["method"] == "POST"}
    assert {200, 302, 404} <= {line["status"] for line in requests if line["method"] == "GET"}
    named = {line.get("package_id") for line in requests}
    assert set(traffic.ready) <= named
