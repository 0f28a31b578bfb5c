"""Upkeep on real Postgres and S3: what nobody works on goes on or ends, and what is to go leaves nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from sqlalchemy import Engine, RowMapping, func, select, text

from localcloud import samples
from veripost import db, ingest_queue, ingestion, queries
from veripost.errors import Unavailable
from veripost.ingest_queue import LandedObject
from veripost.ingestion import Outcome
from veripost.models import Status, Trigger, ingest_runs, outbox, post_files, post_packages
from veripost.queries import ReplayFilter, Source
from veripost.settings import Settings, load
from veripost.storage import Storage
from veripost.upkeep import announcing, deletion, replay, sweep
from veripost.upkeep.sweep import Sweeper, Swept

CONFIG = ingestion.config_of(Settings())
LONG = CONFIG.longest_run
GOOD = {"MILL.SRC": b":SECTION=A\r\n", "MILL.LIB": b"*lib\r\n"}


@pytest.fixture
def settings(storage: Storage, engine: Engine) -> Iterator[Settings]:
    """Settings with queues of this test's own; the tables are emptied before."""
    sqs = boto3.client("sqs")
    urls = {
        name: sqs.create_queue(QueueName=f"{name}-{uuid4()}")["QueueUrl"] for name in ("ingest", "parked")
    }
    bus = f"veripost-{uuid4()}"
    boto3.client("events").create_event_bus(Name=bus)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE post_packages, outbox, sweep_cursors CASCADE"))
    ingest_queue._client.cache_clear()
    announcing._client.cache_clear()
    yield load(
        {
            "INCOMING_BUCKET": "incoming",
            "PACKAGE_BUCKET": "packages",
            "INGEST_QUEUE_URL": urls["ingest"],
            "PARKING_LOT_QUEUE_URL": urls["parked"],
            "EVENT_BUS_NAME": bus,
            "STALE_SECONDS": "600",
        }
    )
    ingest_queue._client.cache_clear()
    announcing._client.cache_clear()


def _land(key: str, data: bytes) -> LandedObject:
    answer = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=data)
    return LandedObject("incoming", key, answer["VersionId"], len(data))


def _drop(files: dict[str, bytes] = GOOD) -> LandedObject:
    return _land(f"drops/camworks/{uuid4()}/post.zip", samples.zip_of(files))


def _ingest(landed: LandedObject, engine: Engine, storage: Storage) -> Outcome:
    return ingestion.ingest(
        landed, engine=engine, storage=storage, config=CONFIG, request_id="r", seconds_left=lambda: 300.0
    )


def _sweep(engine: Engine, storage: Storage, settings: Settings) -> Swept:
    return Sweeper(engine, storage, settings, seconds_left=lambda: 50.0).run()


def _announced(settings: Settings) -> list[LandedObject]:
    """Take everything out of the ingest queue."""
    sqs, found = boto3.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=settings.ingest_queue_url, MaxNumberOfMessages=10).get(
        "Messages"
    ):
        for message in messages:
            found += ingest_queue.landed_objects(message["Body"])
            sqs.delete_message(QueueUrl=settings.ingest_queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found


def _sql(engine: Engine, statement: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), values)


def _package(engine: Engine, package_id: UUID) -> RowMapping:
    with engine.connect() as connection:
        found = queries.get_package(connection, package_id)
    assert found is not None
    return found


def _run(engine: Engine, package_id: UUID) -> RowMapping:
    with engine.connect() as connection:
        return queries.list_runs(connection, package_id, limit=1)[0]


def _id_of(engine: Engine, landed: LandedObject) -> UUID:
    with engine.connect() as connection:
        found = connection.scalar(select(post_packages.c.id).where(post_packages.c.source_key == landed.key))
    assert isinstance(found, UUID)
    return found


def _count(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def _now() -> datetime:
    return datetime.now(UTC)


def _objects(bucket: str, prefix: str = "") -> set[str]:
    answer = boto3.client("s3").list_object_versions(Bucket=bucket, Prefix=prefix)
    return {entry["Key"] for entry in [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]}


def _uploading(engine: Engine) -> UUID:
    package_id = uuid4()
    with engine.begin() as connection:
        queries.add_package(
            connection,
            package_id=package_id,
            name="mill",
            platform="camworks",
            source=Source("incoming", f"uploads/{package_id}/archive.zip", None),
            trigger=Trigger.PRESIGNED,
            size_bytes=100,
        )
    return package_id


def _claimed(engine: Engine, landed: LandedObject, storage: Storage, *, lease: int = -1) -> UUID:
    """A package whose worker claimed it; with a negative lease it is lost at once."""
    package_id = ingestion.jobs._package_of(landed, engine=engine, storage=storage)
    assert package_id is not None
    with engine.begin() as connection:
        assert queries.claim_job(
            connection,
            package_id,
            lease=timedelta(seconds=lease),
            request_id="lost",
            longest_run=LONG,
        )
    return package_id


def test_landing_late_and_being_deleted_at_once_do_not_block_each_other(
    engine: Engine, database_url: str, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object lands after its form expired, at the moment that its package is deleted."""
    package_id = _uploading(engine)
    with engine.begin() as connection:
        assert queries.expire_upload(connection, package_id)
    other = db.get_engine(Settings(database_url=database_url, database_tls="disable", environment="other"))
    real, deleting = queries.jobs.newest_run, threading.Event()

    def newest_run(package: Any) -> Any:
        """Let the deletion come in between, before the late object has the job."""
        if threading.current_thread() is not deleter and not deleting.is_set():
            deleting.set()
            time.sleep(0.5)
        return real(package)

    def delete() -> None:
        deleting.wait()
        with other.begin() as connection:
            queries.begin_deletion(connection, package_id, longest_run=LONG)

    monkeypatch.setattr(queries.jobs, "newest_run", newest_run)
    failures: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    deleter = threading.Thread(target=delete)
    deleter.start()
    with engine.begin() as connection:
        queries.bind_source_version(connection, package_id, "late")
    deleter.join()
    other.dispose()
    assert failures == []
    assert _package(engine, package_id)["status"] == "deleting"


# -- jobs that nobody works on


def test_a_job_whose_worker_is_lost_is_announced_again_and_taken_over(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    package_id = _claimed(engine, landed, storage)
    assert _sweep(engine, storage, settings).taken_over == 1
    assert _announced(settings) == [landed]
    run = _run(engine, package_id)
    assert (run["status"], run["attempt"], run["error_code"]) == ("interrupted", 1, "worker_lost")
    # The lost worker may still be writing: somebody looks again when it cannot any more.
    assert _package(engine, package_id)["clean_up_after"] is not None
    assert _sweep(engine, storage, settings).taken_over == 0
    assert _announced(settings) == []
    assert _ingest(landed, engine, storage) is Outcome.READY
    assert (_run(engine, package_id)["status"], _run(engine, package_id)["attempt"]) == ("succeeded", 2)


def test_a_live_lease_is_left_alone(engine: Engine, storage: Storage, settings: Settings) -> None:
    package_id = _claimed(engine, _drop(), storage, lease=60)
    assert _sweep(engine, storage, settings) == Swept()
    assert _run(engine, package_id)["status"] == "running"


def test_a_job_that_was_tried_too_often_is_given_up_with_its_last_cause(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    package_id = _claimed(engine, _drop(), storage)
    _sql(engine, "UPDATE ingest_runs SET attempt = :n", n=settings.max_receive_count)
    assert _sweep(engine, storage, settings).given_up == 1
    assert _announced(settings) == []
    package = _package(engine, package_id)
    assert (package["status"], package["error_code"]) == ("error", "ingest_failed")
    assert "attempt 5" in package["error_detail"]
    assert "without a word" in package["error_detail"]
    assert _run(engine, package_id)["status"] == "failed"
    with engine.connect() as connection:
        assert list(connection.scalars(select(outbox.c.kind))) == ["PackageFailed"]


@pytest.mark.parametrize(
    "case",
    [
        ("queued", 500, 0, 0),
        ("queued", 700, 0, 1),
        ("interrupted", 605, 1, 0),  # its message may wait for its backoff of 10 s
        ("interrupted", 620, 1, 1),
        ("interrupted", 620, 3, 0),  # the third failure waits 40 s
        ("interrupted", 650, 3, 1),
    ],
)
def test_a_job_that_waits_too_long_is_announced_again(
    engine: Engine, storage: Storage, settings: Settings, case: tuple[str, int, int, int]
) -> None:
    status, age, attempt, requeued = case
    landed = _drop()
    ingestion.jobs._package_of(landed, engine=engine, storage=storage)
    _sql(
        engine,
        "UPDATE ingest_runs SET status = :status, attempt = :attempt,"
        " queued_at = now() - :age * interval '1 s'",
        status=status,
        attempt=attempt,
        age=age,
    )
    assert _sweep(engine, storage, settings).requeued == requeued
    assert _announced(settings) == [landed] * requeued
    assert _sweep(engine, storage, settings).requeued == 0  # not again before it is stale again


def test_what_waits_for_its_turn_in_a_long_queue_is_left_alone(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, waiting = _drop(), _drop()
    _claimed(engine, lost, storage)
    ingestion.jobs._package_of(waiting, engine=engine, storage=storage)
    unknown, uploading = _drop(), _uploading(engine)
    _land(f"uploads/{uploading}/archive.zip", samples.zip_of(GOOD))
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '1 day'")
    monkeypatch.setattr(ingest_queue, "backlog", lambda _settings: sweep.BACKLOG + 1)
    swept = _sweep(engine, storage, replace(settings, stale_seconds=1))
    assert (swept.taken_over, swept.requeued, swept.lost_events, swept.found_uploads) == (1, 0, 0, 0)
    assert _announced(settings) == [lost]
    assert unknown.key.startswith("drops/")


def test_one_broken_step_does_not_stop_the_others(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_id = _uploading(engine)
    _sql(engine, "UPDATE post_packages SET created_at = now() - interval '1 day'")
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '1 day'")

    def down(_settings: Settings) -> int:
        raise Unavailable(detail="the queue: down")

    monkeypatch.setattr(ingest_queue, "backlog", down)
    landed = _drop()
    _ingest(landed, engine, storage)
    _sql(engine, "UPDATE post_packages SET status = 'deleting' WHERE source_version IS NOT NULL")
    with pytest.raises(Unavailable, match="down"):
        _sweep(engine, storage, settings)
    assert _count(engine, post_packages) == 1, "the deletion went on"
    assert _package(engine, package_id)["status"] == "pending"


# -- uploads


def test_an_upload_that_never_came_expires_and_one_that_comes_after_all_reopens_it(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    package_id = _uploading(engine)
    assert _sweep(engine, storage, settings).expired_uploads == 0
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '20 min'")
    assert _sweep(engine, storage, settings).expired_uploads == 0, "its form is still valid"
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '20 min'")
    _sql(engine, "UPDATE post_packages SET created_at = now() - interval '71 min'")
    assert _sweep(engine, storage, settings).expired_uploads == 1
    package = _package(engine, package_id)
    assert (package["status"], package["error_code"]) == ("error", "upload_expired")
    assert _run(engine, package_id)["status"] == "failed"

    landed = _land(f"uploads/{package_id}/archive.zip", samples.zip_of(GOOD))
    assert _ingest(landed, engine, storage) is Outcome.READY
    package = _package(engine, package_id)
    assert (package["status"], package["error_code"], package["job_id"]) == (
        "ready",
        None,
        _run(engine, package_id)["id"],
    )
    assert _count(engine, ingest_runs) == 1
    with engine.connect() as connection:
        kinds = list(connection.scalars(select(outbox.c.kind).order_by(outbox.c.id)))
    assert kinds == ["PackageRefused", "PackageReady"]


def test_an_upload_whose_event_was_lost_is_found(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    package_id = _uploading(engine)
    first = _land(f"uploads/{package_id}/archive.zip", samples.zip_of(GOOD))
    _land(f"uploads/{package_id}/archive.zip", b"a later one")
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '20 min'")
    _sql(engine, "UPDATE post_packages SET created_at = now() - interval '1 day'")
    assert _sweep(engine, storage, settings).found_uploads == 1
    assert _announced(settings) == [first]
    assert _ingest(first, engine, storage) is Outcome.READY


# -- lost events


def test_a_drop_whose_event_was_lost_is_found_by_the_walk(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = boto3.client("s3")
    known = _drop()
    assert _ingest(known, engine, storage) is Outcome.READY
    lost = [_land(f"drops/camworks/lost/{number}.zip", samples.zip_of(GOOD)) for number in range(5)]
    s3.put_object(Bucket="incoming", Key="drops/camworks/folder/", Body=b"")
    s3.delete_object(Bucket="incoming", Key=lost[0].key)  # a delete marker hides it; the version is there
    young = replace(settings, stale_seconds=3600)
    assert _sweep(engine, storage, young).lost_events == 0, "an event may still be on its way"

    now_stale = replace(settings, stale_seconds=1)
    monkeypatch.setattr(sweep, "PAGES_PER_RUN", 1)
    list_versions = Storage.list_versions

    def in_small_pages(self: Storage, bucket: str, prefix: str, **place: Any) -> Any:
        original = self._s3.list_object_versions
        monkeypatch.setattr(self._s3, "list_object_versions", lambda **a: original(**a | {"MaxKeys": 2}))
        try:
            yield from list_versions(self, bucket, prefix, **place)
        finally:
            monkeypatch.setattr(self._s3, "list_object_versions", original)

    monkeypatch.setattr(Storage, "list_versions", in_small_pages)
    boto3.client("sqs").purge_queue(QueueUrl=settings.ingest_queue_url)
    time.sleep(1.2)  # objects cannot be made older
    found: list[LandedObject] = []
    for _cycle in range(8):
        before = len(found)
        _sweep(engine, storage, now_stale)
        found += _announced(settings)
        if set(found) >= set(lost):
            break
        assert len(found) - before <= 2, "one page a run"
    assert set(found) == set(lost)
    for landed in lost:
        assert _ingest(landed, engine, storage) is Outcome.READY
    assert _count(engine, post_packages) == 6


def test_uploads_that_the_database_does_not_know_are_left_alone(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    """A database restored from yesterday must not cost today's originals."""
    package_id = _uploading(engine)
    landed = _land(f"uploads/{package_id}/archive.zip", samples.zip_of(GOOD))
    _ingest(landed, engine, storage)
    _sql(engine, "TRUNCATE post_packages CASCADE")
    time.sleep(1.2)  # objects cannot be made older
    swept = _sweep(engine, storage, replace(settings, stale_seconds=1))
    assert (swept.lost_events, swept.unknown_uploads) == (0, 1)
    assert _announced(settings) == []
    assert _objects("incoming") == {landed.key}


def test_a_walk_whose_place_is_no_longer_understood_starts_anew(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = _drop()
    _sql(engine, "INSERT INTO sweep_cursors (prefix, key_marker, version_marker) VALUES ('drops/', 'z', 'v')")
    time.sleep(1.2)
    real = Storage.list_versions

    def picky(self: Storage, bucket: str, prefix: str, **place: Any) -> Any:
        if place.get("after", ("", ""))[0]:
            raise Unavailable(detail="InvalidArgument: version id marker")
        return real(self, bucket, prefix, **place)

    monkeypatch.setattr(Storage, "list_versions", picky)
    with pytest.raises(Unavailable, match="InvalidArgument"):
        _sweep(engine, storage, replace(settings, stale_seconds=1))
    assert _sweep(engine, storage, replace(settings, stale_seconds=1)).lost_events == 1
    assert _announced(settings) == [lost]


def test_the_age_of_the_oldest_unfinished_package_counts_from_its_landing(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    def age() -> float:
        with engine.connect() as connection:
            return queries.oldest_unfinished_age(connection).total_seconds()

    assert age() == 0
    package_id = _uploading(engine)
    _sql(engine, "UPDATE ingest_runs SET created_at = now() - interval '1 h'")
    assert age() == 0, "nothing has landed"
    with engine.begin() as connection:
        queries.bind_source_version(connection, package_id, "v")
    assert 0 <= age() < 60
    _sql(engine, "UPDATE post_packages SET landed_at = now() - interval '10 min'")
    assert 600 <= age() < 660


# -- replay


def test_a_replay_is_a_new_job_with_the_same_result(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    package_id = _id_of(engine, landed)
    first = _run(engine, package_id)["id"]
    replayed = replay.replay(engine, storage, settings, package_id)
    assert replayed.job_id != first
    assert _package(engine, package_id)["status"] == "pending"
    assert _count(engine, post_files) == 2, "the files stay readable meanwhile"
    with pytest.raises(replay.NotFinal):
        replay.replay(engine, storage, settings, package_id)
    assert _announced(settings) == [landed]
    assert _ingest(landed, engine, storage) is Outcome.READY
    run = _run(engine, package_id)
    assert (run["id"], run["trigger"], run["attempt"]) == (replayed.job_id, "replay", 1)
    assert _count(engine, post_files) == 2


def test_a_replay_without_an_original_is_refused(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    storage.delete_original(landed.key, landed.version)
    with pytest.raises(replay.OriginalMissing):
        replay.replay(engine, storage, settings, _id_of(engine, landed))
    never = _uploading(engine)
    _sql(engine, "UPDATE post_packages SET created_at = now() - interval '1 day'")
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '1 day'")
    _sweep(engine, storage, settings)
    with pytest.raises(replay.OriginalMissing):
        replay.replay(engine, storage, settings, never)


def test_a_replay_can_refuse_what_was_ready_and_then_nothing_of_it_is_left(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    package_id = _id_of(engine, landed)
    replay.replay(engine, storage, settings, package_id)
    _sql(engine, "UPDATE post_packages SET platform = 'unheard-of'")
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    package = _package(engine, package_id)
    assert (package["status"], package["file_count"], package["ready_at"]) == ("error", 0, None)
    assert _count(engine, post_files) == 0
    _sweep(engine, storage, settings)  # the objects go after the rows: there is no moment with rows alone
    assert _objects("packages") == set()


def test_many_are_replayed_by_a_filter(engine: Engine, storage: Storage, settings: Settings) -> None:
    failed = [_drop() for _ in range(12)]
    ready = _drop()
    _ingest(ready, engine, storage)
    for landed in failed:
        ingestion.give_up(landed, engine=engine, storage=storage, longest_run=LONG, sent_at=_now())
    chosen = ReplayFilter(status=Status.ERROR, error_code="ingest_failed", platform="camworks")
    assert replay.replay_all(engine, settings, replace(chosen, platform="other"), limit=100) == []
    assert len(replay.replay_all(engine, settings, chosen, limit=5)) == 5
    assert len(replay.replay_all(engine, settings, chosen, limit=100)) == 7
    announced = _announced(settings)
    assert set(announced) == set(failed)
    for landed in announced:
        assert _ingest(landed, engine, storage) is Outcome.READY


def test_a_replay_that_could_not_be_announced_is_announced_by_the_sweeper(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    gone = replace(settings, ingest_queue_url=f"{settings.ingest_queue_url}-gone")
    replay.replay(engine, storage, gone, _id_of(engine, landed))
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '11 min'")
    assert _sweep(engine, storage, settings).requeued == 1
    assert _announced(settings) == [landed]


def test_the_newest_job_is_the_one_added_last_even_by_a_transaction_that_began_first(
    engine: Engine, database_url: str, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    package_id = _id_of(engine, landed)
    other = db.get_engine(Settings(database_url=database_url, database_tls="disable", environment="other"))
    with other.begin() as slow:
        slow.execute(text("SELECT now()"))  # its transaction begins here
        replay.replay(engine, storage, settings, package_id)
        assert _ingest(landed, engine, storage) is Outcome.READY
        added = queries.start_replay(slow, package_id)
    other.dispose()
    assert _package(engine, package_id)["job_id"] == added
    assert _ingest(landed, engine, storage) is Outcome.READY


@pytest.mark.parametrize("many", [False, True])
def test_a_replay_whose_original_vanishes_keeps_the_last_copy(
    engine: Engine, storage: Storage, settings: Settings, many: bool
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    package_id = _id_of(engine, landed)
    if many:
        storage.delete_original(landed.key, landed.version)
        assert replay.replay_all(engine, settings, ReplayFilter(), limit=10) == [package_id]
    else:
        replay.replay(engine, storage, settings, package_id)
        storage.delete_original(landed.key, landed.version)
    assert _ingest(landed, engine, storage) is Outcome.REFUSED
    package, run = _package(engine, package_id), _run(engine, package_id)
    assert (package["status"], package["error_code"], package["file_count"]) == ("ready", None, 2)
    assert (run["status"], run["error_code"]) == ("refused", "original_missing")
    assert len(_objects("packages")) == _count(engine, post_files) == 2


# -- giving up


def test_an_old_dead_letter_does_not_end_a_fresh_replay(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed, sent_at = _drop(), _now()

    def dead_letter() -> bool:
        return ingestion.give_up(landed, engine=engine, storage=storage, longest_run=LONG, sent_at=sent_at)

    assert dead_letter()
    replay.replay(engine, storage, settings, _id_of(engine, landed))
    assert not dead_letter()
    assert _ingest(landed, engine, storage) is Outcome.READY


def test_a_worker_that_lost_its_job_leaves_the_uploads_of_the_next_one_alone(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = _drop()
    package_id = _claimed(engine, landed, storage)
    s3, prefix = boto3.client("s3"), queries.package_prefix(package_id)

    def taken_over(_job: object) -> None:
        _sql(engine, "UPDATE ingest_runs SET lease_until = now() - interval '1 s'")
        with engine.begin() as connection:
            assert queries.claim_job(
                connection, package_id, lease=timedelta(minutes=1), request_id="b", longest_run=LONG
            )
        s3.create_multipart_upload(Bucket="packages", Key=f"{prefix}BIG.SRC")
        raise Unavailable(detail="a GET timed out")

    monkeypatch.setattr(ingestion.jobs._Job, "run", taken_over)
    with pytest.raises(Unavailable):
        _ingest(landed, engine, storage)
    assert len(s3.list_multipart_uploads(Bucket="packages")["Uploads"]) == 1
    assert _run(engine, package_id)["status"] == "running"


def test_giving_up_makes_a_record_of_what_has_none_and_spares_what_is_final_or_held(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    unknown, done, held = _drop(), _drop(), _drop()
    _ingest(done, engine, storage)
    _claimed(engine, held, storage, lease=60)
    outcomes = [
        ingestion.give_up(landed, engine=engine, storage=storage, longest_run=LONG, sent_at=_now())
        for landed in (unknown, done, held, unknown)
    ]
    assert outcomes == [True, False, False, False]
    assert _package(engine, _id_of(engine, unknown))["error_code"] == "ingest_failed"
    assert _package(engine, _id_of(engine, done))["status"] == "ready"
    assert _package(engine, _id_of(engine, held))["status"] == "pending"


def test_a_failed_replay_keeps_the_files_of_the_last_run_and_drops_its_own(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    package_id = _id_of(engine, landed)
    prefix = queries.package_prefix(package_id)
    kept = _objects("packages", prefix)
    replay.replay(engine, storage, settings, package_id)
    storage.put_file(f"{prefix}half.SRC", b"x", "00" * 32)
    assert ingestion.give_up(landed, engine=engine, storage=storage, longest_run=LONG, sent_at=_now())
    assert _sweep(engine, storage, settings).leftovers_removed == 1
    assert _objects("packages", prefix) == kept
    assert _count(engine, post_files) == 2
    assert _package(engine, package_id)["clean_up_after"] is None


# -- deletion


def test_deleting_takes_exactly_the_package(engine: Engine, storage: Storage, settings: Settings) -> None:
    key = f"drops/camworks/{uuid4()}/shared.zip"
    first = _land(key, samples.zip_of(GOOD))
    second = _land(key, samples.zip_of({**GOOD, "B.SRC": b"2"}))
    for landed in (first, second):
        assert _ingest(landed, engine, storage) is Outcome.READY
    with engine.connect() as connection:
        statement = select(post_packages.c.id).where(post_packages.c.source_version == first.version)
        package_id = connection.execute(statement).scalar_one()
    storage.put_file(f"bundles/{package_id}.zip", b"bundle", "00" * 32)
    assert deletion.delete_package(engine, storage, package_id, longest_run=LONG)
    assert _count(engine, post_packages) == 1
    assert _objects("packages", queries.package_prefix(package_id)) == set()
    assert _objects("packages", "bundles/") == set()
    versions = boto3.client("s3").list_object_versions(Bucket="incoming", Prefix=key)["Versions"]
    assert [version["VersionId"] for version in versions] == [second.version]
    assert deletion.delete_package(engine, storage, package_id, longest_run=LONG), "204 when repeated"
    # A late delivery of its event finds no object, and makes no package out of nothing.
    assert _ingest(first, engine, storage) is Outcome.IGNORED
    assert _count(engine, post_packages) == 1
    with engine.connect() as connection:
        kinds = list(connection.scalars(select(outbox.c.kind)))
    assert kinds == ["PackageReady", "PackageReady"]


def test_a_package_that_is_worked_on_is_busy(engine: Engine, storage: Storage, settings: Settings) -> None:
    package_id = _claimed(engine, _drop(), storage, lease=60)
    with pytest.raises(deletion.PackageBusy) as refused:
        deletion.delete_package(engine, storage, package_id, longest_run=LONG)
    assert refused.value.retry_after is not None
    assert 1 <= refused.value.retry_after <= 60
    assert _package(engine, package_id)["status"] == "pending"


def test_a_deletion_waits_for_a_worker_that_may_still_write(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    landed = _drop()
    package_id = _claimed(engine, landed, storage)
    assert deletion.delete_package(engine, storage, package_id, longest_run=LONG) is False
    assert _package(engine, package_id)["status"] == "deleting"
    assert _ingest(landed, engine, storage) is Outcome.IGNORED, "nobody takes a deleted package up"
    storage.put_file(f"{queries.package_prefix(package_id)}late.SRC", b"late", "00" * 32)
    assert _sweep(engine, storage, settings).deletions_finished == 0
    _sql(engine, "UPDATE post_packages SET clean_up_after = now() - interval '1 s'")
    assert _sweep(engine, storage, settings).deletions_finished == 1
    assert _count(engine, post_packages) == 0
    assert _objects("packages") == set()


def test_an_interrupted_deletion_is_finished_by_the_sweeper(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = _drop()
    _ingest(landed, engine, storage)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete_original", lambda *_args: (_ for _ in ()).throw(Unavailable()))
        with pytest.raises(Unavailable):
            deletion.delete_package(engine, storage, _id_of(engine, landed), longest_run=LONG)
    assert _sweep(engine, storage, settings).deletions_finished == 1
    assert _count(engine, post_packages) == 0
    assert _objects("incoming") == set()


def test_an_upload_that_lands_while_its_package_is_deleted_goes_with_it(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    package_id = _uploading(engine)
    with engine.begin() as connection:
        pending = queries.begin_deletion(connection, package_id, longest_run=LONG)
    landed = _land(f"uploads/{package_id}/archive.zip", samples.zip_of(GOOD))
    assert _ingest(landed, engine, storage) is Outcome.IGNORED
    assert _objects("incoming") == set()
    assert pending is not None
    assert deletion.go_on(engine, storage, pending)
    assert _count(engine, post_packages) == 0


def _lock_objects_of(package_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody delete a version of one package's objects, as a legal hold does."""
    real = Storage.delete_versions

    def delete_versions(self: Storage, bucket: str, versions: Any) -> int:
        if any(str(package_id) in version.key for version in versions):
            raise Unavailable(detail="object lock")
        return real(self, bucket, versions)

    monkeypatch.setattr(Storage, "delete_versions", delete_versions)


def test_one_package_that_cannot_be_deleted_holds_up_no_other(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for _ in range(3):
        landed = _drop()
        _ingest(landed, engine, storage)
        ids.append(_id_of(engine, landed))
    _sql(engine, "UPDATE post_packages SET status = 'deleting', clean_up_after = NULL")
    _sql(engine, "UPDATE post_packages SET updated_at = now() - interval '1 h' WHERE id = :id", id=ids[0])
    _lock_objects_of(ids[0], monkeypatch)
    with pytest.raises(Unavailable, match="object lock"):
        _sweep(engine, storage, settings)
    with engine.connect() as connection:
        assert list(connection.scalars(select(post_packages.c.id))) == [ids[0]]


def test_one_leftover_that_cannot_be_removed_holds_up_no_other(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for _ in range(2):
        landed = _drop()
        _ingest(landed, engine, storage)
        ids.append(_id_of(engine, landed))
        storage.put_file(f"{queries.package_prefix(ids[-1])}stray.SRC", b"x", "00" * 32)
    _sql(engine, "UPDATE post_packages SET clean_up_after = now() - interval '1 s'")
    _sql(engine, "UPDATE post_packages SET clean_up_after = now() - interval '1 h' WHERE id = :id", id=ids[0])
    _lock_objects_of(ids[0], monkeypatch)
    with pytest.raises(Unavailable, match="object lock"):
        _sweep(engine, storage, settings)
    due = _package(engine, ids[0])["clean_up_after"]
    assert due > _now()
    assert _package(engine, ids[1])["clean_up_after"] is None


def test_one_that_cannot_be_looked_after_does_not_keep_the_others_waiting(
    engine: Engine, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest of each kind fails every time: an object under a legal hold, an earlier stack's bucket."""
    deleted = [_drop(), _drop()]
    littered = [_drop(), _drop()]
    for landed in [*deleted, *littered]:
        _ingest(landed, engine, storage)
    uploading = [_uploading(engine), _uploading(engine)]
    _sql(engine, "UPDATE post_packages SET created_at = now() - interval '1 day'")
    _sql(engine, "UPDATE ingest_runs SET queued_at = now() - interval '1 day'")
    held = [deleted[0].key, str(_id_of(engine, littered[0])), f"uploads/{uploading[0]}/archive.zip"]
    for number, landed in enumerate(deleted):
        _sql(
            engine,
            "UPDATE post_packages SET status = 'deleting', updated_at = now() - make_interval(hours => :n)"
            " WHERE source_key = :key",
            n=2 - number,
            key=landed.key,
        )
    for number, landed in enumerate(littered):
        storage.put_file(f"packages/{_id_of(engine, landed)}/LATE.CTL", b"1", "0" * 64)
        _sql(
            engine,
            "UPDATE post_packages SET clean_up_after = now() - make_interval(hours => :n)"
            " WHERE source_key = :key",
            n=2 - number,
            key=landed.key,
        )
    _sql(
        engine,
        "UPDATE ingest_runs SET queued_at = now() - interval '2 days' WHERE package_id = :id",
        id=uploading[0],
    )

    def refusing(name: str) -> Any:
        real = getattr(Storage, name)

        def call(this: Storage, *args: Any, **kwargs: Any) -> Any:
            if any(key in str(argument) for key in held for argument in args):
                raise Unavailable(detail="AccessDenied")
            return real(this, *args, **kwargs)

        return call

    for name in ("delete_original", "list_uploads", "first_version"):
        monkeypatch.setattr(Storage, name, refusing(name))
    with pytest.raises(Unavailable, match="AccessDenied"):
        _sweep(engine, storage, settings)
    left = {landed.key for landed in deleted if _exists(engine, landed)}
    assert left == {deleted[0].key}
    assert {_package(engine, _id_of(engine, landed))["clean_up_after"] is None for landed in littered} == {
        True,
        False,
    }
    assert [_package(engine, each)["status"] for each in uploading] == ["pending", "error"]


def _exists(engine: Engine, landed: LandedObject) -> bool:
    with engine.connect() as connection:
        return (
            connection.scalar(
                select(func.count())
                .select_from(post_packages)
                .where(post_packages.c.source_key == landed.key)
            )
            == 1
        )


# -- events


def test_every_end_is_announced_once_and_in_order(
    engine: Engine, storage: Storage, settings: Settings
) -> None:
    sqs, events = boto3.client("sqs"), boto3.client("events")
    url = sqs.create_queue(QueueName=f"heard-{uuid4()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus = settings.event_bus_name
    pattern = json.dumps({"source": ["veripost"]})
    events.put_rule(Name="all", EventBusName=bus, EventPattern=pattern)
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "1", "Arn": arn}])
    good = [_drop() for _ in range(12)]
    for landed in good:
        _ingest(landed, engine, storage)
    bad = _drop({"prog.NC": b"G0"})
    _ingest(bad, engine, storage)
    lost = _drop()
    ingestion.give_up(lost, engine=engine, storage=storage, longest_run=LONG, sent_at=_now())

    assert announcing.publish(engine, settings, seconds_left=lambda: 50.0) == 14
    assert announcing.publish(engine, settings, seconds_left=lambda: 50.0) == 0
    heard = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            heard.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    told = {event["detail"]["package_id"]: event for event in heard}
    assert len(told) == len(heard) == 14
    assert {event["detail-type"] for event in heard} == {"PackageReady", "PackageRefused", "PackageFailed"}
    detail = told[str(_id_of(engine, bad))]["detail"]
    assert (detail["status"], detail["error_code"]) == ("error", "forbidden_extension")
    assert told[str(_id_of(engine, good[0]))]["detail"]["file_count"] == 2


def test_an_event_that_was_not_taken_stays(engine: Engine, storage: Storage, settings: Settings) -> None:
    _ingest(_drop(), engine, storage)

    class Refusing:
        def put_events(self, **request: Any) -> dict[str, Any]:
            return {"Entries": [{"ErrorCode": "ThrottlingException"} for _ in request["Entries"]]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(announcing, "_client", Refusing)
        with pytest.raises(Unavailable):
            announcing.publish(engine, settings, seconds_left=lambda: 50.0)
    assert _count(engine, outbox) == 1
    assert announcing.publish(engine, settings, seconds_left=lambda: 50.0) == 1
