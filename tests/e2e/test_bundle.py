"""A whole package as one ZIP, on the deployed stack: ordered, built by its own function, downloaded."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from uuid import uuid4

from localcloud import samples
from localcloud.api_client import Answer, ApiClient
from localcloud.cloud import Cloud


def _wait(api: ApiClient, package_id: str, *, seconds: float = 60) -> Answer:
    deadline = time.monotonic() + seconds
    while (answer := api.get(f"/v1/packages/{package_id}/bundle")).status == 202:
        assert answer.json == {"package_id": package_id, "status": "building"}
        assert int(answer.headers["Retry-After"]) > 0
        assert time.monotonic() < deadline, "it was not built in time"
        time.sleep(0.1)
    return answer


def test_a_whole_package_comes_back_as_one_zip(api: ApiClient, cloud: Cloud) -> None:
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(12 << 15))
    files = samples.post_processor(f"WHOLE_{uuid4().hex[:6]}", sections=30) | {"BIG.CTL": noise}
    data = samples.zip_of({f"posts/{name}": content for name, content in files.items()})
    announced = api.announce("whole.zip", data).json
    package_id = announced["package_id"]
    refused = api.request("POST", f"/v1/packages/{package_id}/bundle")
    assert (refused.status, refused.json["code"]) == (409, "not_ready")
    api.send_form(announced["upload"], data)
    assert api.wait(package_id)["status"] == "ready"

    assert api.get(f"/v1/packages/{package_id}/bundle").json["code"] == "bundle_not_found"
    ordered = api.request("POST", f"/v1/packages/{package_id}/bundle")
    assert (ordered.status, ordered.json) == (202, {"package_id": package_id, "status": "building"})
    redirect = _wait(api, package_id)
    assert redirect.status == 302
    answer = api.request("GET", redirect.headers["Location"])
    name = api.get(f"/v1/packages/{package_id}").json["name"]
    assert f'filename="{name}.zip"' in answer.headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert {entry: archive.read(entry) for entry in archive.namelist()} == files

    assert api.request("POST", f"/v1/packages/{package_id}/bundle").json["status"] == "built"
    versions = cloud.client("s3").list_object_versions(
        Bucket=cloud.outputs["PackageBucketName"], Prefix=f"bundles/{package_id}"
    )
    assert len(versions["Versions"]) == 1
    # What came out goes in again: a bundle is a package like any other.
    again = api.announce("again.zip", answer.body)
    assert again.status == 202
    api.send_form(again.json["upload"], answer.body)
    assert api.wait(again.json["package_id"])["status"] == "ready"


def test_a_file_that_was_tampered_with_is_never_bundled(api: ApiClient, cloud: Cloud) -> None:
    package_id = api.upload("a.zip", samples.zip_of({"A.SRC": uuid4().bytes})).json["package_id"]
    api.wait(package_id)
    bucket = cloud.outputs["PackageBucketName"]
    cloud.client("s3").put_object(Bucket=bucket, Key=f"packages/{package_id}/A.SRC", Body=b"x" * 16)
    api.request("POST", f"/v1/packages/{package_id}/bundle")
    answer = _wait(api, package_id)
    assert (answer.status, answer.json["code"]) == (409, "bundle_failed")
    assert "SHA-256" in answer.json["detail"]
    left = cloud.client("s3").list_object_versions(Bucket=bucket, Prefix=f"bundles/{package_id}")
    assert "Versions" not in left
