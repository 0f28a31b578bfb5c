"""The doctor on real Postgres and an S3 that speaks HTTP: every finding, every repair, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from sqlalchemy import Engine, event, func, select, text, update

from veripost import db, ingest_queue, ingestion, queries, settings
from veripost.errors import NotFound, Unavailable
from veripost.ingest_queue import LandedObject
from veripost.ingestion import Outcome
from veripost.models import Trigger, doctor_runs, ingest_runs, outbox, post_files, post_packages
from veripost.schemas import DoctorView
from veripost.settings import Settings
from veripost.storage import Storage, _base64_of, bundle_key
from veripost.upkeep import deletion, doctor
from veripost.upkeep.doctor import DoctorConfig, Finding, Kind, Report, files, runs

SOME_TIME_AGO = timedelta(seconds=-60)  # "older than this" holds for what was made just now
CONFIG = DoctorConfig(stale=SOME_TIME_AGO, longest_run=SOME_TIME_AGO)
GOOD = {"MILL.SRC": b":SECTION=A\r\n:T:<N>\r\n", "MILL.LIB": b"*lib\r\n", "mill.CTL": bytes(64)}
BIG = os.urandom(9 << 20)


@pytest.fixture(autouse=True)
def _empty_database(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE post_packages, doctor_runs, outbox CASCADE"))


@pytest.fixture
def queue(storage: Storage) -> Iterator[str]:
    """A queue of its own; the client that `ingest_queue` keeps was made for the same server."""
    url: str = boto3.client("sqs").create_queue(QueueName=f"ingest-{uuid4().hex}")["QueueUrl"]
    ingest_queue._client.cache_clear()
    yield url
    ingest_queue._client.cache_clear()


class _Store(Storage):
    """moto keeps a checksum only where boto3's own header names its algorithm; obstore does not send it."""

    def put_file(self, key: str, data: bytes | bytearray, sha256: str) -> None:
        self._s3.put_object(
            Bucket=self.packages,
            Key=key,
            Body=bytes(data),
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=_base64_of(sha256),
        )


class Clinic:
    """A deployment in small: packages come in, somebody breaks something, the doctor looks."""

    def __init__(self, engine: Engine, queue_url: str) -> None:
        self.engine = engine
        self.s3 = boto3.client("s3")
        self.settings: Settings = settings.load(
            {
                "INCOMING_BUCKET": "incoming",
                "PACKAGE_BUCKET": "packages",
                "INGEST_QUEUE_URL": queue_url,
                "S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
            }
        )
        self.storage: Storage = _Store(self.settings)

    def package(self, contents: dict[str, bytes] | None = None, key: str | None = None) -> UUID:
        """Drop a package, ingest it, and return its id."""
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (GOOD if contents is None else contents).items():
                archive.writestr(name, content)
        return self.landed(key or f"drops/camworks/{uuid4()}/post.zip", data.getvalue())

    def landed(self, key: str, data: bytes) -> UUID:
        version = self.s3.put_object(Bucket="incoming", Key=key, Body=data)["VersionId"]
        self.ingest(LandedObject("incoming", key, version, len(data)))
        with self.engine.connect() as connection:
            package_id: UUID = connection.execute(
                select(post_packages.c.id).where(post_packages.c.source_version == version)
            ).scalar_one()
        return package_id

    def ingest(self, landed: LandedObject) -> Outcome:
        return ingestion.ingest(
            landed,
            engine=self.engine,
            storage=self.storage,
            config=ingestion.config_of(self.settings),
            request_id="r-1",
            seconds_left=lambda: 300.0,
        )

    def examine(
        self,
        *,
        fix: bool = False,
        deep: bool = False,
        config: DoctorConfig = CONFIG,
        seconds_left: Callable[[], float] = lambda: 300.0,
    ) -> DoctorView:
        """Ask for an examination and have it made, in as many invocations as it takes."""
        examination = doctor.order(self.engine, fix=fix, deep=deep)
        for _ in range(1000):
            self.attend(seconds_left=seconds_left, config=config)
            seen = doctor.view(self.engine, examination)
            if seen.status == "done":
                return seen
        raise AssertionError("it never ends")

    def attend(
        self, seconds_left: Callable[[], float] = lambda: 300.0, config: DoctorConfig = CONFIG
    ) -> UUID | None:
        """Invoke the doctor once."""
        return doctor.attend(
            self.engine, self.storage, self.settings, seconds_left=seconds_left, config=config
        )

    def row(self, package_id: UUID) -> Any:
        with self.engine.connect() as connection:
            return queries.get_package(connection, package_id)

    def change(self, package_id: UUID, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(post_packages).where(post_packages.c.id == package_id).values(**values))

    def change_run(self, package_id: UUID, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                update(ingest_runs).where(ingest_runs.c.package_id == package_id).values(**values)
            )

    def stored(self, prefix: str = "") -> list[str]:
        """The keys of every version that there is in the packages bucket."""
        found = self.s3.list_object_versions(Bucket="packages", Prefix=prefix)
        return sorted(e["Key"] for e in [*found.get("Versions", []), *found.get("DeleteMarkers", [])])

    def work_off_the_queue(self) -> int:
        """Ingest what the queue announces; return how many objects that were."""
        sqs, done = boto3.client("sqs"), 0
        while messages := sqs.receive_message(
            QueueUrl=self.settings.ingest_queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0
        ).get("Messages"):
            for message in messages:
                for landed in ingest_queue.landed_objects(message["Body"]):
                    self.ingest(landed)
                    done += 1
                sqs.delete_message(
                    QueueUrl=self.settings.ingest_queue_url, ReceiptHandle=message["ReceiptHandle"]
                )
        return done


@pytest.fixture
def clinic(engine: Engine, storage: Storage, queue: str) -> Clinic:
    return Clinic(engine, queue)


@pytest.fixture
def outside(clinic: Clinic, database_url: str) -> Iterator[Clinic]:
    """Somebody else, with a connection of their own."""
    theirs = db.get_engine(Settings(database_url=database_url, database_tls="disable", environment="outside"))
    yield Clinic(theirs, clinic.settings.ingest_queue_url)
    theirs.dispose()


def _kinds(seen: DoctorView) -> dict[str, int]:
    return {kind: count for kind, count in seen.counts.items() if count}


def _only(seen: DoctorView, kind: Kind) -> Any:
    """The one finding that there is."""
    assert _kinds(seen) == {kind: 1}, seen.findings
    return seen.findings[0]


# -- nothing to find


def test_a_healthy_system_has_no_findings(clinic: Clinic) -> None:
    clinic.package()
    clinic.package({**GOOD, "BIG.KIN": BIG})
    clinic.package({"MILL.LIB": b"no source"})
    clinic.package({"a.SRC": b"1", "É.LIB": b"2", "z z.CTL": b"3", "Z+%.ATR": b"4"})
    clinic.landed("drops/camworks/no.zip", b"this is no ZIP")
    clinic.s3.put_object(Bucket="incoming", Key="drops/camworks/folder/", Body=b"")
    clinic.s3.put_object(Bucket="incoming", Key="elsewhere/note.txt", Body=b"not ours to look at")
    clinic.s3.delete_object(Bucket="incoming", Key="drops/camworks/gone.zip")  # a lone delete marker
    _announced(clinic)
    for deep in (False, True):
        seen = clinic.examine(deep=deep)
        assert _kinds(seen) == {}
        assert seen.findings == []
        assert (seen.looked_at.objects, seen.looked_at.rows) == (11, 11)
        assert (seen.looked_at.packages, seen.left_alone) == (6, 1)
        # The big file came in parts; of the originals S3 keeps no SHA-256 where nobody sent one.
        assert (seen.not_compared.files, seen.not_compared.originals) == ((0, 0) if deep else (1, 4))
        assert (seen.error, seen.truncated, seen.step) == (None, False, None)
        assert seen.finished_at is not None


def _announced(clinic: Clinic) -> UUID:
    """A package whose bytes have not come yet."""
    package_id = uuid4()
    with clinic.engine.begin() as connection:
        queries.add_package(
            connection,
            package_id=package_id,
            name="announced",
            platform="camworks",
            source=queries.Source("incoming", f"uploads/{package_id}/archive.zip", None),
            trigger=Trigger.PRESIGNED,
            size_bytes=5,
        )
    return package_id


def test_an_empty_system_has_no_findings(clinic: Clinic) -> None:
    assert _kinds(clinic.examine()) == {}


def test_a_deleted_package_leaves_nothing_to_find(clinic: Clinic) -> None:
    package_id = clinic.package()
    assert deletion.delete_package(clinic.engine, clinic.storage, package_id, longest_run=timedelta(0))
    seen = clinic.examine()
    assert _kinds(seen) == {}
    assert seen.looked_at.objects == 0


# -- files


def _break_row_without_object(clinic: Clinic, key: str) -> None:
    for version in clinic.storage.versions_of("packages", key):
        clinic.s3.delete_object(Bucket="packages", Key=key, VersionId=version.version)


def _break_hidden(clinic: Clinic, key: str) -> None:
    clinic.s3.delete_object(Bucket="packages", Key=key)  # a delete marker lies above the file


def _break_size(clinic: Clinic, key: str) -> None:
    clinic.s3.put_object(Bucket="packages", Key=key, Body=b"longer than before" * 10)


def _break_checksum(clinic: Clinic, key: str) -> None:
    clinic.s3.put_object(Bucket="packages", Key=key, Body=b"*LIB\r\n", ChecksumAlgorithm="SHA256")


def _break_unsigned(clinic: Clinic, key: str) -> None:
    clinic.s3.put_object(Bucket="packages", Key=key, Body=b"*LIB\r\n")  # as any tool would write it


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_break_row_without_object, Kind.ROW_WITHOUT_OBJECT),
        (_break_hidden, Kind.ROW_WITHOUT_OBJECT),
        (_break_size, Kind.SIZE_MISMATCH),
        (_break_checksum, Kind.CHECKSUM_MISMATCH),
        (_break_unsigned, Kind.CHECKSUM_MISMATCH),
    ],
)
def test_a_damaged_file_is_found_and_stored_anew_from_the_original(
    clinic: Clinic, damage: Callable[[Clinic, str], None], kind: Kind, *, deep: bool
) -> None:
    package_id = clinic.package()
    clinic.package()
    key = f"packages/{package_id}/MILL.LIB"
    damage(clinic, key)

    found = _only(clinic.examine(deep=deep), kind)
    assert (found.bucket, found.key, found.package_id) == ("packages", key, package_id)
    assert (found.fix, found.fixed) == ("replay", False)
    assert clinic.row(package_id)["status"] == "ready"

    seen = clinic.examine(fix=True, deep=deep)
    assert (_only(seen, kind).fixed, seen.fixed) == (True, 1)
    assert clinic.row(package_id)["status"] == "pending"
    assert clinic.work_off_the_queue() == 1
    assert clinic.row(package_id)["status"] == "ready"
    assert clinic.s3.get_object(Bucket="packages", Key=key)["Body"].read() == b"*lib\r\n"
    assert _kinds(clinic.examine(deep=deep)) == {}


def test_one_replay_mends_all_files_of_a_package(clinic: Clinic) -> None:
    package_id = clinic.package()
    for key in clinic.stored(f"packages/{package_id}/"):
        _break_row_without_object(clinic, key)
    seen = clinic.examine(fix=True)
    assert _kinds(seen) == {"row_without_object": 3}
    assert seen.fixed == 3
    assert clinic.work_off_the_queue() == 1
    assert _kinds(clinic.examine()) == {}


def test_without_the_original_a_damaged_file_is_only_reported(clinic: Clinic) -> None:
    package_id = clinic.package()
    _break_size(clinic, f"packages/{package_id}/MILL.LIB")
    source = clinic.row(package_id)
    clinic.storage.delete_original(source["source_key"], source["source_version"])
    seen = clinic.examine(fix=True)
    assert _kinds(seen) == {"size_mismatch": 1, "row_without_original": 1}
    assert {finding.fix for finding in seen.findings} == {None}
    assert seen.fixed == 0
    assert clinic.row(package_id)["status"] == "ready"


def test_a_package_that_ended_as_error_is_not_started_anew(clinic: Clinic) -> None:
    """It keeps the files of an earlier run; whether another makes it better is for a person to say."""
    package_id = clinic.package()
    failed = {"status": "error", "error_code": "ingest_failed", "error_message": "It failed."}
    clinic.change(package_id, **failed)
    _break_size(clinic, f"packages/{package_id}/MILL.LIB")
    found = _only(clinic.examine(fix=True), Kind.SIZE_MISMATCH)
    assert (found.fix, found.fixed) == (None, False)
    assert clinic.row(package_id)["status"] == "error"


def test_a_big_file_is_compared_by_its_size_unless_deep(clinic: Clinic) -> None:
    package_id = clinic.package({**GOOD, "BIG.KIN": BIG})
    key = f"packages/{package_id}/BIG.KIN"
    stored = clinic.storage.describe_object("packages", key)
    assert stored is not None
    assert (stored.size, stored.sha256, stored.in_parts) == (len(BIG), None, True)

    _in_parts(clinic, key, BIG[:-1] + bytes([BIG[-1] ^ 1]))
    seen = clinic.examine()
    assert _kinds(seen) == {}
    assert seen.not_compared.files == 1
    found = _only(clinic.examine(deep=True), Kind.CHECKSUM_MISMATCH)
    assert hashlib.sha256(BIG).hexdigest() in found.detail

    _in_parts(clinic, key, BIG + b"!")
    assert _only(clinic.examine(), Kind.SIZE_MISMATCH).key == key


def _in_parts(clinic: Clinic, key: str, data: bytes) -> None:
    where: Any = {"Bucket": "packages", "Key": key}
    upload = clinic.s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    parts: list[Any] = []
    for number, start in enumerate(range(0, len(data), 5 << 20), start=1):
        body = data[start : start + (5 << 20)]
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        sent = clinic.s3.upload_part(
            **where, UploadId=upload, PartNumber=number, Body=body, ChecksumSHA256=checksum
        )
        parts.append({"ETag": sent["ETag"], "PartNumber": number, "ChecksumSHA256": checksum})
    clinic.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})


def test_objects_that_no_file_has_are_deleted_version_by_version(clinic: Clinic) -> None:
    ready, refused, gone = clinic.package(), clinic.package({"MILL.LIB": b"x"}), uuid4()
    before = clinic.stored()
    strays = [f"packages/{ready}/STRAY.SRC", f"packages/{refused}/a/b.LIB", f"packages/{gone}/MILL.SRC"]
    strays.append(f"packages/{ready}/MILL")  # the beginning of other keys, which are to stay
    for key in strays:
        clinic.s3.put_object(Bucket="packages", Key=key, Body=b"1")
        clinic.s3.put_object(Bucket="packages", Key=key, Body=b"22")
    seen = clinic.examine()
    assert _kinds(seen) == {"object_without_row": 4}
    assert {finding.key for finding in seen.findings} == set(strays)
    assert all(finding.fix == "delete" and not finding.fixed for finding in seen.findings)
    assert all("2 versions with 3 bytes" in finding.detail for finding in seen.findings)
    assert len(clinic.stored()) == len(before) + 8

    seen = clinic.examine(fix=True)
    assert (seen.found, seen.fixed) == (4, 4)
    assert clinic.stored() == before
    assert _kinds(clinic.examine()) == {}


@pytest.mark.parametrize(
    "key", ["packages/readme.txt", "packages/", "packages/{upper}/MILL.SRC", "packages/zz/MILL.SRC"]
)
def test_what_no_package_could_own_is_only_reported(clinic: Clinic, key: str) -> None:
    clinic.package()
    key = key.format(upper=str(uuid4()).upper().replace("0", "A"))
    clinic.s3.put_object(Bucket="packages", Key=key, Body=b"1")
    found = _only(clinic.examine(fix=True), Kind.OBJECT_WITHOUT_ROW)
    assert (found.key, found.package_id, found.fix, found.fixed) == (key, None, None, False)
    assert key in clinic.stored()


def test_a_young_object_is_reported_and_left(clinic: Clinic) -> None:
    clinic.s3.put_object(Bucket="packages", Key=f"packages/{uuid4()}/MILL.SRC", Body=b"1")
    found = _only(
        clinic.examine(fix=True, config=replace(CONFIG, longest_run=timedelta(minutes=5))),
        Kind.OBJECT_WITHOUT_ROW,
    )
    assert (found.fix, found.fixed) == (None, False)
    assert len(clinic.stored()) == 1


def test_objects_of_too_many_gone_packages_look_like_a_restored_database(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_GONE_PACKAGES", 3)
    for _ in range(5):
        package_id = uuid4()
        for name in ("a.SRC", "b.SRC"):
            clinic.s3.put_object(Bucket="packages", Key=f"packages/{package_id}/{name}", Body=b"1")
    seen = clinic.examine(fix=True, config=replace(CONFIG, page=2))
    assert (seen.found, seen.fixed) == (10, 6)
    assert len(clinic.stored()) == 4
    assert "restored from a backup" in seen.findings[-1].detail


# -- packages in work


@pytest.mark.parametrize("work", ["replayed", "deleting", "late worker", "job"])
def test_a_package_in_work_is_left_alone(clinic: Clinic, work: str) -> None:
    package_id = clinic.package()
    _break_size(clinic, f"packages/{package_id}/MILL.LIB")
    clinic.s3.put_object(Bucket="packages", Key=f"packages/{package_id}/NEW.SRC", Body=b"1")
    if work == "replayed":
        with clinic.engine.begin() as connection:
            queries.start_replay(connection, package_id)
    elif work == "deleting":
        clinic.change(package_id, status="deleting")
    elif work == "late worker":
        clinic.change(package_id, clean_up_after=func.now() + timedelta(minutes=5))
    else:
        clinic.change_run(package_id, status="interrupted")
    seen = clinic.examine(fix=True)
    assert _kinds(seen) == {}
    assert seen.left_alone == 1
    clinic.change(package_id, status="ready", clean_up_after=None)
    clinic.change_run(package_id, status="succeeded")
    assert _kinds(clinic.examine()) == {"size_mismatch": 1, "object_without_row": 1}


class _Meanwhile(_Store):
    """A store in which something happens right before the first object is looked at."""

    def __init__(self, made_of: Settings, happens: Callable[[], Any]) -> None:
        super().__init__(made_of)
        self._happens: Callable[[], Any] | None = happens

    def page_of_objects(self, *args: Any, **kwargs: Any) -> Any:
        page = super().page_of_objects(*args, **kwargs)
        if args[0] == "packages/" and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()
        return page


def _meanwhile(clinic: Clinic, happens: Callable[[], Any]) -> None:
    clinic.storage = _Meanwhile(clinic.settings, happens)


def test_what_changes_between_listing_and_looking_is_no_finding(clinic: Clinic) -> None:
    package_id = clinic.package()
    plain = clinic.storage
    _meanwhile(
        clinic,
        lambda: deletion.delete_package(clinic.engine, plain, package_id, longest_run=timedelta(0)),
    )
    assert _kinds(clinic.examine(fix=True)) == {}

    other = Clinic(clinic.engine, clinic.settings.ingest_queue_url)
    _meanwhile(clinic, other.package)
    assert _kinds(clinic.examine(fix=True)) == {}


@pytest.mark.parametrize("ended", [False, True])
def test_a_file_whose_package_a_replay_took_up_meanwhile_is_no_finding(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    """The row was read, a replay began (and ended), the object was looked at: they are of different runs."""
    package_id = clinic.package()
    before = Storage.describe_object
    looks: list[str] = []

    def between(storage: Storage, bucket: str, key: str, version: str | None = None) -> Any:
        if not looks:
            looks.append(key)
            with clinic.engine.begin() as connection:
                if ended:
                    connection.execute(text("TRUNCATE post_sections, post_attributes"))
                    connection.execute(text("UPDATE post_files SET id = gen_random_uuid()"))
                else:
                    queries.start_replay(connection, package_id)
        return before(storage, bucket, key, version)

    _break_size(clinic, f"packages/{package_id}/MILL.LIB")
    monkeypatch.setattr(Storage, "describe_object", between)
    assert _kinds(clinic.examine()) == {}
    assert looks


def test_an_object_that_got_its_row_meanwhile_is_not_deleted(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_id = clinic.package()
    with clinic.engine.begin() as connection:
        row = (
            connection.execute(
                post_files.delete()
                .where(post_files.c.s3_key == f"packages/{package_id}/MILL.LIB")
                .returning(post_files)
            )
            .mappings()
            .one()
        )
    before = Storage.versions_of

    def recorded_first(storage: Storage, bucket: str, key: str) -> Any:
        found = before(storage, bucket, key)
        with clinic.engine.begin() as connection:
            connection.execute(post_files.insert().values(**row))
        return found

    monkeypatch.setattr(Storage, "versions_of", recorded_first)
    assert _kinds(clinic.examine(fix=True)) == {}
    assert len(clinic.stored()) == 3


# -- originals


def test_an_original_without_a_package_is_announced_again(clinic: Clinic) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("MILL.SRC", b"1")
    key = "drops/camworks/lost ümlaut+.zip"
    clinic.s3.put_object(Bucket="incoming", Key=key, Body=data.getvalue())
    assert _kinds(clinic.examine(config=replace(CONFIG, stale=timedelta(minutes=10)))) == {}
    found = _only(clinic.examine(), Kind.ORIGINAL_WITHOUT_ROW)
    assert (found.bucket, found.key, found.package_id, found.fix) == ("incoming", key, None, "announce")
    assert _only(clinic.examine(fix=True), Kind.ORIGINAL_WITHOUT_ROW).fixed
    assert clinic.work_off_the_queue() == 1
    assert _kinds(clinic.examine()) == {}


def test_an_upload_whose_event_was_lost_is_announced_again(clinic: Clinic) -> None:
    package_id = _announced(clinic)
    clinic.s3.put_object(Bucket="incoming", Key=f"uploads/{package_id}/archive.zip", Body=b"no ZIP")
    found = _only(clinic.examine(fix=True), Kind.ORIGINAL_WITHOUT_ROW)
    assert (found.package_id, found.fix, found.fixed) == (package_id, "announce", True)
    assert clinic.work_off_the_queue() == 1
    assert clinic.row(package_id)["status"] == "error"
    assert _kinds(clinic.examine()) == {}


@pytest.mark.parametrize("whose", ["nobody's", "bound", "deleting", "misnamed"])
def test_an_upload_that_nobody_waits_for_is_only_reported(clinic: Clinic, whose: str) -> None:
    """Ingestion would discard it, and after a restored backup it would be the last copy."""
    package_id = uuid4() if whose == "nobody's" else _announced(clinic)
    key = f"uploads/{package_id}/{'other' if whose == 'misnamed' else 'archive'}.zip"
    if whose == "bound":
        clinic.landed(key, b"no ZIP")
    if whose == "deleting":
        clinic.change(package_id, status="deleting")
    clinic.s3.put_object(Bucket="incoming", Key=key, Body=b"1")
    found = _only(clinic.examine(fix=True), Kind.ORIGINAL_WITHOUT_ROW)
    assert (found.fix, found.fixed) == (None, False)
    assert clinic.work_off_the_queue() == 0


def test_a_package_without_its_original_is_reported(clinic: Clinic) -> None:
    package_id, refused = clinic.package(), clinic.package({"MILL.LIB": b"x"})
    clinic.package()
    for each in (package_id, refused):
        row = clinic.row(each)
        clinic.s3.put_object(Bucket="incoming", Key=row["source_key"], Body=b"a later version")
        clinic.storage.delete_original(row["source_key"], row["source_version"])
    seen = clinic.examine(fix=True)
    assert _kinds(seen) == {"row_without_original": 2, "original_without_row": 2}
    gone = [finding for finding in seen.findings if finding.kind == "row_without_original"]
    assert {finding.package_id for finding in gone} == {package_id, refused}
    assert {finding.fix for finding in gone} == {None}


def test_an_original_that_is_not_what_was_recorded_is_reported(clinic: Clinic) -> None:
    package_id = clinic.package()
    clinic.change(package_id, size_bytes=1)
    assert _only(clinic.examine(), Kind.SIZE_MISMATCH).bucket == "incoming"
    clinic.change(package_id, size_bytes=clinic.storage.original_size(*_source(clinic, package_id)))
    clinic.change(package_id, content_hash="0" * 64)
    assert _kinds(clinic.examine()) == {}  # nobody sent a SHA-256 along
    found = _only(clinic.examine(fix=True, deep=True), Kind.CHECKSUM_MISMATCH)
    assert (found.bucket, found.package_id, found.fix) == ("incoming", package_id, None)


def _source(clinic: Clinic, package_id: UUID) -> tuple[str, str, str]:
    row = clinic.row(package_id)
    return row["source_bucket"], row["source_key"], row["source_version"]


def test_an_original_in_another_bucket_is_counted_as_not_compared(clinic: Clinic) -> None:
    package_id = clinic.package()
    clinic.change(package_id, source_bucket="of-an-earlier-stack")
    _break_size(clinic, f"packages/{package_id}/MILL.LIB")
    seen = clinic.examine(fix=True)
    # Its old place has no package any more, and a file is not started anew from where we may not read.
    assert _kinds(seen) == {"size_mismatch": 1, "original_without_row": 1}
    assert seen.not_compared.originals == 1
    assert {finding.kind: finding.fix for finding in seen.findings}["size_mismatch"] is None


def _right_after(patch: pytest.MonkeyPatch, owner: Any, name: str, happens: Callable[[], Any]) -> None:
    """Have something happen once, between the first look and the second."""
    before = getattr(owner, name)
    pending = [happens]

    def looked(*args: Any, **kwargs: Any) -> Any:
        seen = before(*args, **kwargs)
        while pending:
            pending.pop()()
        return seen

    patch.setattr(owner, name, looked)


def test_an_original_that_became_a_package_meanwhile_is_no_finding(
    clinic: Clinic, outside: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "drops/camworks/slow.zip"
    version = clinic.s3.put_object(Bucket="incoming", Key=key, Body=b"no ZIP")["VersionId"]
    _right_after(
        monkeypatch,
        queries,
        "known_versions",
        lambda: outside.ingest(LandedObject("incoming", key, version, 6)),
    )
    assert _kinds(clinic.examine(fix=True)) == {}
    assert clinic.work_off_the_queue() == 0


def test_an_original_that_was_removed_meanwhile_is_no_finding(
    clinic: Clinic, outside: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "drops/camworks/gone.zip"
    version = clinic.s3.put_object(Bucket="incoming", Key=key, Body=b"1")["VersionId"]
    _right_after(
        monkeypatch, queries, "known_versions", lambda: outside.storage.delete_original(key, version)
    )
    assert _kinds(clinic.examine(fix=True)) == {}


@pytest.mark.parametrize("way", ["deleted", "in work"])
def test_a_package_that_changed_meanwhile_does_not_miss_its_original(
    clinic: Clinic, outside: Clinic, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    package_id = clinic.package()
    _, key, version = _source(clinic, package_id)

    def happens() -> None:
        if way == "deleted":
            deletion.delete_package(outside.engine, outside.storage, package_id, longest_run=timedelta(0))
        else:
            outside.storage.delete_original(key, version)
            outside.change(package_id, status="deleting")

    _right_after(monkeypatch, queries, "package_states_after", happens)
    assert _kinds(clinic.examine()) == {}


def test_a_package_that_ended_meanwhile_is_not_stuck(
    clinic: Clinic, outside: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_id = clinic.package()
    clinic.change(package_id, status="storing", updated_at=func.now() - timedelta(hours=2))
    clinic.change_run(package_id, created_at=func.now() - timedelta(hours=2))
    _right_after(
        monkeypatch, queries, "package_states_after", lambda: outside.change(package_id, status="ready")
    )
    assert _kinds(clinic.examine()) == {}


@pytest.mark.parametrize("state", ["storing", "deleting", "ready"])
def test_a_package_that_is_stuck_is_reported(clinic: Clinic, state: str) -> None:
    package_id = clinic.package()
    clinic.package()
    clinic.change(package_id, status=state)
    clinic.change_run(package_id, status="queued")
    assert _kinds(clinic.examine()) == {}
    clinic.change(package_id, updated_at=func.now() - timedelta(hours=2))
    assert _kinds(clinic.examine()) == {}
    clinic.change_run(package_id, created_at=func.now() - timedelta(hours=2))
    seen = clinic.examine(fix=True)
    found = _only(seen, Kind.STUCK_PACKAGE)
    assert (found.package_id, found.fix) == (package_id, None)
    assert seen.left_alone == 1


# -- leftovers


def test_an_unfinished_upload_is_given_up(clinic: Clinic) -> None:
    package_id, busy = clinic.package(), clinic.package()
    clinic.change(busy, status="storing")
    keys = [f"packages/{package_id}/BIG.KIN", f"packages/{busy}/BIG.KIN", f"packages/{uuid4()}/BIG.KIN"]
    for key in [*keys, "packages/readme.txt"]:
        clinic.s3.create_multipart_upload(Bucket="packages", Key=key)
    young = replace(CONFIG, patience=timedelta(days=365 * 100))  # moto has all uploads begin in 2010
    assert _kinds(clinic.examine(config=young)) == {}
    seen = clinic.examine()
    assert _kinds(seen) == {"unfinished_upload": 3}
    fixes = {finding.key: finding.fix for finding in seen.findings}
    assert fixes == {keys[0]: "abort", keys[2]: "abort", "packages/readme.txt": None}
    seen = clinic.examine(fix=True)
    assert (seen.found, seen.fixed) == (3, 2)
    left = {upload.key for upload in clinic.storage.list_uploads("packages/")}
    assert left == {keys[1], "packages/readme.txt"}


def test_an_upload_that_was_completed_meanwhile_is_no_finding(
    clinic: Clinic, outside: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"packages/{uuid4()}/BIG.KIN"
    clinic.s3.create_multipart_upload(Bucket="packages", Key=key)
    _right_after(monkeypatch, queries, "package_states", lambda: outside.storage.abort_uploads(key))
    assert _kinds(clinic.examine()) == {}


def test_a_bundle_whose_package_is_gone_is_deleted(clinic: Clinic) -> None:
    kept, gone = bundle_key(clinic.package()), bundle_key(uuid4())
    for key in (kept, gone, "bundles/notes.txt"):
        clinic.s3.put_object(Bucket="packages", Key=key, Body=b"1")
    young = clinic.examine(fix=True, config=replace(CONFIG, longest_run=timedelta(minutes=5)))
    assert _kinds(young) == {"bundle_without_package": 2}
    assert young.fixed == 0
    seen = clinic.examine(fix=True)
    assert {(finding.key, finding.fix, finding.fixed) for finding in seen.findings} == {
        (gone, "delete", True),
        ("bundles/notes.txt", None, False),
    }
    assert clinic.stored("bundles/") == [kept, "bundles/notes.txt"]


# -- page by page


def _damage_a_lot(clinic: Clinic) -> dict[str, int]:
    """Break a little of everything; return what is to be found."""
    packages = [clinic.package() for _ in range(4)]
    clinic.package({"a.SRC": b"1", "ab.SRC": b"2", "É.LIB": b"3", "z.CTL": b"4", "Z.ATR": b"5"})
    clinic.package({"a.LIB": b"refused"})
    _break_row_without_object(clinic, f"packages/{packages[0]}/mill.CTL")
    _break_size(clinic, f"packages/{packages[1]}/MILL.LIB")
    _break_checksum(clinic, f"packages/{packages[2]}/MILL.LIB")
    strays = ["packages/", "packages/0", "packages/zzz"]
    strays += [f"packages/{packages[3]}/A", f"packages/{uuid4()}/Z"]
    for key in strays:
        clinic.s3.put_object(Bucket="packages", Key=key, Body=b"1")
    for number in range(3):
        clinic.s3.put_object(Bucket="incoming", Key=f"drops/camworks/lost{number}.zip", Body=b"1")
        clinic.s3.put_object(Bucket="packages", Key=bundle_key(uuid4()), Body=b"1")
        clinic.s3.create_multipart_upload(Bucket="packages", Key=f"packages/{uuid4()}/BIG.KIN")
    row = clinic.row(packages[3])
    clinic.storage.delete_original(row["source_key"], row["source_version"])
    return {
        "row_without_object": 1,
        "size_mismatch": 1,
        "checksum_mismatch": 1,
        "object_without_row": 5,
        "original_without_row": 3,
        "row_without_original": 1,
        "bundle_without_package": 3,
        "unfinished_upload": 3,
    }


@pytest.mark.parametrize("page", [1, 2, 3, 7, 1000])
def test_small_pages_find_the_same(clinic: Clinic, page: int) -> None:
    expected = _damage_a_lot(clinic)
    seen = clinic.examine(config=replace(CONFIG, page=page))
    assert _kinds(seen) == expected
    assert seen.looked_at.rows == 17
    assert seen.looked_at.objects == 17 - 1 + 5 + 3
    assert len({(finding.kind, finding.key) for finding in seen.findings}) == seen.found


@pytest.mark.parametrize("deep", [False, True])
def test_an_examination_goes_on_where_the_last_invocation_ended(clinic: Clinic, *, deep: bool) -> None:
    """Time is over after every chunk: each invocation does the least it can, and none does a thing twice."""
    expected = _damage_a_lot(clinic)
    positions = []
    before = queries.save_examination

    def note(*args: Any, **kwargs: Any) -> Any:
        positions.append(kwargs["position"])
        return before(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "save_examination", note)
        seen = clinic.examine(deep=deep, config=replace(CONFIG, page=3), seconds_left=lambda: 15.0)
    assert _kinds(seen) == expected
    assert seen.looked_at.rows == 17
    assert len(positions) > 15
    assert len(set(positions)) == len(positions)


def test_reading_bytes_stops_when_time_is_over_and_always_gets_ahead(clinic: Clinic) -> None:
    package_id = clinic.package({**GOOD, "BIG.KIN": BIG})
    left = iter([300.0] * 6)
    seen = clinic.examine(deep=True, seconds_left=lambda: next(left, 1.0))
    # One invocation has no time at all for what it takes up first: that is counted, and left behind.
    assert _kinds(seen) == {}
    assert seen.not_compared.files + seen.not_compared.originals > 0
    assert seen.looked_at.rows == 4
    assert clinic.row(package_id)["status"] == "ready"


def test_a_long_list_is_cut_off_and_its_counts_are_not(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veripost.upkeep.doctor.findings.MOST_FINDINGS", 3)
    expected = _damage_a_lot(clinic)
    seen = clinic.examine(config=replace(CONFIG, page=2))
    assert _kinds(seen) == expected
    assert (len(seen.findings), seen.truncated) == (3, True)


def test_a_report_fits_into_one_answer() -> None:
    report = Report()
    for number in range(1200):
        key = "drops/" + "ü" * 1000 + "\x00" + str(number)
        report.add(Finding(Kind.ORIGINAL_WITHOUT_ROW, "incoming", key, None, "d" * 200, None), fixed=False)
    assert report.found == 1200
    assert report.truncated
    assert "\x00" not in report.findings[0]["key"]
    assert len(str(report.as_dict())) < 1 << 20


# -- taking turns


def test_two_invocations_do_not_meet(clinic: Clinic) -> None:
    minute = timedelta(seconds=60)
    first, second = (doctor.order(clinic.engine, fix=False, deep=False) for _ in range(2))
    with clinic.engine.begin() as connection:
        taken = queries.take_examination(connection, lease=minute)
        assert taken is not None
        assert taken.id == first
        assert queries.take_examination(connection, lease=minute, examination_id=first) is None
    assert clinic.attend() == second
    assert clinic.attend() is None
    with clinic.engine.begin() as connection:
        connection.execute(update(doctor_runs).values(lease_until=func.now() - timedelta(seconds=1)))
        assert queries.take_examination(connection, lease=minute) is not None
    with clinic.engine.begin() as connection:  # whoever took too long must not write any more
        cut_off = queries.save_examination(connection, taken, position="[]", report={}, lease=minute)
        assert cut_off is None
        connection.execute(update(doctor_runs).values(lease_until=None))
    assert clinic.attend() == first
    assert doctor.view(clinic.engine, first).status == "done"


def test_pages_come_in_the_order_of_s3_whatever_the_database_sorts_by(clinic: Clinic) -> None:
    """The server of the tests knows no rules but those of bytes, so it is the statement that shows it."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(clinic.engine, "before_cursor_execute", note)
    with clinic.engine.connect() as connection:
        queries.recorded_files_after(connection, "packages/", floor=None, limit=1)
    event.remove(clinic.engine, "before_cursor_execute", note)
    where, order = statements[-1].split("ORDER BY")
    assert 's3_key COLLATE "C") > ' in where
    assert 's3_key COLLATE "C"' in order


def test_a_failure_is_tried_again_from_the_last_page_but_not_for_ever(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.package()

    def broken(*_: Any) -> None:
        raise Unavailable(detail="the store is down")

    examination = doctor.order(clinic.engine, fix=False, deep=False)
    with monkeypatch.context() as patch:
        patch.setitem(runs.STEPS, "packages", broken)
        with pytest.raises(Unavailable):
            clinic.attend()
        seen = doctor.view(clinic.engine, examination)
        assert (seen.status, seen.step, seen.looked_at.rows) == ("queued", "packages", 3)
    clinic.attend()
    seen = doctor.view(clinic.engine, examination)
    assert (seen.status, seen.looked_at.rows, seen.looked_at.packages, seen.error) == ("done", 3, 1, None)

    hopeless = doctor.order(clinic.engine, fix=False, deep=False)
    monkeypatch.setitem(runs.STEPS, "files", broken)
    for _ in range(runs.MOST_FAILURES):
        with pytest.raises(Unavailable):
            clinic.attend()
    seen = doctor.view(clinic.engine, hopeless)
    assert seen.status == "done"
    assert "the store is down" in str(seen.error)


def test_an_unknown_examination_is_not_found(clinic: Clinic) -> None:
    with pytest.raises(NotFound) as caught:
        doctor.view(clinic.engine, uuid4())
    assert caught.value.code == "examination_not_found"


def test_old_examinations_are_forgotten(clinic: Clinic) -> None:
    old = clinic.examine().doctor_id
    with clinic.engine.begin() as connection:
        connection.execute(update(doctor_runs).values(finished_at=func.now() - timedelta(days=31)))
    new = doctor.order(clinic.engine, fix=False, deep=False)
    with clinic.engine.connect() as connection:
        assert queries.get_examination(connection, old) is None
        assert queries.get_examination(connection, new) is not None
        assert connection.scalar(select(func.count()).select_from(outbox)) == 0
