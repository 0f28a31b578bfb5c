"""Whole packages as one ZIP: ordered and fetched through the routes, built as the function does it."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
import urllib3
from botocore.exceptions import EndpointConnectionError
from sqlalchemy import Engine, RowMapping, func, select, update

from functions.status import app as status_app
from functions.upload import app as upload_app
from localcloud import samples
from tests.integration.gateway import call
from veripost import db, ingestion, keys, settings
from veripost.archive import BytesSource, Limits, inspect
from veripost.bundles import building, ordering
from veripost.bundles.building import Outcome
from veripost.errors import Unavailable
from veripost.ingest_queue import LandedObject
from veripost.models import bundles, post_packages
from veripost.schemas import CreateKey
from veripost.storage import BundleUpload, Storage, bundle_key, get_storage
from veripost.upkeep import deletion

_key = ""  # of the module's own database; whoever may read may have a bundle built
FILES = {
    "Zeta.SRC": b":SECTION=A\r\n" * 200,
    "alpha.LIB": b"*lib\r\n",
    "Fr\u00e4se.CTL": b"",
    "noise.KIN": random.Random(1).randbytes(20 << 20),
}


@pytest.fixture(autouse=True, scope="module")
def _reader(engine: Engine) -> None:
    global _key  # noqa: PLW0603
    _key = keys.mint(engine, CreateKey.model_validate({"client_name": "tests", "scopes": ["read"]})).key


class _Lambda:
    """Stands in for the Lambda service: remembers what was to be started."""

    def __init__(self) -> None:
        self.started: list[UUID] = []
        self.is_down = False

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> None:  # noqa: N803
        assert (FunctionName, InvocationType) == ("the-builder", "Event")
        if self.is_down:
            raise EndpointConnectionError(endpoint_url="lambda")
        self.started.append(UUID(json.loads(Payload)["package_id"]))


@pytest.fixture(autouse=True)
def functions(
    engine: Engine, storage: Storage, s3_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[_Lambda]:
    """The environment that the template gives the functions."""
    for name, value in {
        "DATABASE_URL": database_url,
        "DATABASE_TLS": "disable",
        "INCOMING_BUCKET": "incoming",
        "PACKAGE_BUCKET": "packages",
        "S3_ENDPOINT_URL": s3_url,
        "BUNDLE_FUNCTION": "the-builder",
    }.items():
        monkeypatch.setenv(name, value)
    settings.get_settings.cache_clear()
    get_storage.cache_clear()
    stand_in = _Lambda()
    monkeypatch.setattr(ordering, "_client", lambda: stand_in)
    own = db.get_engine(settings.get_settings())
    yield stand_in
    own.dispose()
    settings.get_settings.cache_clear()
    get_storage.cache_clear()


def _call(app: Any, method: str, package_id: object) -> tuple[int, dict[str, Any], dict[str, Any]]:
    return call(app, method, f"/v1/packages/{package_id}/bundle", key=_key)


def _order(package_id: object) -> tuple[int, Any]:
    status, body, _ = _call(upload_app, "POST", package_id)
    return status, body.get("status", body.get("code"))


def _fetch(package_id: object) -> tuple[int, Any]:
    status, body, headers = _call(status_app, "GET", package_id)
    if status == 302:
        return status, urllib3.request("GET", headers["Location"]).data
    assert (headers.get("Retry-After") == "2") is (status == 202)
    return status, body.get("status", body.get("code"))


def _build(engine: Engine, storage: Storage, package_id: UUID, seconds: float = 900.0) -> Outcome:
    return building.build(engine, storage, package_id, seconds_left=lambda: seconds)


def _ready(engine: Engine, storage: Storage, files: dict[str, bytes]) -> UUID:
    data = samples.zip_of({f"posts/{name}": content for name, content in files.items()})
    key = f"drops/camworks/{uuid4()}.zip"
    version = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=data)["VersionId"]
    ingestion.ingest(
        LandedObject("incoming", key, version, len(data)),
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


def _small(engine: Engine, storage: Storage) -> UUID:
    return _ready(engine, storage, {"A.SRC": uuid4().bytes, "B.LIB": b"*lib\r\n"})


def _row(engine: Engine, package_id: UUID) -> RowMapping | None:
    with engine.connect() as connection:
        statement = select(bundles).where(bundles.c.package_id == package_id)
        return connection.execute(statement).mappings().first()


def _left(package_id: UUID) -> list[Any]:
    """Every version of a package's bundle, and every upload of it that was not completed."""
    s3 = boto3.client("s3")
    key = bundle_key(package_id)
    versions = s3.list_object_versions(Bucket="packages", Prefix=key).get("Versions", [])
    uploads = s3.list_multipart_uploads(Bucket="packages").get("Uploads", [])
    return [*versions, *(upload for upload in uploads if upload["Key"] == key)]


def _set(engine: Engine, package_id: UUID, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(post_packages).where(post_packages.c.id == package_id).values(values))


def test_a_bundle_holds_exactly_the_files(engine: Engine, storage: Storage, functions: _Lambda) -> None:
    package_id = _ready(engine, storage, FILES)
    assert _fetch(package_id) == (404, "bundle_not_found")
    assert _order(package_id) == (202, "building")
    assert functions.started == [package_id]
    assert _fetch(package_id) == (202, "building")
    assert _build(engine, storage, package_id) is Outcome.BUILT
    status, data = _fetch(package_id)
    assert status == 302
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == sorted(FILES)
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    report = inspect(BytesSource(data), Limits())
    assert (report.accepted, report.problems) == (True, ())
    row = _row(engine, package_id)
    assert row is not None
    assert (row["status"], row["size_bytes"]) == ("built", len(data))


def test_the_same_files_make_the_same_bytes(engine: Engine, storage: Storage) -> None:
    package_id = _small(engine, storage)
    made = []
    for _ in range(2):
        _order(package_id)
        _build(engine, storage, package_id)
        made.append(_fetch(package_id)[1])
        storage.delete_bundle(package_id)
    assert made[0] == made[1]


def test_what_is_under_way_or_built_is_not_built_again(
    engine: Engine, storage: Storage, functions: _Lambda
) -> None:
    package_id = _small(engine, storage)
    assert [_order(package_id) for _ in range(3)] == [(202, "building")] * 3
    assert _build(engine, storage, package_id) is Outcome.BUILT
    assert _order(package_id) == (202, "built")
    assert _build(engine, storage, package_id) is Outcome.IGNORED  # Lambda may deliver an event twice
    assert functions.started == [package_id]
    assert len(_left(package_id)) == 1


def test_a_bundle_that_is_no_longer_kept_is_built_again(
    engine: Engine, storage: Storage, functions: _Lambda
) -> None:
    package_id = _small(engine, storage)
    _order(package_id)
    _build(engine, storage, package_id)
    storage.delete_bundle(package_id)  # as the bucket's lifecycle does
    assert _fetch(package_id) == (404, "bundle_not_found")
    assert _order(package_id) == (202, "building")
    assert len(functions.started) == 2
    assert _build(engine, storage, package_id) is Outcome.BUILT
    assert _fetch(package_id)[0] == 302


def test_a_package_that_was_replayed_gets_a_new_bundle(engine: Engine, storage: Storage) -> None:
    package_id = _small(engine, storage)
    _order(package_id)
    _build(engine, storage, package_id)
    _set(engine, package_id, status="parsing")
    assert (_order(package_id), _fetch(package_id)) == ((409, "not_ready"), (409, "not_ready"))
    _set(engine, package_id, status="ready", ready_at=func.clock_timestamp())
    assert _fetch(package_id) == (404, "bundle_not_found")
    assert _order(package_id) == (202, "building")
    assert _build(engine, storage, package_id) is Outcome.BUILT
    assert _fetch(package_id)[0] == 302


def test_an_order_of_what_the_package_was_is_ignored(engine: Engine, storage: Storage) -> None:
    package_id = _small(engine, storage)
    _order(package_id)
    _set(engine, package_id, ready_at=func.clock_timestamp())
    assert _build(engine, storage, package_id) is Outcome.IGNORED
    assert _order(package_id) == (202, "building")
    assert _build(engine, storage, package_id) is Outcome.BUILT


@pytest.mark.parametrize(
    ("content", "words"), [(b"*LIB\r\n", "SHA-256"), (b"*lib\r\n\0", "7 bytes"), (None, "B.LIB")]
)
def test_bytes_that_are_not_those_recorded_are_never_bundled(
    engine: Engine, storage: Storage, content: bytes | None, words: str
) -> None:
    package_id = _small(engine, storage)
    key, s3 = f"packages/{package_id}/B.LIB", boto3.client("s3")
    if content is None:
        s3.delete_object(Bucket="packages", Key=key)
    else:
        s3.put_object(Bucket="packages", Key=key, Body=content)
    _order(package_id)
    assert _build(engine, storage, package_id) is Outcome.FAILED
    assert _left(package_id) == []
    row = _row(engine, package_id)
    assert row is not None
    assert words in row["error_detail"]
    assert _fetch(package_id) == (409, "bundle_failed")

    s3.put_object(Bucket="packages", Key=key, Body=b"*lib\r\n")
    assert _order(package_id) == (202, "building")
    assert _build(engine, storage, package_id) is Outcome.BUILT


def test_a_builder_whose_time_is_over_says_so(engine: Engine, storage: Storage) -> None:
    package_id = _small(engine, storage)
    _order(package_id)
    assert _build(engine, storage, package_id, seconds=5.0) is Outcome.FAILED
    assert _left(package_id) == []
    assert "too large" in _call(status_app, "GET", package_id)[1]["detail"]


def test_a_store_that_is_down_is_tried_again(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_id = _small(engine, storage)
    _order(package_id)

    def down(*_: object) -> None:
        raise Unavailable(detail="no answer")

    with monkeypatch.context() as broken:
        broken.setattr(BundleUpload, "_send", down)
        with pytest.raises(Unavailable):
            _build(engine, storage, package_id)
    assert _left(package_id) == []
    assert _fetch(package_id) == (202, "building")
    assert _build(engine, storage, package_id) is Outcome.BUILT


def test_a_builder_that_ended_without_a_word_does_not_block_the_next(
    engine: Engine, storage: Storage, functions: _Lambda
) -> None:
    package_id = _small(engine, storage)
    _order(package_id)
    with engine.begin() as connection:
        connection.execute(
            update(bundles).where(bundles.c.package_id == package_id).values(lease_until=func.now())
        )
    assert _fetch(package_id) == (409, "bundle_failed")
    assert _order(package_id) == (202, "building")
    assert len(functions.started) == 2


def test_a_function_that_cannot_be_started_is_503(
    engine: Engine, storage: Storage, functions: _Lambda
) -> None:
    package_id = _small(engine, storage)
    functions.is_down = True
    assert _order(package_id) == (503, "unavailable")
    functions.is_down = False
    assert _order(package_id) == (202, "building")


def test_who_was_superseded_leaves_nothing(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another builder, or a deletion, comes between the last byte and the record."""
    complete = BundleUpload.complete
    for interfere in (
        lambda package_id: _raise_attempt(engine, package_id),
        lambda package_id: deletion.delete_package(
            engine, storage, package_id, longest_run=ingestion.config_of(settings.get_settings()).longest_run
        ),
    ):
        package_id = _small(engine, storage)
        _order(package_id)

        def completed(
            upload: BundleUpload, interfere: Any = interfere, package_id: UUID = package_id
        ) -> tuple[str, int]:
            interfere(package_id)
            return complete(upload)

        monkeypatch.setattr(BundleUpload, "complete", completed)
        assert _build(engine, storage, package_id) is Outcome.SUPERSEDED
        assert _left(package_id) == []


def _raise_attempt(engine: Engine, package_id: UUID) -> None:
    with engine.begin() as connection:
        connection.execute(
            update(bundles).where(bundles.c.package_id == package_id).values(attempt=bundles.c.attempt + 1)
        )


def test_a_deletion_takes_the_bundle_along(engine: Engine, storage: Storage) -> None:
    package_id = _small(engine, storage)
    _order(package_id)
    _build(engine, storage, package_id)
    assert len(_left(package_id)) == 1
    longest_run = ingestion.config_of(settings.get_settings()).longest_run
    assert deletion.delete_package(engine, storage, package_id, longest_run=longest_run)
    assert (_left(package_id), _row(engine, package_id)) == ([], None)
    assert (_order(package_id), _fetch(package_id)) == ((404, "package_not_found"),) * 2


@pytest.mark.parametrize("package_id", [uuid4(), "nonsense"])
def test_unknown_packages_are_404(package_id: object) -> None:
    assert _order(package_id) == (404, "package_not_found")
    assert _fetch(package_id) == (404, "package_not_found")
