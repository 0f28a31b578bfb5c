"""The sweeper: once a minute it finds what nobody works on and sees that it goes on, or ends.

Every step takes a bounded number of things, oldest first, so that one run is short however much there is;
`docs/reliability.md` says how long a full cycle of each takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Engine

from veripost import ingest_queue, queries, telemetry
from veripost.ingest_queue import LONGEST_BACKOFF_SECONDS, LandedObject
from veripost.queries import Deletion, Forgotten, Waiting
from veripost.settings import Settings
from veripost.storage import ObjectVersion, Storage
from veripost.telemetry import logger
from veripost.upkeep import deletion

JOBS_PER_RUN: Final = 500
UPLOADS_PER_RUN: Final = 200
DELETIONS_PER_RUN: Final = 20
CLEANUPS_PER_RUN: Final = 50
PAGES_PER_RUN: Final = 10  # of 1,000 object versions, for each prefix
BACKLOG: Final = 1000
"""With more messages than this in the queue, a job that waits is waiting for its turn: leave it alone."""
PREFIXES: Final = ("drops/", "uploads/")
_RESERVE_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """What the sweeper needs of the settings."""

    stale: timedelta
    upload_valid: timedelta
    longest_run: timedelta
    first_backoff: timedelta
    attempts: int


def config_of(settings: Settings) -> SweepConfig:
    """Return the sweeper's part of `settings`."""
    stale = timedelta(seconds=settings.stale_seconds)
    return SweepConfig(
        stale=stale,
        # S3 takes what began before the form expired, however long it takes: leave it that much longer.
        upload_valid=timedelta(seconds=settings.upload_url_seconds) + stale,
        longest_run=timedelta(seconds=settings.ingest_timeout_seconds),
        first_backoff=timedelta(seconds=settings.retry_backoff_seconds),
        attempts=settings.max_receive_count,
    )


@dataclass(slots=True)
class Swept:
    """What one run did, each a count; the metrics of the same names carry them."""

    taken_over: int = 0  # jobs whose worker is lost, announced again
    requeued: int = 0  # jobs that nobody claimed, announced again
    given_up: int = 0  # jobs with too many attempts, ended as `ingest_failed`
    found_uploads: int = 0  # uploads that landed although no event said so
    expired_uploads: int = 0  # uploads that can never arrive, ended as `upload_expired`
    lost_events: int = 0  # object versions without a row, announced again
    deletions_finished: int = 0
    leftovers_removed: int = 0  # object versions and unfinished uploads without a row


class Sweeper:
    """One run. Its steps stand alone: a part that is down stops the steps that need it, and no others."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        settings: Settings,
        *,
        seconds_left: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._storage = storage
        self._settings = settings
        self._config = config_of(settings)
        self._seconds_left = seconds_left
        self.swept = Swept()

    def run(self) -> Swept:
        """Do every step once, and report counts as metrics.

        Raises
        ------
        Exception
            What the first failing step raised, after all others have had their turn.
        """
        failure: Exception | None = None
        for step in (
            self.look_after_jobs,
            self.look_after_uploads,
            self.finish_deletions,
            self.remove_leftovers,
            self.find_lost_events,
        ):
            if self._seconds_left() < _RESERVE_SECONDS:
                logger.warning("no time left for this step", extra={"step": step.__name__})
                break
            try:
                step()
            except Exception as error:
                logger.exception("a step of the sweeper failed", extra={"step": step.__name__})
                failure = failure or error
        self._report()
        if failure is not None:
            raise failure
        return self.swept

    def look_after_jobs(self) -> None:
        """Announce jobs again whose worker is lost or that nobody claimed; end those tried too often."""
        calm = ingest_queue.backlog(self._settings) <= BACKLOG
        with self._engine.connect() as connection:
            jobs = queries.forgotten_jobs(
                connection,
                stale=self._config.stale,
                first_backoff=self._config.first_backoff,
                longest_backoff=timedelta(seconds=LONGEST_BACKOFF_SECONDS),
                waiting_too=calm,
                limit=JOBS_PER_RUN,
            )
        hopeless = [job for job in jobs if job.attempt >= self._config.attempts]
        hopeful = [job for job in jobs if job.attempt < self._config.attempts]
        for job in hopeless:
            self._give_up(job)
        # Announced first: were it the other way round, dying in between would lose the announcement.
        self._send(_landed(job) for job in hopeful)
        for job in hopeful:
            if job.lease_ran_out:
                with self._engine.begin() as connection:
                    queries.interrupt_job(connection, job, longest_run=self._config.longest_run)
                self.swept.taken_over += 1
        waited = [job for job in hopeful if not job.lease_ran_out]
        self.swept.requeued += len(waited)
        self._note_requeued([job.run_id for job in waited])
        for job in hopeful:
            logger.warning(
                "job announced again",
                extra={
                    "package_id": str(job.package_id),
                    "job_id": str(job.run_id),
                    "attempt": job.attempt,
                    "lease_ran_out": job.lease_ran_out,
                },
            )

    def _give_up(self, job: Forgotten) -> None:
        why = f"given up after {job.attempt} attempts"
        with self._engine.begin() as connection:
            failed = queries.fail_job(
                connection, job.package_id, why=why, longest_run=self._config.longest_run
            )
        if failed:
            self.swept.given_up += 1
            logger.error(
                "package given up", extra={"package_id": str(job.package_id), "job_id": str(job.run_id)}
            )

    def look_after_uploads(self) -> None:
        """Announce uploads that landed without an event, and expire those that can never arrive."""
        with self._engine.connect() as connection:
            waiting = queries.waiting_uploads(
                connection,
                stale=self._config.stale,
                valid=self._config.upload_valid,
                limit=UPLOADS_PER_RUN,
            )
        looked_at: list[UUID] = []

        def look_after(upload: Waiting) -> None:
            arrived = self._storage.first_version(upload.source.bucket, upload.source.key)
            if arrived is not None:
                self._send([_landed_version(upload.source.bucket, arrived)])
                self.swept.found_uploads += 1
                logger.warning("lost event found", extra={"package_id": str(upload.package_id)})
            elif upload.overdue:
                with self._engine.begin() as connection:
                    if queries.expire_upload(connection, upload.package_id):
                        self.swept.expired_uploads += 1
                        logger.info("upload expired", extra={"package_id": str(upload.package_id)})
                return
            looked_at.append(upload.run_id)

        try:
            self._for_each(waiting, look_after)
        finally:
            self._note_requeued(looked_at)

    def finish_deletions(self) -> None:
        """Go on with deletions that were interrupted, or that had to wait for a late worker."""
        with self._engine.connect() as connection:
            pending = queries.pending_deletions(connection, limit=DELETIONS_PER_RUN)

        def finish(each: Deletion) -> None:
            if deletion.go_on(self._engine, self._storage, each):
                self.swept.deletions_finished += 1

        self._for_each(pending, finish)

    def remove_leftovers(self) -> None:
        """Remove what workers that lost their lease left below the prefixes of final packages."""
        with self._engine.connect() as connection:
            due = queries.due_cleanups(connection, limit=CLEANUPS_PER_RUN)
        self._for_each(due, self._clean_up)

    def _clean_up(self, cleanup: tuple[UUID, datetime]) -> None:
        package_id, since = cleanup
        # Listed first, looked up second: what is listed and has no row by then is nobody's, and what a new
        # job writes meanwhile is not on the list.
        prefix = queries.package_prefix(package_id)
        pages = list(self._storage.list_versions(self._storage.packages, prefix))
        uploads = self._storage.list_uploads(prefix)
        with self._engine.connect() as connection:
            recorded = queries.recorded_keys(connection, package_id)
        if recorded is None:
            return
        for page in pages:
            strays = [version for version in page.versions if version.key not in recorded]
            self.swept.leftovers_removed += self._storage.delete_versions(self._storage.packages, strays)
        self.swept.leftovers_removed += self._storage.abandon(uploads)
        with self._engine.begin() as connection:
            queries.end_cleanup(connection, package_id, since)

    def find_lost_events(self) -> None:
        """Walk on through the incoming bucket and announce every old version that has no row."""
        if ingest_queue.backlog(self._settings) > BACKLOG:
            logger.info("the walk through the bucket waits until the queue is shorter")
            return
        for prefix in PREFIXES:
            with self._engine.connect() as connection:
                place = queries.load_cursor(connection, prefix)
            pages = self._storage.list_versions(self._storage.incoming, prefix, after=place)
            for number, page in enumerate(pages, start=1):
                self._announce_unknown(page.versions)
                with self._engine.begin() as connection:
                    queries.save_cursor(connection, prefix, page.following)
                if number >= PAGES_PER_RUN or self._seconds_left() < _RESERVE_SECONDS:
                    break

    def _announce_unknown(self, versions: Collection[ObjectVersion]) -> None:
        settled = datetime.now(UTC) - self._config.stale
        candidates = [
            version
            for version in versions
            if version.size is not None and version.modified < settled and not _is_folder_marker(version)
        ]
        if not candidates:
            return
        bucket = self._storage.incoming
        with self._engine.connect() as connection:
            known = queries.known_versions(connection, bucket, [(v.key, v.version) for v in candidates])
        lost = [version for version in candidates if (version.key, version.version) not in known]
        self.swept.lost_events += self._send(_landed_version(bucket, version) for version in lost)
        for version in lost:
            logger.warning("lost event found", extra={"key": version.key, "version": version.version})

    def _for_each[T](self, things: Iterable[T], look_after: Callable[[T], None]) -> None:
        """Look after one thing after the other, while there is time.

        What fails, and may fail each time, does not keep those behind it waiting.

        Raises
        ------
        Exception
            What the first of them raised, after all others have had their turn.
        """
        failure: Exception | None = None
        for thing in things:
            if self._seconds_left() < _RESERVE_SECONDS:
                break
            try:
                look_after(thing)
            except Exception as error:
                logger.exception("the sweeper could not look after this", extra={"thing": str(thing)})
                failure = failure or error
        if failure is not None:
            raise failure

    def _send(self, objects: Iterable[LandedObject]) -> int:
        return ingest_queue.send(objects, settings=self._settings)

    def _note_requeued(self, run_ids: Collection[UUID]) -> None:
        if run_ids:
            with self._engine.begin() as connection:
                queries.note_requeued(connection, run_ids)

    def _report(self) -> None:
        counts = {_metric(field.name): getattr(self.swept, field.name) for field in fields(self.swept)}
        try:
            with self._engine.connect() as connection:
                age = queries.oldest_unfinished_age(connection)
        except Exception:
            logger.exception("could not tell how old the oldest unfinished package is")
        else:
            telemetry.emit({**counts, "OldestUnfinishedAge": age})
        logger.info("swept", extra=counts)


def _metric(name: str) -> str:
    return "Sweep" + "".join(part.capitalize() for part in name.split("_"))


def _is_folder_marker(version: ObjectVersion) -> bool:
    return version.key.endswith("/") and version.size == 0


def _landed(job: Forgotten) -> LandedObject:
    return LandedObject(job.source.bucket, job.source.key, job.source.version or "null", job.size_bytes)


def _landed_version(bucket: str, version: ObjectVersion) -> LandedObject:
    return LandedObject(bucket, version.key, version.version, version.size or 0)
