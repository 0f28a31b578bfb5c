"""What the sweeper looks for: jobs that nobody works on, uploads that never came, leftovers, lost events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Interval,
    and_,
    case,
    func,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import insert as insert_unless_there

from veripost.models import (
    EventKind,
    RunStatus,
    Status,
    Trigger,
    ingest_runs,
    post_files,
    post_packages,
    sweep_cursors,
)
from veripost.queries.events import add_event
from veripost.queries.jobs import (
    PROGRESS,
    UNFINISHED,
    UPLOAD_EXPIRED,
    WAITING,
    clean_up_later,
    lock_newest_run,
)
from veripost.queries.packages import Source


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A job that nobody works on although its object is there."""

    package_id: UUID
    run_id: UUID
    attempt: int
    lease_ran_out: bool
    source: Source
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A package whose object has not been seen. `overdue`: nobody can upload it any more."""

    package_id: UUID
    run_id: UUID
    source: Source
    overdue: bool


def forgotten_jobs(
    connection: Connection,
    *,
    stale: timedelta,
    first_backoff: timedelta,
    longest_backoff: timedelta,
    waiting_too: bool,
    limit: int,
) -> list[Forgotten]:
    """Return up to `limit` jobs whose lease ran out or, `waiting_too`, that nobody claimed for too long.

    A job that was given back may wait for its backoff, which doubles with each attempt, and then for `stale`.
    """
    backoff = func.least(
        first_backoff * func.power(2, func.least(ingest_runs.c.attempt - 1, 20)), longest_backoff
    )
    lease_ran_out = and_(
        ingest_runs.c.status == RunStatus.RUNNING, ingest_runs.c.lease_until < func.now()
    ).label("lease_ran_out")
    forgotten: list[ColumnElement[bool]] = [lease_ran_out]
    if waiting_too:
        forgotten += [
            and_(ingest_runs.c.status == RunStatus.QUEUED, ingest_runs.c.queued_at < func.now() - stale),
            and_(
                ingest_runs.c.status == RunStatus.INTERRUPTED,
                ingest_runs.c.queued_at < func.now() - stale - backoff,
            ),
        ]
    rows = connection.execute(
        select(
            ingest_runs.c.package_id,
            ingest_runs.c.id,
            ingest_runs.c.attempt,
            lease_ran_out,
            post_packages.c.source_bucket,
            post_packages.c.source_key,
            post_packages.c.source_version,
            func.coalesce(post_packages.c.size_bytes, 0).label("size_bytes"),
        )
        .join(post_packages, post_packages.c.id == ingest_runs.c.package_id)
        .where(
            or_(*forgotten),
            post_packages.c.status.in_(PROGRESS),
            post_packages.c.source_version.is_not(None),
        )
        .order_by(ingest_runs.c.queued_at)
        .limit(limit)
    ).all()
    return [
        Forgotten(
            row.package_id,
            row.id,
            row.attempt,
            row.lease_ran_out,
            Source(row.source_bucket, row.source_key, row.source_version),
            row.size_bytes,
        )
        for row in rows
    ]


def interrupt_job(connection: Connection, job: Forgotten, *, longest_run: timedelta) -> None:
    """Note that a job's worker is lost, unless somebody has claimed the job since."""
    run = lock_newest_run(connection, job.package_id)
    if run is None or run["id"] != job.run_id or run["attempt"] != job.attempt or run["lease_lives"]:
        return
    if run["status"] == RunStatus.RUNNING:
        connection.execute(
            update(ingest_runs)
            .where(ingest_runs.c.id == job.run_id)
            .values(
                status=RunStatus.INTERRUPTED,
                lease_until=None,
                queued_at=func.now(),
                error_code="worker_lost",
                error_message="The worker showed no sign of life for too long.",
            )
        )
        clean_up_later(connection, job.package_id, longest_run)


def note_requeued(connection: Connection, run_ids: Collection[UUID]) -> None:
    """Note that jobs have been put into the queue, or looked after, just now."""
    connection.execute(
        update(ingest_runs)
        .where(ingest_runs.c.id.in_(run_ids), ingest_runs.c.status.in_(WAITING))
        .values(queued_at=func.now())
    )


def waiting_uploads(
    connection: Connection, *, stale: timedelta, valid: timedelta, limit: int
) -> list[Waiting]:
    """Return up to `limit` packages without an object that were last looked after `stale` ago.

    `valid` is how long an upload may take since its package was made.
    """
    rows = connection.execute(
        select(
            post_packages.c.id,
            ingest_runs.c.id.label("run_id"),
            post_packages.c.source_bucket,
            post_packages.c.source_key,
            (post_packages.c.created_at < func.now() - valid).label("overdue"),
        )
        .join(ingest_runs, ingest_runs.c.package_id == post_packages.c.id)
        .where(
            post_packages.c.status == Status.PENDING,
            post_packages.c.source_version.is_(None),
            ingest_runs.c.status == RunStatus.QUEUED,
            ingest_runs.c.queued_at < func.now() - stale,
        )
        .order_by(ingest_runs.c.queued_at)
        .limit(limit)
    ).all()
    return [
        Waiting(row.id, row.run_id, Source(row.source_bucket, row.source_key, None), row.overdue)
        for row in rows
    ]


def expire_upload(connection: Connection, package_id: UUID) -> bool:
    """End a package whose object never came as `upload_expired`; False if it came after all."""
    run = lock_newest_run(connection, package_id)
    message = "The upload was announced, but the file never arrived."
    expired = connection.execute(
        update(post_packages)
        .where(
            post_packages.c.id == package_id,
            post_packages.c.status == Status.PENDING,
            post_packages.c.source_version.is_(None),
        )
        .values(
            status=Status.ERROR,
            error_code=UPLOAD_EXPIRED,
            error_message=message,
            error_detail="no object landed before the upload form expired",
            updated_at=func.now(),
        )
    )
    if expired.rowcount != 1 or run is None:
        return False
    connection.execute(
        update(ingest_runs)
        .where(ingest_runs.c.id == run["id"])
        .values(
            status=RunStatus.FAILED,
            finished_at=func.now(),
            error_code=UPLOAD_EXPIRED,
            error_message=message,
        )
    )
    add_event(connection, EventKind.REFUSED, package_id, run["id"])
    return True


# -- leftovers of workers that were cut off


def due_cleanups(connection: Connection, *, limit: int) -> list[tuple[UUID, datetime]]:
    """Return up to `limit` final packages that may have objects without a row, and since when."""
    rows = connection.execute(
        select(post_packages.c.id, post_packages.c.clean_up_after)
        .where(
            post_packages.c.clean_up_after < func.now(),
            post_packages.c.status.in_((Status.READY, Status.ERROR)),
        )
        .order_by(post_packages.c.clean_up_after)
        .limit(limit)
    ).all()
    return [(row.id, row.clean_up_after) for row in rows]


def recorded_keys(connection: Connection, package_id: UUID) -> set[str] | None:
    """Return the keys of all files that a package has; None while it is in anybody's hands.

    An object that was listed before this call and has no key here belongs to nobody.
    """
    busy = connection.scalar(
        select(func.count())
        .select_from(ingest_runs)
        .where(ingest_runs.c.package_id == package_id, ingest_runs.c.status.in_(UNFINISHED))
    )
    if busy:
        return None
    return set(connection.scalars(select(post_files.c.s3_key).where(post_files.c.package_id == package_id)))


def end_cleanup(connection: Connection, package_id: UUID, due: datetime) -> None:
    """Note that nothing is left below a package's prefix; kept if somebody asked for another look since."""
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == package_id, post_packages.c.clean_up_after == due)
        .values(clean_up_after=None)
    )


def postpone_cleanup(connection: Connection, package_id: UUID, wait: timedelta) -> None:
    """Let others go first: a clean-up that failed is due again after `wait`."""
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == package_id, post_packages.c.clean_up_after.is_not(None))
        .values(clean_up_after=func.now() + wait)
    )


# -- lost events


def known_versions(
    connection: Connection, bucket: str, versions: Sequence[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Return those of `versions` (key, version id) that a package consists of."""
    rows = connection.execute(
        text(
            """
            SELECT source_key, source_version
            FROM post_packages
            JOIN unnest(CAST(:keys AS text[]), CAST(:versions AS text[])) AS landed (key, version)
                ON source_key = landed.key AND source_version = landed.version
            WHERE source_bucket = :bucket
            """
        ),
        {
            "bucket": bucket,
            "keys": [key for key, _ in versions],
            "versions": [version for _, version in versions],
        },
    )
    return {(row.source_key, row.source_version) for row in rows}


def unbound_uploads(connection: Connection, package_ids: Collection[UUID]) -> set[UUID]:
    """Return those of `package_ids` that exist and wait for their object."""
    return set(
        connection.scalars(
            select(post_packages.c.id).where(
                post_packages.c.id.in_(package_ids), post_packages.c.source_version.is_(None)
            )
        )
    )


def load_cursor(connection: Connection, prefix: str) -> tuple[str, str]:
    """Return the key and version behind which the walk through `prefix` goes on; empty: the start."""
    row = connection.execute(
        select(sweep_cursors.c.key_marker, sweep_cursors.c.version_marker).where(
            sweep_cursors.c.prefix == prefix
        )
    ).first()
    return ("", "") if row is None else (row.key_marker, row.version_marker)


def save_cursor(connection: Connection, prefix: str, place: tuple[str, str]) -> None:
    """Remember where the walk through `prefix` goes on; an empty key ends it, and the next starts anew."""
    key_marker, version_marker = place
    if not key_marker:
        connection.execute(sweep_cursors.delete().where(sweep_cursors.c.prefix == prefix))
        return
    values = {"key_marker": key_marker, "version_marker": version_marker, "updated_at": func.now()}
    connection.execute(
        insert_unless_there(sweep_cursors)
        .values(prefix=prefix, **values)
        .on_conflict_do_update(index_elements=["prefix"], set_=values)
    )


def oldest_unfinished_age(connection: Connection) -> timedelta:
    """Return for how long the oldest unfinished job could have been worked on; zero where there is none.

    That is since its object landed or, for a replay, since the replay began.
    """
    replayed_at = case((ingest_runs.c.trigger == Trigger.REPLAY, ingest_runs.c.created_at))
    began = func.greatest(post_packages.c.landed_at, replayed_at)
    age: timedelta | None = connection.scalar(
        select(type_coerce(func.now() - func.min(began), Interval))
        .join(post_packages, post_packages.c.id == ingest_runs.c.package_id)
        .where(ingest_runs.c.status.in_(UNFINISHED), post_packages.c.source_version.is_not(None))
    )
    return age or timedelta(0)
