"""Every route, called as API Gateway calls the functions, on real Postgres and an S3 inside the process."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from sqlalchemy import Engine, select, update
from urllib3.filepost import encode_multipart_formdata

from functions.status import app as status_app
from functions.upload import app as upload_app
from localcloud import samples
from tests.integration.gateway import CONTEXT, call
from veripost import db, ingestion, keys, queries, settings
from veripost.ingest_queue import LandedObject
from veripost.models import post_packages
from veripost.schemas import CreateKey
from veripost.storage import Storage, get_storage

GOOD = {"MILL.SRC": b":SECTION=A\r\n", "MILL.LIB": b"*lib\r\n"}


_key = ""  # of the module's own database; every call sends it


@pytest.fixture(autouse=True, scope="module")
def _admin(engine: Engine) -> None:
    global _key  # noqa: PLW0603
    _key = keys.mint(engine, CreateKey.model_validate({"client_name": "tests", "scopes": ["admin"]})).key


@pytest.fixture(autouse=True)
def _deployed(
    engine: Engine, storage: Storage, s3_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The environment that the template gives the functions; fresh clients, since the S3 is fresh."""
    for name, value in {
        "DATABASE_URL": database_url,
        "DATABASE_TLS": "disable",
        "INCOMING_BUCKET": "incoming",
        "PACKAGE_BUCKET": "packages",
        "S3_ENDPOINT_URL": s3_url,
        "CORS_ORIGINS": "https://a.example,https://b.example",
    }.items():
        monkeypatch.setenv(name, value)
    settings.get_settings.cache_clear()
    get_storage.cache_clear()
    own = db.get_engine(settings.get_settings())
    yield
    own.dispose()
    settings.get_settings.cache_clear()
    get_storage.cache_clear()


def _call(app: Any, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return status, JSON and headers of one request with the module's key."""
    return call(app, method, path, **({"key": _key} | request))


def _get(path: str, **query: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    return _call(status_app, "GET", path, query=query)


def _create(**fields: object) -> tuple[int, dict[str, Any]]:
    return _call(upload_app, "POST", "/v1/packages", body=json.dumps(fields))[:2]


def _upload(
    data: bytes, *, path: str = "/v1/packages/upload", query: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    form, content_type = encode_multipart_formdata({"file": ("post.zip", data, "application/zip")})
    return _call(
        upload_app,
        "POST",
        path,
        query=query,
        body=base64.b64encode(form).decode(),
        headers={"Content-Type": content_type},
        encoded=True,
    )[:2]


def _rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return len(connection.execute(select(post_packages.c.id)).all())


def _incoming() -> list[str]:
    listed = boto3.client("s3").list_object_versions(Bucket="incoming")
    return [version["Key"] for version in listed.get("Versions", [])]


def _ready(engine: Engine, storage: Storage, files: dict[str, bytes] = GOOD) -> UUID:
    """Bring one package in through the drop door."""
    return _ready_from(engine, storage, samples.zip_of(files))


def _ready_from(engine: Engine, storage: Storage, data: bytes) -> UUID:
    key = f"drops/camworks/{uuid4()}.zip"
    version = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=data)["VersionId"]
    landed = LandedObject("incoming", key, version, len(data))
    ingestion.ingest(
        landed,
        engine=engine,
        storage=storage,
        config=ingestion.config_of(settings.get_settings()),
        request_id="r",
        seconds_left=lambda: 300.0,
    )
    with engine.connect() as connection:
        found: UUID = connection.execute(
            select(post_packages.c.id).where(post_packages.c.source_key == key)
        ).scalar_one()
        return found


def _cursor(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


# -- announcing


def test_announcing_answers_with_a_form_for_one_key_and_size() -> None:
    status, answer = _create(filename="my post.zip", size_bytes=1000, sha256="AB" * 32)
    assert status == 202
    assert answer["status"] == "pending"
    form = answer["upload"]
    assert form["fields"]["key"] == f"uploads/{answer['package_id']}/archive.zip"
    assert form["max_bytes"] == 1000
    assert form["fields"]["x-amz-checksum-algorithm"] == "SHA256"
    checksum = base64.b64encode(bytes.fromhex("ab" * 32)).decode()
    assert form["fields"]["x-amz-checksum-sha256"] == checksum
    policy = json.loads(base64.b64decode(form["fields"]["policy"]))["conditions"]
    assert ["content-length-range", 1, 1000] in policy
    assert {"x-amz-checksum-sha256": checksum} in policy
    assert {"x-amz-checksum-algorithm": "SHA256"} in policy
    shown = _get(f"/v1/packages/{answer['package_id']}/status")[1]
    assert (shown["status"], shown["job_id"]) == ("pending", answer["job_id"])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "filename"),
        ({"filename": "a.zip"}, "size_bytes"),
        ({"filename": "a.zip", "size_bytes": 0}, "size_bytes"),
        ({"filename": "a.zip", "size_bytes": "5"}, "size_bytes"),
        ({"filename": "", "size_bytes": 5}, "filename"),
        ({"filename": "a\x00.zip", "size_bytes": 5}, "filename"),
        ({"filename": "a.zip", "size_bytes": 5, "sha256": "xyz"}, "sha256"),
        ({"filename": "a.zip", "size_bytes": 5, "extra": 1}, "extra"),
    ],
)
def test_wrong_fields_are_named(engine: Engine, fields: dict[str, object], named: str) -> None:
    before = _rows(engine)
    status, answer = _create(**fields)
    assert (status, answer["code"], answer["request_id"]) == (422, "invalid_fields", "req-1")
    assert named in answer["detail"]
    assert _rows(engine) == before


@pytest.mark.parametrize("body", [None, "", "{", "nope"])
def test_a_body_that_is_no_json(body: str | None) -> None:
    status, answer, _ = _call(upload_app, "POST", "/v1/packages", body=body)
    assert (status, answer["code"]) == (400, "invalid_request")


def test_too_large_to_announce_and_an_unknown_platform(engine: Engine) -> None:
    before = _rows(engine)
    assert _create(filename="a.zip", size_bytes=3 << 30)[0] == 413
    status, answer = _create(filename="a.zip", size_bytes=3, platform="nobody")
    assert (status, answer["code"]) == (422, "unknown_platform")
    assert _rows(engine) == before


# -- duplicates


def _sample() -> tuple[bytes, str]:
    """An archive that nobody has sent yet, and its SHA-256."""
    data = samples.zip_of({"MILL.SRC": uuid4().bytes})
    return data, hashlib.sha256(data).hexdigest()


def test_the_bytes_of_a_ready_package_are_not_stored_again(engine: Engine, storage: Storage) -> None:
    data, sha256 = _sample()
    there = str(_ready_from(engine, storage, data))
    rows, objects = _rows(engine), _incoming()
    told = {"package_id": there, "duplicate_of": there, "status": "ready"}
    assert _create(filename="a.zip", size_bytes=len(data), sha256=sha256.upper()) == (200, told)
    assert _upload(data) == (200, told)
    assert _upload(data, path="/v1/posts/upload") == (200, told)
    assert (_rows(engine), _incoming()) == (rows, objects)

    # Without its hash nobody knows yet; and whoever wants to may store it again.
    assert _create(filename="a.zip", size_bytes=len(data))[0] == 202
    body = json.dumps({"filename": "a.zip", "size_bytes": len(data), "sha256": sha256})
    query = {"allow_duplicate": "true"}
    assert _call(upload_app, "POST", "/v1/packages", body=body, query=query)[0] == 202
    status, answer = _upload(data, query=query)
    assert status == 202
    assert _rows(engine) == rows + 3
    assert f"uploads/{answer['package_id']}/archive.zip" in _incoming()


def test_what_is_not_ready_or_of_another_platform_is_no_duplicate(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, sha256 = _sample()
    first = _upload(data)[1]["package_id"]
    assert _upload(data)[0] == 202  # the first one is still pending
    there = _ready_from(engine, storage, data)
    with engine.begin() as connection:
        connection.execute(
            update(post_packages).where(post_packages.c.id == there).values(platform="elsewhere")
        )
    assert _create(filename="a.zip", size_bytes=len(data), sha256=sha256)[0] == 202
    again = _ready_from(engine, storage, data)
    assert again != UUID(first)
    assert _get(f"/v1/packages/{again}")[1]["duplicate_of"] is None
    assert _upload(data)[1] == {"package_id": str(again), "duplicate_of": str(again), "status": "ready"}
    dropped = _ready_from(engine, storage, data)
    assert _get(f"/v1/packages/{dropped}")[1]["duplicate_of"] == str(again)
    assert _upload(data)[1]["duplicate_of"] == str(again)  # the oldest


@pytest.mark.parametrize("query", [{"allow_duplicates": "true"}, {"allow_duplicate": "perhaps"}])
def test_a_misspelt_wish_is_refused_before_anything_is_stored(engine: Engine, query: dict[str, str]) -> None:
    rows = _rows(engine)
    status, answer = _upload(_sample()[0], query=query)
    assert (status, answer["code"]) == (422, "invalid_fields")
    assert _rows(engine) == rows
    assert _incoming() == []


# -- uploading


@pytest.mark.parametrize("path", ["/v1/packages/upload", "/v1/posts/upload"])
def test_a_good_upload_is_recorded_and_stored(path: str) -> None:
    status, answer = _upload(samples.zip_of(GOOD, folder="MILL/"), path=path)
    assert status == 202
    assert set(answer) == {"package_id", "job_id", "status"}
    assert f"uploads/{answer['package_id']}/archive.zip" in _incoming()
    assert _get(f"/v1/packages/{answer['package_id']}")[1]["name"] == "MILL"


@pytest.mark.parametrize(
    ("data", "status", "codes"),
    [
        (b"", 400, ["not_a_zip"]),
        (b"hello", 400, ["not_a_zip"]),
        (samples.zip_of({}), 422, ["empty_package"]),
        (samples.zip_of({"a.LIB": b"1"}), 422, ["required_file_missing"]),
        (samples.zip_of(GOOD | {"x.nc": b"1", "y.exe": b"2"}), 422, ["forbidden_extension"] * 2),
        (samples.zip_of(GOOD)[:-30], 422, ["truncated_archive"]),
        (samples.zip_of({"../a.SRC": b"1", "b.nc": b"2"}), 422, ["name_traversal", "forbidden_extension"]),
    ],
)
def test_a_bad_upload_says_what_ingestion_would_and_leaves_nothing(
    engine: Engine, storage: Storage, data: bytes, status: int, codes: list[str]
) -> None:
    rows = _rows(engine)
    answered, refusal = _upload(data)
    assert answered == status
    assert [p["code"] for p in refusal["problems"] if p["severity"] == "error"] == codes
    assert refusal["code"] == codes[0]
    assert refusal["message"]
    assert _rows(engine) == rows
    assert _incoming() == []

    landed = LandedObject("incoming", f"drops/camworks/{uuid4()}.zip", "", len(data))
    version = boto3.client("s3").put_object(Bucket="incoming", Key=landed.key, Body=data)["VersionId"]
    ingestion.ingest(
        LandedObject("incoming", landed.key, version, len(data)),
        engine=engine,
        storage=storage,
        config=ingestion.config_of(settings.get_settings()),
        request_id="r",
        seconds_left=lambda: 300.0,
    )
    with engine.connect() as connection:
        package_id = connection.execute(
            select(post_packages.c.id).where(post_packages.c.source_key == landed.key)
        ).scalar_one()
    shown = _get(f"/v1/packages/{package_id}/status")[1]
    assert (shown["error_code"], shown["error_message"], shown["error_detail"], shown["problems"]) == (
        refusal["code"],
        refusal["message"],
        refusal["detail"],
        refusal["problems"],
    )


def test_above_four_mebibytes_the_presigned_way_is_named() -> None:
    status, answer = _upload(bytes((4 << 20) + 1))
    assert (status, answer["code"]) == (413, "too_large")
    assert "POST /v1/packages" in answer["message"]


def test_forms_that_are_none() -> None:
    status, answer, _ = _call(upload_app, "POST", "/v1/packages/upload", body="x")
    assert (status, answer["code"]) == (415, "unsupported_media_type")
    headers = {"content-type": "multipart/form-data; boundary=abc"}
    status, answer, _ = _call(upload_app, "POST", "/v1/packages/upload", body="garbage", headers=headers)
    assert (status, answer["code"]) == (400, "invalid_request")
    headers = {"content-type": "multipart/form-data"}
    status, answer, _ = _call(upload_app, "POST", "/v1/packages/upload", body="garbage", headers=headers)
    assert (status, answer["code"]) == (400, "invalid_request")
    form, content_type = encode_multipart_formdata({"other": ("a.zip", b"x")})
    status, answer, _ = _call(
        upload_app, "POST", "/v1/packages/upload", body=form.decode(), headers={"Content-Type": content_type}
    )
    assert (status, answer["code"]) == (400, "invalid_request")
    assert "file" in answer["message"]


def test_odd_file_names_are_taken_as_they_come() -> None:
    data = samples.zip_of(GOOD)
    for name in (b"Fr\xe4se.zip", b"a\x00b.zip", b"x" * 3000, b""):
        form = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
            + name
            + b'"\r\n\r\n'
            + data
            + b"\r\n--b--"
        )
        body = base64.b64encode(form).decode()
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answered = _call(upload_app, "POST", "/v1/packages/upload", body=body, headers=headers, encoded=True)
        assert answered[0] in {202, 400}, answered


def test_two_files_in_one_form_are_refused_rather_than_one_dropped() -> None:
    data = samples.zip_of(GOOD)
    form, content_type = encode_multipart_formdata([("file", ("a.zip", data)), ("file", ("b.zip", data))])
    body = base64.b64encode(form).decode()
    headers = {"Content-Type": content_type}
    answer = _call(upload_app, "POST", "/v1/packages/upload", body=body, headers=headers, encoded=True)
    assert (answer[0], answer[1]["code"]) == (400, "invalid_request")
    assert _incoming() == []


def test_nothing_is_received_before_it_has_landed() -> None:
    package_id = _create(filename="a.zip", size_bytes=10)[1]["package_id"]
    assert _get(f"/v1/packages/{package_id}/status")[1]["progress"]["bytes_received"] is None


def test_a_store_that_is_down_leaves_no_row(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _rows(engine)
    boto3.client("s3").delete_bucket(Bucket="incoming")
    status, answer = _upload(samples.zip_of(GOOD))
    assert (status, answer["code"], answer["detail"]) == (503, "unavailable", None)
    assert _rows(engine) == before


# -- reading


def test_detail_status_and_pages(engine: Engine, storage: Storage) -> None:
    files = {f"F{number:03d}.LIB": bytes([number]) for number in range(250)} | {"A.SRC": b"x"}
    package_id = _ready(engine, storage, files | {f"__MACOSX/{n}": b"" for n in range(130)})
    status, detail, _ = _get(f"/v1/packages/{package_id}")
    assert status == 200
    assert _get(f"/v1/posts/{package_id}")[1] == detail
    assert (detail["status"], detail["name"], detail["file_count"]) == ("ready", "A", 251)
    assert len(detail["files"]) == 200
    assert detail["run_count"] == len(detail["runs"]) == 1
    assert len(detail["problems"]) == 100

    names: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = _get(f"/v1/packages/{package_id}/files", limit="100", **cursor)[1]
        names += [file["filename"] for file in page["files"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert names == sorted(files, key=str.lower)

    problems: list[str] = []
    cursor = {}
    while True:
        page = _get(f"/v1/packages/{package_id}/problems", limit="33", **cursor)[1]
        problems += [problem["member"] for problem in page["problems"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(problems) == detail["problem_count"] == 101

    shown = _get(f"/v1/packages/{package_id}/status")[1]
    assert (shown["status"], shown["file_count"], shown["error_message"]) == ("ready", 251, None)


def test_the_list_is_newest_first_and_pages(engine: Engine, storage: Storage) -> None:
    made = [str(_ready(engine, storage, {f"L{number}.SRC": b"x"})) for number in range(5)]
    first = _get("/v1/packages", limit="3")[1]
    assert [package["id"] for package in first["packages"]] == made[:1:-1]
    assert first["count"] == 3
    second = _get("/v1/posts", limit="2", cursor=first["next_cursor"])[1]
    assert [package["id"] for package in second["packages"]] == made[1::-1]


def test_the_list_is_filtered_and_sorted(engine: Engine, storage: Storage) -> None:
    marks = [f"Z{uuid4().hex}" for _ in range(2)]
    by_name = {
        mark: str(_ready(engine, storage, {f"{mark}.SRC": b"x", "A.KIN": mark.encode()})) for mark in marks
    }
    first = by_name[marks[0]]

    def found(**query: str) -> set[str]:
        status, page, _ = _get("/v1/packages", limit="200", **query)
        assert status == 200, page
        return {package["id"] for package in page["packages"]} & set(by_name.values())

    detail = _get(f"/v1/packages/{first}")[1]
    everything = set(by_name.values())
    assert found() == everything
    assert found(status="ready", platform="camworks") == everything
    assert (
        found(status="error")
        == found(platform="other")
        == found(machine="x")
        == found(controller="x")
        == set()
    )
    for spelling in (".KIN", "kin", ".kin", "Kin"):
        assert found(extension=spelling) == everything
    assert found(extension=".LNG") == set()
    assert found(name=marks[0][:12].lower()) == {first}
    assert found(name=marks[0][1:]) == set()
    assert found(sha256=detail["content_hash"].upper()) == {first}
    assert found(created_since=detail["created_at"]) == everything
    assert found(created_until=detail["created_at"]) == set()
    page = _get("/v1/posts", name="z", sort="-name", limit="200")[1]["packages"]
    assert [package["name"] for package in page] == sorted(
        [package["name"] for package in page], reverse=True
    )


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"colour": "red", "size": "5"}, ["colour", "size"]),
        ({"Status": "ready"}, ["Status"]),
        ({"status": "lost"}, ["status"]),
        ({"sort": "size"}, ["sort"]),
        ({"sort": "--created"}, ["sort"]),
        ({"sha256": "abc"}, ["sha256"]),
        ({"extension": "tar.gz"}, ["extension"]),
        ({"extension": ""}, ["extension"]),
        ({"name": ""}, ["name"]),
        ({"name": "a\0"}, ["name"]),
        ({"name": "\ud800"}, ["name"]),
        ({"machine": "m" * 201}, ["machine"]),
        ({"created_since": "yesterday"}, ["created_since"]),
        ({"created_since": "2026-01-01T00:00:00"}, ["created_since"]),
        ({"created_until": "0001-01-01T00:00:00+23:59"}, ["created_until"]),
        ({"created_until": "9999-12-31T23:59:59-23:59"}, ["created_until"]),
        ({"created_until": "1e400"}, ["created_until"]),
    ],
)
def test_parameters_that_the_list_does_not_know_are_named(query: dict[str, str], named: list[str]) -> None:
    status, answer, _ = _get("/v1/packages", **query)
    assert (status, answer["code"]) == (422, "invalid_fields")
    assert all(name in answer["detail"] for name in named)


def test_a_parameter_that_is_there_twice_is_refused() -> None:
    event = {
        "httpMethod": "GET",
        "path": "/v1/packages",
        "resource": "/v1/packages",
        "headers": {"x-api-key": _key},
        "queryStringParameters": {"status": "error"},
        "multiValueQueryStringParameters": {"status": ["ready", "error"]},
        "requestContext": {"requestId": "req-1", "stage": "api", "path": "/api/v1/packages"},
    }
    answer = status_app.handler(event, CONTEXT)
    assert answer["statusCode"] == 422
    assert "status" in json.loads(answer["body"])["detail"]


def test_a_cursor_of_another_list_is_refused(engine: Engine, storage: Storage) -> None:
    for number in range(2):
        _ready(engine, storage, {f"C{number}.SRC": b"x"})
    cursor = _get("/v1/packages", limit="1", extension="SRC")[1]["next_cursor"]
    assert _get("/v1/packages", limit="1", extension=".src", cursor=cursor)[0] == 200
    status, answer, _ = _get("/v1/packages", limit="1", extension="LIB", cursor=cursor)
    assert (status, answer["code"]) == (422, "invalid_fields")


def test_downloads_are_redirects_to_short_lived_urls(engine: Engine, storage: Storage) -> None:
    package_id = _ready(engine, storage, {"Fräse 1.SRC": b"x"})
    file_id = _get(f"/v1/packages/{package_id}")[1]["files"][0]["id"]
    status, _, headers = _get(f"/v1/packages/{package_id}/files/{file_id}/download")
    assert status == 302
    assert f"packages/{package_id}/" in headers["Location"]
    assert "X-Amz-Expires=300" in headers["Location"]
    assert headers["Cache-Control"] == "no-store"
    status, _, headers = _get(f"/v1/packages/{package_id}/archive")
    assert status == 302
    assert "versionId=" in headers["Location"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/v1/packages/{uuid4()}", "package_not_found"),
        (f"/v1/packages/{uuid4()}/status", "package_not_found"),
        (f"/v1/packages/{uuid4()}/files", "package_not_found"),
        (f"/v1/packages/{uuid4()}/problems", "package_not_found"),
        (f"/v1/packages/{uuid4()}/archive", "package_not_found"),
        (f"/v1/packages/{uuid4()}/files/{uuid4()}/download", "file_not_found"),
        ("/v1/packages/not-a-uuid", "package_not_found"),
        (f"/v1/packages/{uuid4()}/files/nope/download", "file_not_found"),
        ("/v1/nowhere", "route_not_found"),
    ],
)
def test_unknown_things_are_404_in_our_shape(path: str, code: str) -> None:
    status, answer, _ = _get(path)
    assert (status, answer["code"], answer["request_id"]) == (404, code, "req-1")
    assert answer["message"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "x"},
        {"limit": "²"},
        {"limit": "9" * 5000},
        {"cursor": "!!"},
        {"cursor": "ü"},
        {"cursor": "W10"},
        {"cursor": _cursor([])},
        {"cursor": _cursor({})},
        {"cursor": _cursor("\ud800")},
        {"cursor": _cursor(["2026-01-01T00:00:00", 5])},
        {"cursor": _cursor(["0001-01-01T00:00:00+23:59", str(uuid4())])},
        {"cursor": _cursor(["2026-01-01T00:00:00", str(uuid4())])},
        {"cursor": _cursor([1e999])},
        {"cursor": _cursor(["\0"])},
        {"cursor": _cursor(["\ud800"])},
        {"cursor": _cursor(["-1"])},
        {"cursor": _cursor(["9" * 5000])},
        {"cursor": "W" * 90_000},
    ],
)
@pytest.mark.parametrize("listed", ["", "/files", "/problems"])
def test_bad_pages_are_422_and_harm_nobody(
    engine: Engine, storage: Storage, query: dict[str, str], listed: str
) -> None:
    path = f"/v1/packages/{_ready(engine, storage)}"
    printable_name = listed == "/files" and query == {"cursor": _cursor(["-1"])}
    long_name = listed == "/files" and query == {"cursor": _cursor(["9" * 5000])}
    status, answer, _ = _get(f"{path}{listed}" if listed else "/v1/packages", **query)
    if printable_name or long_name:
        assert status == 200  # a name that no file has is a place in the list all the same
    else:
        assert (status, answer["code"]) == (422, "invalid_fields")
    assert _get(path)[0] == 200


def test_an_archive_that_has_not_come_yet_is_a_conflict() -> None:
    package_id = _create(filename="a.zip", size_bytes=5)[1]["package_id"]
    status, answer, _ = _get(f"/v1/packages/{package_id}/archive")
    assert (status, answer["code"]) == (409, "not_uploaded")


def test_health_names_the_part_that_is_down() -> None:
    assert _get("/v1/health")[:2] == (
        200,
        {"status": "ok", "database": "ok", "storage": "ok", "version": "0.1.0"},
    )
    boto3.client("s3").delete_bucket(Bucket="packages")
    status, answer, _ = _get("/v1/health")
    assert (status, answer["status"], answer["database"], answer["storage"]) == (503, "down", "ok", "down")


def test_a_database_that_is_down_is_503_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    settings.get_settings.cache_clear()
    status, answer, headers = _get(f"/v1/packages/{uuid4()}")
    assert (status, answer["code"], answer["detail"]) == (503, "unavailable", None)
    assert headers["Retry-After"] == "5"
    assert _get("/v1/health")[1]["database"] == "down"


def test_a_mistake_of_ours_shows_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret internals")

    monkeypatch.setattr(queries, "get_package", broken)
    status, answer, _ = _get(f"/v1/packages/{uuid4()}")
    assert (status, answer["code"], answer["detail"]) == (500, "internal_error", None)
    assert "secret" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://a.example", True), ("https://b.example", True), ("https://evil.example", False)],
)
def test_only_our_origins_may_call(origin: str, allowed: bool) -> None:
    _, _, headers = _call(status_app, "GET", "/v1/packages", headers={"Origin": origin})
    assert (headers.get("Access-Control-Allow-Origin") == origin) is allowed
    status, _, headers = _call(status_app, "OPTIONS", "/v1/packages", headers={"Origin": origin})
    assert status == 204
    assert (headers.get("Access-Control-Allow-Origin") == origin) is allowed
