"""Whose turn it is, and what became of it: claims, visible states, and the one outcome of every job.

Two kinds of failure are never mixed. *Refused*: the package is at fault, the outcome is final and complete.
*Failed*: we are at fault, so the job is given back and the exception goes up to the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from veripost import queries, telemetry
from veripost.archive import Limits, merge, read_directory
from veripost.errors import (
    AppError,
    LeaseLost,
    Problem,
    ProblemCode,
    Severity,
    has_errors,
    refusal,
)
from veripost.ingest_queue import LandedObject
from veripost.ingestion.parsing import PackageReader
from veripost.ingestion.pipeline import OutOfTime, extract
from veripost.models import Status, Trigger
from veripost.platforms import registry, rules
from veripost.queries import Amount, Claim, Source
from veripost.settings import Settings
from veripost.storage import ObjectMissing, Storage, upload_owner
from veripost.telemetry import logger

_PROGRESS_SECONDS = 2.0  # between two looks at what is stored, for whoever watches
_HAND_BACK_SECONDS = 10.0  # what is kept of a function's time to hand the job back in good order


class Outcome(StrEnum):
    """What became of a landed object. All of these mean: the message is done with."""

    READY = "ready"
    REFUSED = "refused"
    IGNORED = "ignored"  # a duplicate delivery, a folder marker, an object that belongs to nobody
    SUPERSEDED = "superseded"  # another worker took the job over meanwhile


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """What ingestion needs of the settings."""

    limits: Limits
    lease: timedelta
    longest_run: timedelta  # after its lease ran out, a worker may still write for that long
    cpu_workers: int
    extra_extensions: tuple[str, ...]


def config_of(settings: Settings) -> IngestConfig:
    """Return ingestion's part of `settings`."""
    return IngestConfig(
        limits=Limits(**settings.archive_limits),
        lease=timedelta(seconds=settings.lease_seconds),
        longest_run=timedelta(seconds=settings.ingest_timeout_seconds),
        cpu_workers=settings.ingest_cpu_workers,
        extra_extensions=settings.extra_extensions,
    )


def ingest(
    landed: LandedObject,
    *,
    engine: Engine,
    storage: Storage,
    config: IngestConfig,
    request_id: str,
    seconds_left: Callable[[], float],
) -> Outcome:
    """Take one landed object all the way to `ready` or to a refusal that lists everything.

    Safe to call any number of times and by several workers at once: the row's unique source and the lease
    let exactly one of them work, the others are `IGNORED` or `SUPERSEDED`.

    Raises
    ------
    Exception
        Anything that is our fault (database or storage down, out of time). The job has been given back, and
        the message must be delivered again.
    """
    package_id = _package_of(landed, engine=engine, storage=storage)
    if package_id is None:
        return Outcome.IGNORED
    with engine.begin() as connection:
        claim = queries.claim_job(
            connection,
            package_id,
            lease=config.lease,
            request_id=request_id,
            longest_run=config.longest_run,
        )
    if claim is None:
        return Outcome.IGNORED
    if claim.attempt == 1 and claim.trigger is not Trigger.REPLAY:
        telemetry.emit({"PackagesReceived": 1, "ReceivedBytes": landed.size})
    with logger.append_context_keys(package_id=str(package_id), job_id=str(claim.run_id)):
        try:
            with _Heartbeat(engine, claim, config.lease, seconds_left) as heartbeat:
                return _Job(
                    claim, landed, engine=engine, storage=storage, config=config, heartbeat=heartbeat
                ).run()
        except LeaseLost:
            logger.warning("another worker took this job over")
            return Outcome.SUPERSEDED
        except Exception as error:
            logger.exception("ingestion failed; the job is given back")
            _give_back(engine, storage, claim, error, lease=config.lease)
            raise


def give_up(
    landed: LandedObject, *, engine: Engine, storage: Storage, longest_run: timedelta, sent_at: datetime
) -> bool:
    """End the job of an object that was delivered too often as `ingest_failed`; False if it had ended.

    `sent_at` is when its message was sent. Nothing happens to a package that is final, whose worker's lease
    lives, or that was started anew since. An object that has no record yet gets one, so that what landed can
    be found.
    """
    package_id = _package_of(landed, engine=engine, storage=storage)
    if package_id is None:
        return False
    with logger.append_context_keys(package_id=str(package_id)), engine.begin() as connection:
        job_id = queries.fail_job(
            connection,
            package_id,
            why="given up after too many deliveries",
            longest_run=longest_run,
            sent_at=sent_at,
        )
        if job_id is not None:
            telemetry.emit({"PackagesFailed": 1})
            logger.error("package given up", extra={"job_id": str(job_id), "key": landed.key})
    return job_id is not None


def _package_of(landed: LandedObject, *, engine: Engine, storage: Storage) -> UUID | None:
    """Find or make the package that `landed` belongs to; None when there is nothing to ingest."""
    door, _, rest = landed.key.partition("/")
    if door == "uploads":
        return _package_of_upload(landed, engine=engine, storage=storage)
    folder_marker = landed.key.endswith("/") and landed.size == 0
    if door == "drops" and not folder_marker:
        return _package_of_drop(landed, rest, engine=engine)
    logger.info("nothing to ingest", extra={"key": landed.key})
    return None


def _package_of_upload(landed: LandedObject, *, engine: Engine, storage: Storage) -> UUID | None:
    pinned = None
    package_id = upload_owner(landed.key)
    if package_id is not None:
        with engine.begin() as connection:
            pinned = queries.bind_source_version(connection, package_id, landed.version)
        if pinned == landed.version:
            return package_id
    # Nobody asked for this object: its row is gone, or an earlier upload to the same key came first.
    storage.delete_original(landed.key, landed.version)
    logger.info("deleted an upload that belongs to no package", extra={"key": landed.key, "pinned": pinned})
    return None


def _package_of_drop(landed: LandedObject, rest: str, *, engine: Engine) -> UUID | None:
    platform, slash, path = rest.partition("/")
    if not slash:
        platform, path = "", rest
    with engine.begin() as connection:
        return queries.add_landed_package(
            connection,
            name=rules.stem_of(path),
            platform=platform,
            source=Source(landed.bucket, landed.key, landed.version),
            size_bytes=landed.size,
        )


def _give_back(engine: Engine, storage: Storage, claim: Claim, error: Exception, *, lease: timedelta) -> None:
    code = error.code if isinstance(error, AppError) else "internal_error"
    message = error.message if isinstance(error, AppError) else AppError.message
    try:
        with engine.begin() as connection:
            held = queries.renew_lease(connection, claim, lease=lease)
        if not held:
            return  # what is under way below the prefix is another worker's
        with suppress(AppError):  # if the store is what failed, the sweeper does it after the job
            storage.abort_uploads(queries.package_prefix(claim.package_id))
        with engine.begin() as connection:
            queries.give_back(connection, claim, code=code, message=message)
    except SQLAlchemyError:
        # The database is what failed: the lease runs out by itself, and the next delivery claims the job.
        logger.exception("could not give the job back; its lease will run out")


class _Stored:
    """How much has become objects so far; the threads that PUT add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._amount = Amount(0, 0)

    @property
    def amount(self) -> Amount:
        return self._amount

    def add(self, size: int) -> None:
        with self._lock:
            self._amount = Amount(self._amount.files + 1, self._amount.bytes + size)


class _Heartbeat:
    """Renews the lease on a thread of its own, so that no long read or PUT can let it run out.

    With it goes how much is stored, which is why it beats more often while that grows.
    """

    def __init__(
        self, engine: Engine, claim: Claim, lease: timedelta, seconds_left: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._claim = claim
        self._lease = lease
        self._seconds_left = seconds_left
        self.stored = _Stored()
        self._told = self.stored.amount
        self._lost = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def renew(self) -> None:
        """Renew the lease now; note it when another worker has the job."""
        stored = self.stored.amount
        changed = None if stored == self._told else stored
        with self._engine.begin() as connection:
            self._lost = not queries.renew_lease(connection, self._claim, lease=self._lease, stored=changed)
        self._told = stored

    def check(self) -> None:
        """Raise `LeaseLost` when another worker has the job, `OutOfTime` when ours is nearly over."""
        self.check_lease()
        if self._seconds_left() < _HAND_BACK_SECONDS:
            raise OutOfTime(detail=f"less than {_HAND_BACK_SECONDS:.0f} s of the function's time are left")

    def check_lease(self) -> None:
        """Raise `LeaseLost` when another worker has the job."""
        if self._lost:
            raise _lease_lost(self._claim)

    def _run(self) -> None:
        beat = self._lease.total_seconds() / 3
        waited = 0.0
        while not self._stopped.wait(step := min(beat - waited, _PROGRESS_SECONDS)):
            waited += step
            if waited < beat and self.stored.amount == self._told:
                continue
            waited = 0.0
            try:
                self.renew()
            except SQLAlchemyError as error:
                # One missed beat is no harm: every write checks the claim, whoever holds it then.
                logger.warning("could not renew the lease", extra={"detail": str(error)})


class _Job:
    """One claimed job: its states and its end."""

    def __init__(
        self,
        claim: Claim,
        landed: LandedObject,
        *,
        engine: Engine,
        storage: Storage,
        config: IngestConfig,
        heartbeat: _Heartbeat,
    ) -> None:
        self._claim = claim
        self._landed = landed
        self._engine = engine
        self._storage = storage
        self._config = config
        self._heartbeat = heartbeat
        self._prefix = queries.package_prefix(claim.package_id)
        self._stage = Status.PENDING
        self._stage_began = self._began = time.monotonic()
        self._durations: dict[str, timedelta] = {}

    def run(self) -> Outcome:
        self._advance(Status.VALIDATING)
        with self._engine.connect() as connection:
            package = queries.get_package(connection, self._claim.package_id)
        if package is None:
            raise LeaseLost(detail="the package was deleted")
        platform = registry.find(package["platform"], self._config.extra_extensions)
        if platform is None:
            return self._refuse([rules.unknown_platform(package["platform"])])
        try:
            return self._ingest(platform, fallback_name=package["name"])
        except ObjectMissing as missing:
            return self._end_without_original(_original_missing(missing))

    def _ingest(self, platform: registry.Platform, *, fallback_name: str) -> Outcome:
        reader = self._storage.open_original(self._landed.bucket, self._landed.key, self._landed.version)
        directory = read_directory(reader, self._config.limits)
        if not directory.readable:
            return self._refuse(directory.problems, size=reader.size)
        selection = rules.select(platform, [(member.name, member.size) for member in directory.members])
        sizes = [directory.members[file.index].size for file in selection.files]
        package_reader = PackageReader(platform, selection.files, sizes)
        publish = directory.accepted and not has_errors(selection.problems)
        if publish:
            sizes = [directory.members[file.index].size for file in selection.files]
            self._advance(Status.STORING, total=Amount(len(sizes), sum(sizes)))
        extraction = extract(
            reader,
            directory,
            selection.files,
            prefix=self._prefix,
            storage=self._storage,
            limits=self._config.limits,
            cpu_workers=self._config.cpu_workers,
            publish=publish,
            contents=package_reader,
            check=self._heartbeat.check,
            note_stored=self._heartbeat.stored.add,
        )
        found = (*selection.problems, *extraction.problems)
        problems = merge(directory, found, self._config.limits)
        content_hash = extraction.content_hash
        if content_hash is None or has_errors(problems):
            return self._refuse(problems, size=reader.size, content_hash=content_hash)
        self._advance(Status.PARSING)
        contents, notices = package_reader.conclude()
        problems = merge(directory, (*found, *notices), self._config.limits)
        with self._engine.begin() as connection:
            written = queries.finish_ready(
                connection,
                self._claim,
                name=selection.name or fallback_name,
                files=extraction.files,
                contents=contents,
                problems=[problem.as_dict() for problem in problems],
                size_bytes=reader.size,
                content_hash=content_hash,
            )
        total = sum(file.size_bytes for file in extraction.files)
        self._end(written)
        telemetry.emit(
            {
                "PackagesReady": 1,
                "FilesStored": len(extraction.files),
                "StoredBytes": total,
                **self._durations,
            }
        )
        logger.info("ingestion ended", extra={"outcome": Outcome.READY, "files": len(extraction.files)})
        return Outcome.READY

    def _end_without_original(self, problem: Problem) -> Outcome:
        if self._claim.trigger is Trigger.REPLAY:
            with self._engine.begin() as connection:
                written = queries.finish_without_original(
                    connection,
                    self._claim,
                    code=problem.code,
                    message=problem.message,
                    detail=problem.detail,
                )
            self._end(written)
            logger.warning("the original of a replay is gone; its files stay", extra={"code": problem.code})
            return Outcome.REFUSED
        if self._claim.trigger is Trigger.DROP and self._claim.attempt == 1:
            # Whoever dropped it took it back for good, or deleted its package while this message waited.
            with self._engine.begin() as connection:
                written = queries.forget_package(connection, self._claim)
            self._end(written)
            logger.info("a drop was gone before it was read", extra={"key": self._landed.key})
            return Outcome.IGNORED
        return self._refuse([problem])

    def _refuse(
        self, problems: Sequence[Problem], *, size: int | None = None, content_hash: str | None = None
    ) -> Outcome:
        self._heartbeat.renew()
        self._heartbeat.check_lease()  # never delete what another worker has begun to write
        if self._claim.trigger is not Trigger.REPLAY:  # or else rows would be left whose objects are gone
            self._storage.delete_prefix(self._prefix)
        error = refusal(problems)
        with self._engine.begin() as connection:
            written = queries.finish_refused(
                connection,
                self._claim,
                code=error.code,
                message=error.message,
                detail=error.detail,
                problems=[problem.as_dict() for problem in problems],
                size_bytes=size,
                content_hash=content_hash,
            )
        self._end(written)
        telemetry.emit({"PackagesRefused": 1, **self._durations})
        telemetry.emit({"RefusalsByCode": 1}, code=error.code)
        logger.info("ingestion ended", extra={"outcome": Outcome.REFUSED, "code": error.code})
        return Outcome.REFUSED

    def _end(self, written: bool) -> None:
        if not written:
            raise _lease_lost(self._claim)
        self._note_stage()
        self._durations["IngestionDuration"] = timedelta(seconds=time.monotonic() - self._began)

    def _note_stage(self) -> None:
        now = time.monotonic()
        if self._stage is not Status.PENDING:
            self._durations[f"{self._stage.capitalize()}Duration"] = timedelta(
                seconds=now - self._stage_began
            )
        self._stage_began = now

    def _advance(self, status: Status, *, total: Amount | None = None) -> None:
        self._note_stage()
        self._stage = status
        with self._engine.begin() as connection:
            if not queries.advance(connection, self._claim, status, total=total):
                raise _lease_lost(self._claim)


def _lease_lost(claim: Claim) -> LeaseLost:
    return LeaseLost(detail=f"attempt {claim.attempt} no longer holds job {claim.run_id}")


def _original_missing(missing: ObjectMissing) -> Problem:
    return Problem(
        code=ProblemCode.ORIGINAL_MISSING,
        severity=Severity.ERROR,
        member=None,
        message="The uploaded file was deleted before VeriPost could read it.",
        detail=missing.detail,
        hint="Upload it again.",
    )
