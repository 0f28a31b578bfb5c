"""Polling: ETags, when to ask again, waiting for news, and progress while files are being stored."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from sqlalchemy import Engine, create_engine, select, text

from functions.status import app as status_app
from localcloud import samples
from tests.integration.gateway import call
from veripost import catalog, db, ingestion, keys, queries, settings
from veripost.errors import NotFound
from veripost.ingest_queue import LandedObject
from veripost.models import Trigger, post_packages
from veripost.queries import Source
from veripost.schemas import CreateKey
from veripost.settings import Settings
from veripost.storage import Storage


@pytest.fixture
def key(engine: Engine) -> str:
    return keys.mint(engine, CreateKey.model_validate({"client_name": "t", "scopes": ["read"]})).key


@pytest.fixture(autouse=True)
def _deployed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATABASE_TLS", "disable")
    monkeypatch.setenv("MAX_WAITING", "2")
    settings.get_settings.cache_clear()
    own = db.get_engine(settings.get_settings())
    yield
    own.dispose()
    settings.get_settings.cache_clear()


@pytest.fixture
def beside(database_url: str) -> Iterator[Engine]:
    """Connections beside the one that the functions share."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+pg8000://"), pool_size=10)
    yield engine
    engine.dispose()


def _announced(engine: Engine) -> UUID:
    package_id = uuid4()
    with engine.begin() as connection:
        queries.add_package(
            connection,
            package_id=package_id,
            name="p",
            platform="camworks",
            source=Source("incoming", f"uploads/{package_id}/archive.zip", None),
            trigger=Trigger.API,
            size_bytes=1,
        )
    return package_id


def _set(engine: Engine, package_id: UUID, values: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE post_packages SET {values}, updated_at = now() WHERE id = :id"), {"id": package_id}
        )


_ENDS = "status = 'error', error_code = 'not_a_zip', error_message = 'no'"


# -- ETags and when to ask again


@pytest.mark.parametrize("view", ["", "/status"])
def test_what_has_not_changed_is_not_sent_again(engine: Engine, key: str, view: str) -> None:
    package_id = _announced(engine)
    path = f"/v1/packages/{package_id}{view}"
    status, first, headers = call(status_app, "GET", path, key=key)
    tag = headers["ETag"]
    assert status == 200
    assert tag.startswith('"')  # strong
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Retry-After"] == "1"

    for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        status, body, headers = call(status_app, "GET", path, key=key, headers={"if-none-match": named})
        assert (status, body, headers["ETag"]) == (304, {}, tag)
        assert headers["Retry-After"] == "1"

    _set(engine, package_id, _ENDS)
    status, second, headers = call(status_app, "GET", path, key=key, headers={"If-None-Match": tag})
    assert (status, second["status"]) == (200, "error")
    assert headers["ETag"] != tag
    assert "Retry-After" not in headers
    assert first != second


def test_a_304_is_not_for_strangers(engine: Engine) -> None:
    path = f"/v1/packages/{_announced(engine)}/status"
    assert call(status_app, "GET", path, headers={"If-None-Match": "*"})[0] == 401


@pytest.mark.parametrize(
    ("status", "quiet", "expected"),
    [("pending", 0, 1), ("storing", 14, 1), ("storing", 30, 3), ("pending", 3600, 5), ("storing", -60, 1),
     ("deleting", 0, 1), ("ready", 0, None), ("error", 0, None)],
)  # fmt: skip
def test_the_longer_nothing_happens_the_later_to_ask(status: str, quiet: int, expected: int | None) -> None:
    then = datetime.now(UTC) - timedelta(seconds=quiet)
    assert catalog.ask_again_after(status, then) == expected


# -- waiting


def _wait(engine: Engine, package_id: UUID, seconds: int, *, most: int = 2, news: bool = False) -> Any:
    started = time.monotonic()
    view = catalog.wait_for_status(engine, package_id, seconds=seconds, is_news=lambda _view: news, most=most)
    return view.status, time.monotonic() - started


def test_waiting_ends_when_the_package_does(engine: Engine, beside: Engine) -> None:
    package_id = _announced(engine)
    timer = threading.Timer(0.7, _set, (beside, package_id, _ENDS))
    timer.start()
    status, seconds = _wait(engine, package_id, 10)
    timer.join()
    assert status == "error"
    assert 0.7 <= seconds < 2.5
    assert _slots(engine) == 0


def test_waiting_ends_with_the_time_that_was_asked_for(engine: Engine) -> None:
    status, seconds = _wait(engine, _announced(engine), 1)
    assert status == "pending"
    assert 1 <= seconds < 2


def test_nothing_waits_for_what_is_known(engine: Engine) -> None:
    package_id = _announced(engine)
    assert _wait(engine, package_id, 0)[1] < 0.4
    assert _wait(engine, package_id, 10, news=True)[1] < 0.4
    _set(engine, package_id, _ENDS)
    assert _wait(engine, package_id, 10)[1] < 0.4
    with pytest.raises(NotFound):
        _wait(engine, uuid4(), 10)


def test_waiting_over_http_ends_at_once_with_news_and_with_304_without(
    engine: Engine, beside: Engine, key: str
) -> None:
    package_id = _announced(engine)
    path = f"/v1/packages/{package_id}/status"
    tag = call(status_app, "GET", path, key=key)[2]["ETag"]
    known = {"If-None-Match": tag}
    assert call(status_app, "GET", path, key=key, query={"wait": "1"}, headers=known)[0] == 304

    timer = threading.Timer(0.2, _set, (beside, package_id, "status = 'validating'"))
    timer.start()
    started = time.monotonic()
    status, body, headers = call(status_app, "GET", path, key=key, query={"wait": "20"}, headers=known)
    timer.join()
    assert (status, body["status"], headers["Retry-After"]) == (200, "validating", "1")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("text", ["-1", "21", "1.5", "x", "", "²", "9" * 5000])
def test_a_wrong_wait_is_named(engine: Engine, key: str, text: str) -> None:
    path = f"/v1/packages/{_announced(engine)}/status"
    status, body, _ = call(status_app, "GET", path, key=key, query={"wait": text})
    assert (status, body["code"]) == (422, "invalid_fields")
    assert "wait" in body["detail"]


def test_the_connection_is_given_back_between_two_looks(engine: Engine) -> None:
    package_id = _announced(engine)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(_wait, engine, package_id, 2)
        time.sleep(0.25)
        taken = []
        for _ in range(100):
            time.sleep(0.002)
            taken.append(engine.pool.checkedout())  # type: ignore[attr-defined]
        waiting.result()
    assert sum(taken) < 50


# -- how many may wait


def _slots(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM waiting_slots WHERE held_until > now()")) or 0


def test_only_so_many_wait_at_once_over_all_processes(beside: Engine) -> None:
    package_id = _announced(beside)
    with ThreadPoolExecutor(8) as threads:
        spent = [
            future.result()[1]
            for future in [threads.submit(_wait, beside, package_id, 2, most=3) for _ in range(8)]
        ]
    waited = [seconds for seconds in spent if seconds > 1.5]
    assert 1 <= len(waited) <= 3
    assert all(seconds < 1 for seconds in spent if seconds not in waited)
    assert _slots(beside) == 0
    assert _wait(beside, package_id, 5, most=0)[1] < 0.5


def test_slots_are_never_given_twice_and_all_of_them_are_given(beside: Engine) -> None:
    hold = timedelta(seconds=60)

    def take() -> queries.Slot | None:
        with beside.begin() as connection:
            return queries.take_slot(connection, most=5, hold=hold)

    with ThreadPoolExecutor(10) as threads:
        for _ in range(5):
            for future in [threads.submit(take) for _ in range(10)]:
                future.result()
    assert _slots(beside) == 5  # ten at a time: whoever lost a slot to another found the rest later
    assert take() is None
    with beside.begin() as connection:
        connection.execute(text("UPDATE waiting_slots SET held_until = now() WHERE slot = 3"))
    taken = take()
    assert taken is not None  # a process that was cut off holds its slot no longer than that
    assert taken.number == 3
    with beside.begin() as connection:
        late = replace(taken, held_until=taken.held_until - hold)
        queries.give_slot_back(connection, late)  # by one whose time was over: it is another's now
    assert _slots(beside) == 5
    with beside.begin() as connection:
        queries.give_slot_back(connection, taken)
        assert _slots(beside) == 5  # not committed yet
    assert _slots(beside) == 4
    with beside.begin() as connection:
        connection.execute(text("DELETE FROM waiting_slots"))


# -- progress


def test_progress_is_seen_while_files_are_stored(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"A.SRC": b"x" * 1000, "B.LIB": b"y" * 2000, "C.LIB": b"z" * 4000}
    data = samples.zip_of(files | {"__MACOSX/._A.SRC": b"junk"})
    landed_key = f"drops/camworks/{uuid4()}.zip"
    version = boto3.client("s3").put_object(Bucket="incoming", Key=landed_key, Body=data)["VersionId"]
    real, seen = Storage.put_file, list[Any]()

    def watched(store: Storage, name: str, content: bytes, sha256: str) -> None:
        if name.endswith("C.LIB"):
            with engine.connect() as connection:
                package_id = connection.execute(
                    select(post_packages.c.id).where(post_packages.c.source_key == landed_key)
                ).scalar_one()
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                seen.append(catalog.get_status(engine, package_id))
                if seen[-1].progress.files_stored == 2:
                    break
                time.sleep(0.05)
        real(store, name, content, sha256)

    monkeypatch.setattr(Storage, "put_file", watched)
    outcome = ingestion.ingest(
        LandedObject("incoming", landed_key, version, len(data)),
        engine=engine,
        storage=storage,
        config=replace(ingestion.config_of(Settings()), lease=timedelta(seconds=60)),
        request_id="r",
        seconds_left=lambda: 300.0,
    )
    assert outcome is ingestion.Outcome.READY
    last = seen[-1]
    assert (last.status, last.file_count) == ("storing", 0)
    assert (last.progress.files_stored, last.progress.files_total) == (2, 3)
    assert (last.progress.bytes_stored, last.progress.bytes_total) == (3000, 7000)
    final = catalog.get_status(engine, last.package_id)
    assert json.loads(final.progress.model_dump_json()) == {
        "files_stored": 3,
        "files_total": 3,
        "bytes_stored": 7000,
        "bytes_total": 7000,
        "bytes_received": len(data),
    }
