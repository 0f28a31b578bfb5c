"""Starting packages anew, from the originals that were kept."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine

from veripost import ingest_queue, queries
from veripost.errors import Conflict, NotFound, Unavailable
from veripost.ingest_queue import LandedObject
from veripost.queries import ReplayFilter
from veripost.settings import Settings
from veripost.storage import Storage
from veripost.telemetry import logger

MOST_AT_ONCE = 1000


class OriginalMissing(Conflict):
    """There is nothing to start from."""

    code = "original_missing"
    message = "The uploaded file is no longer in the store, so the package cannot be processed again."


class NotFinal(Conflict):
    """The package has not ended, so it cannot start again."""

    code = "package_busy"
    message = "This package is still being worked on. Wait until it is ready or has failed."


@dataclass(frozen=True, slots=True)
class Replayed:
    """A package that was started anew, and its new job."""

    package_id: UUID
    job_id: UUID


def replay(engine: Engine, storage: Storage, settings: Settings, package_id: UUID) -> Replayed:
    """Start one package anew.

    Raises
    ------
    NotFound
        There is no such package.
    NotFinal
        It is neither `ready` nor `error`.
    OriginalMissing
        Its original is gone, or has never arrived.
    """
    with engine.connect() as connection:
        package = queries.get_package(connection, package_id)
    if package is None:
        raise NotFound("There is no such package.", code="package_not_found", detail=f"package {package_id}")
    if package["status"] not in queries.FINAL:
        raise NotFinal(detail=f"status {package['status']}")
    bucket, key, version = package["source_bucket"], package["source_key"], package["source_version"]
    size = None if version is None else storage.original_size(bucket, key, version)
    if size is None:
        raise OriginalMissing(detail=f"{key}, version {version}")
    with engine.begin() as connection:
        job_id = queries.start_replay(connection, package_id)
    if job_id is None:
        raise NotFinal(detail="it was started anew by somebody else a moment ago")
    _send([LandedObject(bucket, key, version, size)], settings)
    logger.info("replay started", extra={"package_id": str(package_id), "job_id": str(job_id)})
    return Replayed(package_id, job_id)


def replay_all(engine: Engine, settings: Settings, chosen: ReplayFilter, *, limit: int) -> list[UUID]:
    """Start up to `limit` final packages that match anew; return their ids.

    One whose original is gone keeps its files; its new job ends as `original_missing`.
    """
    with engine.connect() as connection:
        rows = queries.replayable(connection, chosen, limit=min(limit, MOST_AT_ONCE))
    started = []
    for row in rows:  # one transaction each: none waits for the locks of all others
        with engine.begin() as connection:
            if queries.start_replay(connection, row["id"]) is not None:
                started.append(row)
    _send(
        [
            LandedObject(
                row["source_bucket"], row["source_key"], row["source_version"], row["size_bytes"] or 0
            )
            for row in started
        ],
        settings,
    )
    logger.info("replays started", extra={"packages": len(started)})
    return [row["id"] for row in started]


def _send(objects: list[LandedObject], settings: Settings) -> None:
    try:
        ingest_queue.send(objects, settings=settings)
    except Unavailable as error:
        # The jobs are recorded as queued: the sweeper announces again what nobody claims.
        logger.warning("the sweeper will announce these replays", extra={"detail": error.detail})
