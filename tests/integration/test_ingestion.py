"""Ingestion on real Postgres, with an S3 inside the process: outcomes, claims and what is left behind."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from sqlalchemy import Engine, RowMapping, select, text

from localcloud import samples
from veripost import db, ingestion, queries
from veripost.errors import Unavailable
from veripost.ingest_queue import LandedObject
from veripost.ingestion import IngestConfig, Outcome
from veripost.models import Status, Trigger, post_files, post_packages
from veripost.queries import Source
from veripost.settings import Settings
from veripost.storage import PartsUpload, Storage, _ObstoreRanges
from veripost.upkeep.sweep import Sweeper

CONFIG = ingestion.config_of(Settings())
GOOD = {"MILL.SRC": b":SECTION=A\r\n:T:<N>\r\n", "MILL.LIB": b"*lib\r\n", "MILL.CTL": bytes(64)}


def _land(key: str, data: bytes) -> LandedObject:
    answer = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=data)
    return LandedObject("incoming", key, answer["VersionId"], len(data))


def _drop(data: bytes, name: str = "post.zip", platform: str = "camworks") -> LandedObject:
    return _land(f"drops/{platform}/{uuid4()}/{name}", data)


def _ingest(
    landed: LandedObject,
    engine: Engine,
    storage: Storage,
    config: IngestConfig = CONFIG,
    seconds_left: Callable[[], float] = lambda: 300.0,
) -> Outcome:
    return ingestion.ingest(
        landed, engine=engine, storage=storage, config=config, request_id="r-1", seconds_left=seconds_left
    )


def _package(engine: Engine, landed: LandedObject) -> RowMapping:
    with engine.connect() as connection:
        statement = select(post_packages).where(post_packages.c.source_key == landed.key)
        return connection.execute(statement).mappings().one()


def _objects(prefix: str) -> dict[str, Any]:
    """Every object version and delete marker below a prefix."""
    answer = boto3.client("s3").list_object_versions(Bucket="packages", Prefix=prefix)
    return {e["Key"]: e for e in [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]}


def test_a_good_drop_becomes_ready_with_identical_bytes(engine: Engine, storage: Storage) -> None:
    files = samples.post_processor("HAAS", sections=40)
    data = samples.zip_of(files | {"__MACOSX/._HAAS.SRC": b"junk"}, folder="HAAS/")
    landed = _drop(data, name="from the drawer.zip")

    assert _ingest(landed, engine, storage) is Outcome.READY

    package = _package(engine, landed)
    assert (package["status"], package["name"], package["file_count"]) == ("ready", "HAAS", 7)
    assert package["content_hash"] == hashlib.sha256(data).hexdigest()
    assert package["size_bytes"] == len(data)
    assert [problem["code"] for problem in package["problems"]] == ["junk_skipped"]
    with engine.connect() as connection:
        rows = queries.list_files(connection, package["id"], limit=100)
    assert {row["filename"]: row["content_hash"] for row in rows} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert {row["original_path"] for row in rows} == {f"HAAS/{name}" for name in files}
    s3 = boto3.client("s3")
    for row in rows:
        stored = s3.get_object(Bucket="packages", Key=row["s3_key"])
        assert stored["Body"].read() == files[row["filename"]]
        assert stored["Metadata"]["content-hash"] == row["content_hash"]
    assert set(_objects(package["s3_prefix"])) == {row["s3_key"] for row in rows}


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"MILL.LIB": b"x"}, "required_file_missing"),
        ({**GOOD, "prog.NC": b"G0 X0"}, "forbidden_extension"),
        ({"a/MILL.SRC": b"1", "b/mill.src": b"2"}, "name_collision"),
        ({}, "empty_package"),
        ({"__MACOSX/._a.SRC": b"1"}, "empty_package"),
    ],
)
def test_a_bad_package_is_refused_and_leaves_no_object(
    engine: Engine, storage: Storage, files: dict[str, bytes], code: str
) -> None:
    landed = _drop(samples.zip_of(files))
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    package = _package(engine, landed)
    assert (package["status"], package["error_code"]) == ("error", code)
    assert package["error_message"]
    assert _objects(package["s3_prefix"]) == {}
    with engine.connect() as connection:
        assert queries.list_files(connection, package["id"], limit=10) == []
        runs = queries.list_runs(connection, package["id"], limit=10)
    assert [(run["status"], run["error_code"], run["lease_until"]) for run in runs] == [
        ("refused", code, None)
    ]


@pytest.mark.parametrize("data", [b"", b"just text", b"Rar!\x1a\x07\x00" + bytes(40), b"<html></html>"])
def test_what_is_no_zip_is_refused(engine: Engine, storage: Storage, data: bytes) -> None:
    landed = _drop(data)
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    package = _package(engine, landed)
    assert package["error_code"] == "not_a_zip"
    assert package["content_hash"] is None


def test_damage_found_late_takes_back_what_was_stored(engine: Engine, storage: Storage) -> None:
    data = bytearray(samples.zip_of(samples.post_processor(sections=20)))
    data[data.rindex(b"Units = Metric") if b"Units = Metric" in data else len(data) // 2] ^= 0xFF
    landed = _drop(bytes(data))
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    package = _package(engine, landed)
    assert package["status"] == "error"
    assert package["content_hash"] == hashlib.sha256(data).hexdigest()
    assert _objects(package["s3_prefix"]) == {}


def test_a_large_member_travels_in_parts(engine: Engine, storage: Storage) -> None:
    big = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(700_000))
    files = {**GOOD, "BIG.CTL": big[: 21 << 20]}
    landed = _drop(samples.zip_of(files))
    assert _ingest(landed, engine, storage) is Outcome.READY
    package = _package(engine, landed)
    key = f"{package['s3_prefix']}BIG.CTL"
    stored = boto3.client("s3").get_object(Bucket="packages", Key=key)
    assert stored["Body"].read() == files["BIG.CTL"]
    assert boto3.client("s3").list_multipart_uploads(Bucket="packages").get("Uploads", []) == []


def test_a_large_member_that_is_broken_is_never_an_object(engine: Engine, storage: Storage) -> None:
    big = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(400_000))
    data = bytearray(samples.zip_of({"A.SRC": b":SECTION=A\n", "BIG.CTL": big}))
    data[len(data) // 2] ^= 0x01
    landed = _drop(bytes(data))
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    package = _package(engine, landed)
    assert [problem["member"] for problem in package["problems"]] == ["BIG.CTL"]
    assert _objects(package["s3_prefix"]) == {}
    assert boto3.client("s3").list_multipart_uploads(Bucket="packages").get("Uploads", []) == []


def test_an_unknown_platform_is_refused(engine: Engine, storage: Storage) -> None:
    landed = _drop(samples.zip_of(GOOD), platform="nobody")
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    assert _package(engine, landed)["error_code"] == "unknown_platform"


def test_an_object_deleted_before_we_came(engine: Engine, storage: Storage) -> None:
    landed = _drop(samples.zip_of(GOOD))
    storage.delete_original(landed.key, landed.version)
    assert _ingest(landed, engine, storage) is Outcome.IGNORED
    with engine.connect() as connection:
        statement = select(post_packages.c.id).where(post_packages.c.source_key == landed.key)
        assert connection.execute(statement).all() == [], "who took it back for good has no package"
    package_id = _announced(engine)
    landed = _land(f"uploads/{package_id}/archive.zip", samples.zip_of(GOOD))
    storage.delete_original(landed.key, landed.version)
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    assert _package(engine, landed)["error_code"] == "original_missing", "one that was announced is missed"


def test_an_overwritten_drop_is_two_packages_each_of_its_own_version(
    engine: Engine, storage: Storage
) -> None:
    key = f"drops/camworks/{uuid4()}.zip"
    first = _land(key, samples.zip_of({"ONE.SRC": b"1"}))
    second = _land(key, samples.zip_of({"TWO.SRC": b"2"}))
    assert _ingest(second, engine, storage) is Outcome.READY
    assert _ingest(first, engine, storage) is Outcome.READY
    with engine.connect() as connection:
        statement = select(post_packages.c.name).where(post_packages.c.source_key == key)
        assert sorted(connection.scalars(statement)) == ["ONE", "TWO"]


def test_the_same_archive_again_points_at_the_first(engine: Engine, storage: Storage) -> None:
    data = samples.zip_of({"SAME.SRC": uuid4().bytes})
    first, second = _drop(data), _drop(data)
    assert _ingest(first, engine, storage) is Outcome.READY
    assert _ingest(second, engine, storage) is Outcome.READY
    assert _package(engine, first)["duplicate_of"] is None
    assert _package(engine, second)["duplicate_of"] == _package(engine, first)["id"]


@pytest.mark.parametrize("key", ["drops/camworks/folder/", "drops/", "elsewhere/x.zip"])
def test_folder_markers_and_strangers_are_ignored(engine: Engine, storage: Storage, key: str) -> None:
    landed = _land(key, b"")
    assert _ingest(landed, engine, storage) is Outcome.IGNORED
    with engine.connect() as connection:
        statement = select(post_packages).where(post_packages.c.source_key == key)
        assert connection.execute(statement).first() is None


# -- uploads are found by the id in their key


def _announced(engine: Engine) -> UUID:
    package_id = uuid4()
    with engine.begin() as connection:
        queries.add_package(
            connection,
            package_id=package_id,
            name="announced",
            platform="camworks",
            source=Source("incoming", f"uploads/{package_id}/archive.zip", None),
            trigger=Trigger.PRESIGNED,
            size_bytes=1,
        )
    return package_id


def test_an_upload_binds_its_version_once_and_later_ones_are_deleted(
    engine: Engine, storage: Storage
) -> None:
    key = f"uploads/{_announced(engine)}/archive.zip"
    first, later = _land(key, samples.zip_of(GOOD)), _land(key, b"something else")
    assert _ingest(first, engine, storage) is Outcome.READY
    assert _ingest(later, engine, storage) is Outcome.IGNORED
    assert _package(engine, first)["source_version"] == first.version
    left = boto3.client("s3").list_object_versions(Bucket="incoming", Prefix=key)["Versions"]
    assert [version["VersionId"] for version in left] == [first.version]


@pytest.mark.parametrize("owner", [str(uuid4()), "not-a-uuid"])
def test_an_upload_without_a_row_is_deleted(engine: Engine, storage: Storage, owner: str) -> None:
    landed = _land(f"uploads/{owner}/archive.zip", samples.zip_of(GOOD))
    assert _ingest(landed, engine, storage) is Outcome.IGNORED
    assert "Versions" not in boto3.client("s3").list_object_versions(Bucket="incoming", Prefix=landed.key)


# -- delivered more than once, died half-way


def test_ten_deliveries_at_once_have_one_effect(database_url: str, engine: Engine, storage: Storage) -> None:
    landed = _drop(samples.zip_of(samples.post_processor(sections=10)))
    outcomes: list[Outcome] = []

    def deliver(number: int) -> None:
        # Settings that differ give every worker an engine, and so a connection, of its own.
        own = Settings(database_url=database_url, database_tls="disable", environment=f"worker-{number}")
        outcomes.append(_ingest(landed, db.get_engine(own), storage))
        db.get_engine(own).dispose()

    workers = [threading.Thread(target=deliver, args=(number,)) for number in range(10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(outcomes) == [Outcome.IGNORED] * 9 + [Outcome.READY]
    package = _package(engine, landed)
    with engine.connect() as connection:
        assert len(queries.list_files(connection, package["id"], limit=100)) == 7
        assert [run["attempt"] for run in queries.list_runs(connection, package["id"], limit=9)] == [1]
    assert len(_objects(package["s3_prefix"])) == 7


def test_a_failure_of_ours_gives_the_job_back_and_the_next_delivery_finishes(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = _drop(samples.zip_of(GOOD))

    def down(*_: object) -> None:
        raise Unavailable(detail="SlowDown")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put_file", down)
        with pytest.raises(Unavailable):
            _ingest(landed, engine, storage)
    package = _package(engine, landed)
    assert package["status"] == "storing"
    with engine.connect() as connection:
        run = queries.list_runs(connection, package["id"], limit=1)[0]
    assert (run["status"], run["error_code"], run["lease_until"]) == ("interrupted", "unavailable", None)

    assert _ingest(landed, engine, storage) is Outcome.READY
    with engine.connect() as connection:
        run = queries.list_runs(connection, package["id"], limit=1)[0]
    assert (run["status"], run["attempt"], run["error_code"]) == ("succeeded", 2, None)


def test_a_function_about_to_be_cut_off_hands_back(engine: Engine, storage: Storage) -> None:
    landed = _drop(samples.zip_of(GOOD))
    with pytest.raises(Unavailable, match="out_of_time"):
        _ingest(landed, engine, storage, seconds_left=lambda: 3.0)
    assert _ingest(landed, engine, storage) is Outcome.READY


def test_a_worker_that_lost_its_lease_writes_nothing(engine: Engine, storage: Storage) -> None:
    """The first worker stalls with a lease that runs out; the second finishes; the first then wakes up."""
    landed = _drop(samples.zip_of(GOOD))
    stalled = replace(CONFIG, lease=timedelta(seconds=0))
    package_id = ingestion.jobs._package_of(landed, engine=engine, storage=storage)
    assert package_id is not None
    with engine.begin() as connection:
        first = queries.claim_job(
            connection, package_id, lease=stalled.lease, request_id="first", longest_run=CONFIG.longest_run
        )
    assert first is not None
    assert _ingest(landed, engine, storage) is Outcome.READY
    with engine.begin() as connection:
        assert queries.renew_lease(connection, first, lease=CONFIG.lease) is False
        assert queries.advance(connection, first, Status.STORING) is False
        refused = queries.finish_refused(
            connection,
            first,
            code="x",
            message="x",
            detail=None,
            problems=[],
            size_bytes=None,
            content_hash=None,
        )
        queries.give_back(connection, first, code="x", message="x")
    assert refused is False
    assert _package(engine, landed)["status"] == "ready"


def test_no_byte_of_the_archive_is_downloaded_twice(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(200_000))
    files = {**GOOD, "BIG.CTL": noise, **{f"L{number}.LIB": noise[: number * 50] for number in range(300)}}
    landed = _drop(samples.zip_of(files))
    taken: list[tuple[int, int]] = []
    real_read, real_tail = _ObstoreRanges.read, _ObstoreRanges.tail

    def read(ranges: Any, start: int, end: int) -> bytes:
        taken.append((start, end))
        return real_read(ranges, start, end)

    def tail(ranges: Any, length: int) -> tuple[int, bytes]:
        size, data = real_tail(ranges, length)
        taken.append((size - len(data), size))
        return size, data

    monkeypatch.setattr(_ObstoreRanges, "read", read)
    monkeypatch.setattr(_ObstoreRanges, "tail", tail)
    assert _ingest(landed, engine, storage) is Outcome.READY
    ordered = sorted(taken)
    assert [start for start, _ in ordered] == [0, *(end for _, end in ordered[:-1])]
    assert ordered[-1][1] == landed.size


def test_the_lease_lives_through_a_put_that_takes_longer(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = _drop(samples.zip_of(GOOD))
    short = replace(CONFIG, lease=timedelta(seconds=1))
    others: list[Outcome] = []
    real = Storage.put_file

    def slow(*args: Any) -> None:
        if args[1].endswith(".SRC"):
            time.sleep(2.5)
            others.append(_ingest(landed, engine, storage, short))
        real(*args)

    monkeypatch.setattr(Storage, "put_file", slow)
    assert _ingest(landed, engine, storage, short) is Outcome.READY
    assert others == [Outcome.IGNORED]


def test_parts_that_nobody_could_abort_are_removed_once_the_job_has_ended(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is down amid a large file: the job cannot be cleaned up after when it is given back."""
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(400_000))
    landed = _drop(samples.zip_of({**GOOD, "BIG.CTL": noise}))
    s3 = boto3.client("s3")

    def down(*_: object) -> None:
        raise Unavailable(detail="SlowDown")

    with monkeypatch.context() as patch:
        patch.setattr(PartsUpload, "complete", down)
        patch.setattr(Storage, "abort_uploads", down)
        with pytest.raises(Unavailable, match="SlowDown"):
            _ingest(landed, engine, storage)
    assert len(s3.list_multipart_uploads(Bucket="packages")["Uploads"]) == 1
    assert _ingest(landed, engine, storage) is Outcome.READY
    Sweeper(engine, storage, Settings(), seconds_left=lambda: 50.0).remove_leftovers()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="packages")
    package = _package(engine, landed)
    assert (package["status"], package["clean_up_after"]) == ("ready", None)
    assert len(_objects(package["s3_prefix"])) == 4


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_verifying_threads_gives_the_same(
    engine: Engine, storage: Storage, workers: int
) -> None:
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(100_000))
    files = {f"F{number}.LIB": noise[number : number * 40] for number in range(200)}
    files |= {"A.SRC": b"x", "BIG1.CTL": noise * 3, "BIG2.CTL": noise * 4}
    landed = _drop(samples.zip_of(files))
    assert _ingest(landed, engine, storage, replace(CONFIG, cpu_workers=workers)) is Outcome.READY
    package = _package(engine, landed)
    with engine.connect() as connection:
        rows = queries.list_files(connection, package["id"], limit=300)
    assert {row["filename"]: row["content_hash"] for row in rows} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }


def test_names_that_only_some_locales_call_alike(engine: Engine, storage: Storage) -> None:
    files = {"TESTI.SRC": b"1", "TESTİ.SRC": b"2", "STRASSE.LIB": b"3"}
    landed = _drop(samples.zip_of(files))
    assert _ingest(landed, engine, storage) is Outcome.READY
    assert _package(engine, landed)["file_count"] == 3
    landed = _drop(samples.zip_of({**files, "STRAẞE.LIB": b"4"}))
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    assert _package(engine, landed)["error_code"] in {"name_collision", "lookalike_name"}


@pytest.mark.parametrize("failing", [1, 5])
def test_a_read_that_fails_amid_a_large_member_gives_the_job_back(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(400_000))
    landed = _drop(samples.zip_of({"A.SRC": b"1", "BIG.CTL": noise}))
    real, reads = _ObstoreRanges.read, []

    def read(ranges: Any, start: int, end: int) -> bytes:
        reads.append(start)
        if len(reads) > failing:
            raise Unavailable(detail="connection reset")
        return real(ranges, start, end)

    with monkeypatch.context() as patch:
        patch.setattr(_ObstoreRanges, "read", read)
        with pytest.raises(Unavailable, match="connection reset"):
            _ingest(landed, engine, storage)
    assert threading.active_count() < 10
    assert _ingest(landed, engine, storage) is Outcome.READY


def test_a_put_that_fails_stops_everything(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(1000))
    files = {f"F{number}.LIB": noise[number:] for number in range(400)} | {"A.SRC": b"1"}
    landed = _drop(samples.zip_of(files))
    real, puts = Storage.put_file, []

    def put(*args: Any) -> None:
        puts.append(args[1])
        if len(puts) >= 50:
            raise Unavailable(detail="SlowDown")
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put_file", put)
        with pytest.raises(Unavailable, match="SlowDown"):
            _ingest(landed, engine, storage)
    assert len(puts) < 400
    assert _ingest(landed, engine, storage) is Outcome.READY


def test_a_refusal_is_told_even_when_time_runs_out(engine: Engine, storage: Storage) -> None:
    """The platform has refused it already; verifying the rest is a courtesy that time may cut short."""
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(400_000))
    landed = _drop(samples.zip_of({"A.SRC": b"1", "BIG.CTL": noise, "prog.NC": b"G0"}))
    times = iter([300.0, 300.0, 300.0, 5.0])
    outcome = _ingest(landed, engine, storage, seconds_left=lambda: next(times, 5.0))
    assert outcome is Outcome.REFUSED
    package = _package(engine, landed)
    assert (package["error_code"], package["content_hash"]) == ("forbidden_extension", None)


def test_a_superseded_worker_leaves_nothing_below_a_refused_package(
    database_url: str, engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker stalls in a PUT, the second refuses the package, then the first wakes up."""
    landed = _drop(samples.zip_of(GOOD))
    other = db.get_engine(Settings(database_url=database_url, database_tls="disable", environment="other"))
    real = Storage.put_file
    stalled: list[bool] = []

    def put(*args: Any) -> None:
        if not stalled:
            stalled.append(True)
            with other.begin() as connection:  # the lease runs out, another worker takes over and refuses
                connection.execute(
                    text(
                        "UPDATE ingest_runs SET lease_until = now() - interval '1 s' WHERE status = 'running'"
                    )
                )
            package_id = _package(other, landed)["id"]
            with other.begin() as connection:
                claim = queries.claim_job(
                    connection,
                    package_id,
                    lease=CONFIG.lease,
                    request_id="second",
                    longest_run=CONFIG.longest_run,
                )
                assert claim is not None
                queries.finish_refused(
                    connection,
                    claim,
                    code="x",
                    message="x",
                    detail=None,
                    problems=[],
                    size_bytes=None,
                    content_hash=None,
                )
        real(*args)

    monkeypatch.setattr(Storage, "put_file", put)
    assert _ingest(landed, engine, storage) is Outcome.SUPERSEDED
    other.dispose()
    package = _package(engine, landed)
    assert package["status"] == "error"
    # Its successor had cleaned up before; what came later is the sweeper's, once no worker can run that long.
    assert _objects(package["s3_prefix"]) != {}
    assert package["clean_up_after"] is not None
    with engine.begin() as connection:
        connection.execute(text("UPDATE post_packages SET clean_up_after = now() - interval '1 s'"))
    Sweeper(engine, storage, Settings(), seconds_left=lambda: 50.0).remove_leftovers()
    assert _objects(package["s3_prefix"]) == {}
    assert _package(engine, landed)["clean_up_after"] is None


def test_another_name_below_an_uploads_key_is_nobodys(engine: Engine, storage: Storage) -> None:
    package_id = _announced(engine)
    stranger = _land(f"uploads/{package_id}/other.zip", samples.zip_of(GOOD))
    assert _ingest(stranger, engine, storage) is Outcome.IGNORED
    landed = _land(f"uploads/{package_id}/archive.zip", samples.zip_of(GOOD))
    assert _ingest(landed, engine, storage) is Outcome.READY


def test_a_live_lease_keeps_others_out(engine: Engine, storage: Storage) -> None:
    landed = _drop(samples.zip_of(GOOD))
    package_id = ingestion.jobs._package_of(landed, engine=engine, storage=storage)
    assert package_id is not None
    with engine.begin() as connection:
        assert queries.claim_job(
            connection, package_id, lease=CONFIG.lease, request_id="first", longest_run=CONFIG.longest_run
        )
    assert _ingest(landed, engine, storage) is Outcome.IGNORED
    assert _package(engine, landed)["status"] == "pending"


def test_every_state_is_visible_while_it_happens(
    engine: Engine, database_url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second connection polls from inside the work, as a client would."""
    watcher = db.get_engine(
        Settings(database_url=database_url, database_tls="disable", environment="watcher")
    )
    landed = _drop(samples.zip_of(GOOD))
    seen: list[str] = []

    def look() -> None:
        with watcher.connect() as connection:
            seen.append(
                connection.execute(
                    text("SELECT status FROM post_packages WHERE source_key = :key"), {"key": landed.key}
                ).scalar_one()
            )

    for owner, name in ((Storage, "open_original"), (Storage, "put_file"), (queries, "finish_ready")):
        real = getattr(owner, name)

        def spy(*args: Any, _real: Any = real, **kwargs: Any) -> Any:
            look()
            return _real(*args, **kwargs)

        monkeypatch.setattr(owner, name, spy)
    assert _ingest(landed, engine, storage) is Outcome.READY
    look()
    watcher.dispose()
    assert list(dict.fromkeys(seen)) == ["validating", "storing", "parsing", "ready"]


def test_the_file_rows_and_ready_are_one_transaction(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = _drop(samples.zip_of(GOOD))
    real = queries.finish_ready

    def dies_before_commit(*args: Any, **kwargs: Any) -> bool:
        real(*args, **kwargs)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(queries, "finish_ready", dies_before_commit)
        with pytest.raises(RuntimeError):
            _ingest(landed, engine, storage)
    package = _package(engine, landed)
    with engine.connect() as connection:
        files = select(post_files.c.id).where(post_files.c.package_id == package["id"])
        assert connection.execute(files).all() == []
    assert package["status"] == "parsing"
    assert _ingest(landed, engine, storage) is Outcome.READY
