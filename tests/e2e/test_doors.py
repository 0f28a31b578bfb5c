"""Three doors, one pipeline: every package through the deployed S3, SQS, Lambda, Postgres and API Gateway."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from uuid import uuid4

import pytest

from localcloud import samples
from localcloud.api_client import ApiClient
from localcloud.cloud import Cloud


def _package() -> tuple[dict[str, bytes], bytes]:
    """A good package that is unlike any other, zipped with its folder and a Mac's litter."""
    files = samples.post_processor(f"MILL_{uuid4().hex[:8].upper()}", sections=60)
    litter = {f"__MACOSX/._{name}": b"\0\5\26\7" for name in files}
    return files, samples.zip_of({f"posts/deep/{name}": data for name, data in files.items()} | litter)


def _drop(cloud: Cloud, key: str, data: bytes) -> None:
    cloud.client("s3").put_object(Bucket=cloud.outputs["IncomingBucketName"], Key=key, Body=data)


def _left_below(cloud: Cloud, package_id: str) -> list[Any]:
    listed = cloud.client("s3").list_object_versions(
        Bucket=cloud.outputs["PackageBucketName"], Prefix=f"packages/{package_id}/"
    )
    return [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]


def _assert_identical(
    api: ApiClient, cloud: Cloud, package_id: str, files: dict[str, bytes], data: bytes
) -> None:
    """Every file and the archive come back byte for byte, and S3 itself holds each file's checksum."""
    detail = api.get(f"/v1/packages/{package_id}").json
    assert detail["status"] == "ready"
    assert detail["content_hash"] == hashlib.sha256(data).hexdigest()
    assert {file["filename"] for file in detail["files"]} == set(files)
    for file in detail["files"]:
        content = files[file["filename"]]
        assert api.download(f"/v1/packages/{package_id}/files/{file['id']}/download") == content
        assert file["content_hash"] == hashlib.sha256(content).hexdigest()
        assert file["size_bytes"] == len(content)
        stored = cloud.client("s3").head_object(
            Bucket=cloud.outputs["PackageBucketName"],
            Key=f"packages/{package_id}/{file['filename']}",
            ChecksumMode="ENABLED",
        )
        assert base64.b64decode(stored["ChecksumSHA256"]).hex() == file["content_hash"]
    assert api.download(f"/v1/packages/{package_id}/archive") == data


@pytest.mark.parametrize("with_hash", [True, False])
def test_presigned_door(api: ApiClient, cloud: Cloud, with_hash: bool) -> None:
    files, data = _package()
    announced = api.announce("my post.zip", data, with_hash=with_hash)
    assert announced.status == 202
    package_id = announced.json["package_id"]
    assert api.get(f"/v1/packages/{package_id}/status").json["status"] == "pending"
    assert api.send_form(announced.json["upload"], data).status in {200, 204}
    final = api.wait(package_id)
    assert (final["status"], final["job_id"]) == ("ready", announced.json["job_id"])
    _assert_identical(api, cloud, package_id, files, data)


def test_presigned_form_takes_one_key_and_no_more_bytes(api: ApiClient) -> None:
    _, data = _package()
    form = api.announce("a.zip", data, with_hash=False).json["upload"]
    assert api.send_form(form, data + b"x").status == 400
    assert (
        api.send_form({**form, "fields": {**form["fields"], "key": "uploads/elsewhere"}}, data).status == 403
    )


def test_api_door(api: ApiClient, cloud: Cloud) -> None:
    files, data = _package()
    accepted = api.upload("post.zip", data)
    assert accepted.status == 202
    assert api.wait(accepted.json["package_id"])["status"] == "ready"
    _assert_identical(api, cloud, accepted.json["package_id"], files, data)
    there = {"package_id": accepted.json["package_id"], "duplicate_of": accepted.json["package_id"]}
    for known in (api.upload("post.zip", data), api.announce("post.zip", data)):
        assert (known.status, known.json) == (200, there | {"status": "ready"})
    again = api.upload("post.zip", data, path="/v1/posts/upload?allow_duplicate=true")
    assert again.status == 202
    assert api.wait(again.json["package_id"])["status"] == "ready"
    assert (
        api.get(f"/v1/posts/{again.json['package_id']}").json["duplicate_of"] == accepted.json["package_id"]
    )


@pytest.mark.parametrize(
    "name",
    [
        "plain.zip",
        "with space.zip",
        "a+b.zip",
        "100%.zip",
        "Fräse Müller.zip",
        "UPPER.ZIP",
        "no-extension",
        "sub/x.zip",
    ],
)
def test_drop_door_with_any_key(api: ApiClient, cloud: Cloud, name: str) -> None:
    files, data = _package()
    key = f"drops/camworks/{uuid4().hex}/{name}"
    _drop(cloud, key, data)
    package_id = api.wait_for_drop(key)
    assert api.wait(package_id)["status"] == "ready"
    detail = api.get(f"/v1/packages/{package_id}").json
    assert detail["runs"][0]["trigger"] == "drop"
    assert detail["name"] == next(iter(files)).removesuffix(".SRC")
    _assert_identical(api, cloud, package_id, files, data)


def test_folders_are_flattened_and_litter_is_skipped(api: ApiClient) -> None:
    files, data = _package()
    package_id = api.upload("post.zip", data).json["package_id"]
    api.wait(package_id)
    detail = api.get(f"/v1/packages/{package_id}").json
    assert {file["original_path"] for file in detail["files"]} == {f"posts/deep/{name}" for name in files}
    assert {problem["severity"] for problem in detail["problems"]} == {"notice"}
    assert {problem["member"] for problem in detail["problems"]} == {f"__MACOSX/._{name}" for name in files}


def _bad() -> dict[str, tuple[bytes, int, str, str, str]]:
    good = samples.post_processor("BAD", sections=10)
    sourceless = {name: data for name, data in good.items() if not name.endswith(".SRC")}
    return {
        "no source": (samples.zip_of(sourceless), 422, "required_file_missing", ".SRC", "extensions found"),
        "a program": (
            samples.zip_of(good | {"part.NC": b"G0"}),
            422,
            "forbidden_extension",
            "part.NC",
            ".NC",
        ),
        "lower case": (
            samples.zip_of(good | {"part.nc": b"G0"}),
            422,
            "forbidden_extension",
            "part.nc",
            ".NC",
        ),
        "no zip": (b"this is a text file\n" * 10, 400, "not_a_zip", "not a ZIP", "starts with"),
        "empty zip": (samples.zip_of({}), 422, "empty_package", "empty", "0 entries"),
    }


@pytest.mark.parametrize("case", _bad())
def test_a_bad_package_is_refused_alike_at_every_door(api: ApiClient, cloud: Cloud, case: str) -> None:
    data, status, code, words, detail = _bad()[case]
    before = api.get("/v1/packages").json["packages"][:1]
    answer = api.upload("bad.zip", data)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert words in answer.json["message"]
    assert detail in answer.json["detail"]
    assert answer.json["request_id"]
    assert api.get("/v1/packages").json["packages"][:1] == before

    key = f"drops/camworks/{uuid4().hex}/bad.zip"
    _drop(cloud, key, data)
    package_id = api.wait_for_drop(key)
    final = api.wait(package_id)
    assert (final["status"], final["error_code"]) == ("error", code)
    assert (final["error_message"], final["error_detail"]) == (answer.json["message"], answer.json["detail"])
    assert final["problems"] == answer.json["problems"]
    assert _left_below(cloud, package_id) == []
    assert api.download(f"/v1/packages/{package_id}/archive") == data


def test_an_object_without_a_byte(api: ApiClient, cloud: Cloud) -> None:
    """Only at the drop door: LocalStack drops an empty part of a form (AWS hands it through)."""
    key = f"drops/camworks/{uuid4().hex}/nothing.zip"
    _drop(cloud, key, b"")
    final = api.wait(api.wait_for_drop(key))
    assert (final["status"], final["error_code"]) == ("error", "not_a_zip")
    assert "empty" in final["error_message"]


def test_all_problems_at_once(api: ApiClient) -> None:
    data = samples.zip_of({"x/a.LIB": b"1", "y/A.lib": b"2", "b.nc": b"3", "c.exe": b"4"})
    problems = api.upload("bad.zip", data).json["problems"]
    assert [(p["code"], p["member"]) for p in problems] == [
        ("name_collision", "y/A.lib"),
        ("forbidden_extension", "b.nc"),
        ("forbidden_extension", "c.exe"),
        ("required_file_missing", None),
    ]


def test_a_folder_marker_makes_no_package(api: ApiClient, cloud: Cloud) -> None:
    _drop(cloud, "drops/camworks/new folder/", b"")
    _, data = _package()
    key = f"drops/camworks/{uuid4().hex}.zip"
    _drop(cloud, key, data)
    api.wait(api.wait_for_drop(key))
    keys = [
        api.get(f"/v1/packages/{p['id']}").json["source_key"]
        for p in api.get("/v1/packages?limit=3").json["packages"]
    ]
    assert "drops/camworks/new folder/" not in keys


def test_an_unknown_platform_ends_in_error(api: ApiClient, cloud: Cloud) -> None:
    key = f"drops/nobody/{uuid4().hex}.zip"
    _drop(cloud, key, _package()[1])
    final = api.wait(api.wait_for_drop(key))
    assert (final["status"], final["error_code"]) == ("error", "unknown_platform")


def test_a_large_archive_through_the_presigned_door(api: ApiClient, cloud: Cloud) -> None:
    """Two members above the multipart bound: 12 MiB that cannot be compressed, 24 MB that can."""
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(12 << 15))
    lines = b"".join(b"*comment %d\r\n" % number for number in range(1_500_000))
    files = samples.post_processor("LARGE", sections=10) | {"BIG.CTL": noise, "LONG.LIB": lines}
    data = samples.zip_of(files)
    announced = api.announce("large.zip", data).json
    api.send_form(announced["upload"], data)
    final = api.wait(announced["package_id"])
    assert final["status"] == "ready", json.dumps(final)
    detail = api.get(f"/v1/packages/{announced['package_id']}").json
    for file in detail["files"]:
        got = api.download(f"/v1/packages/{announced['package_id']}/files/{file['id']}/download")
        assert hashlib.sha256(got).hexdigest() == file["content_hash"]
        assert got == files[file["filename"]]
