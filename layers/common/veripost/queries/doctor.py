"""What the doctor compares with the store, page by page, and how far its examinations are.

A file's key begins with its package's id, so the order of keys is the order of (package, key): pages start
at an index of packages, however many files there are. Keys are compared in the collation "C", by their UTF-8
bytes, which is the order in which S3 lists them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Row, RowMapping, Select, func, or_, select, text, update

from veripost.models import DoctorStatus, Status, doctor_runs, ingest_runs, post_files, post_packages
from veripost.queries.jobs import UNFINISHED
from veripost.queries.packages import Source
from veripost.queries.replays import FINAL


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file as its row has it. A replay makes new rows, so the same `id` is the same run's word."""

    id: UUID
    package_id: UUID
    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackageState:
    """What decides whether a package can be compared with the store, and what may be done about it."""

    id: UUID
    status: Status
    source: Source
    size: int | None
    sha256: str | None
    in_work: bool
    """Somebody may be writing: it is not final, has an unfinished job, or is yet to be cleaned up."""
    stuck: bool
    """It has been in work for longer than it should take, although its object is here."""


def recorded_files_after(
    connection: Connection, key: str, *, floor: UUID | None, limit: int
) -> list[RecordedFile]:
    """Return up to `limit` files with keys behind `key`, in the order of keys.

    `floor` is a package that none of them comes before.
    """
    ordered = post_files.c.s3_key.collate("C")
    statement = _FILES.where(ordered > key).order_by(post_files.c.package_id, ordered).limit(limit)
    if floor is not None:
        statement = statement.where(post_files.c.package_id >= floor)
    return [RecordedFile(*row) for row in connection.execute(statement)]


def recorded_files(
    connection: Connection, package_ids: Collection[UUID], keys: Collection[str]
) -> dict[str, RecordedFile]:
    """Return those files of the packages that have one of `keys`, by key."""
    statement = _FILES.where(post_files.c.package_id.in_(package_ids), post_files.c.s3_key.in_(keys))
    return {row.s3_key: RecordedFile(*row) for row in connection.execute(statement)}


_FILES: Select[Any] = select(
    post_files.c.id,
    post_files.c.package_id,
    post_files.c.s3_key,
    post_files.c.size_bytes,
    post_files.c.content_hash,
)


def package_states(
    connection: Connection, package_ids: Collection[UUID], *, patience: timedelta
) -> dict[UUID, PackageState]:
    """Return the state of those packages that there are; `patience` is how long work may take."""
    statement = _states(patience).where(post_packages.c.id.in_(package_ids))
    return {row.id: _state(row) for row in connection.execute(statement)}


def package_states_after(
    connection: Connection, package_id: UUID | None, *, patience: timedelta, limit: int
) -> list[PackageState]:
    """Return the state of up to `limit` packages behind `package_id`, by id."""
    statement = _states(patience).order_by(post_packages.c.id).limit(limit)
    if package_id is not None:
        statement = statement.where(post_packages.c.id > package_id)
    return [_state(row) for row in connection.execute(statement)]


def _states(patience: timedelta) -> Select[Any]:
    long_ago = func.now() - patience
    job = ingest_runs.c.package_id == post_packages.c.id
    unfinished = select(ingest_runs.c.id).where(job, ingest_runs.c.status.in_(UNFINISHED)).exists()
    recent = select(ingest_runs.c.id).where(job, ingest_runs.c.created_at > long_ago).exists()
    late_worker = func.coalesce(post_packages.c.clean_up_after > func.now(), False)
    in_work: ColumnElement[bool] = or_(post_packages.c.status.not_in(FINAL), unfinished, late_worker)
    return select(
        post_packages.c.id,
        post_packages.c.status,
        post_packages.c.source_bucket,
        post_packages.c.source_key,
        post_packages.c.source_version,
        post_packages.c.size_bytes,
        post_packages.c.content_hash,
        in_work.label("in_work"),
        (
            or_(post_packages.c.status.not_in(FINAL), unfinished)
            & or_(post_packages.c.source_version.is_not(None), post_packages.c.status == Status.DELETING)
            & (post_packages.c.updated_at < long_ago)
            & ~recent
        ).label("stuck"),
    )


def _state(row: Row[Any]) -> PackageState:
    return PackageState(
        id=row.id,
        status=Status(row.status),
        source=Source(row.source_bucket, row.source_key, row.source_version),
        size=row.size_bytes,
        sha256=row.content_hash,
        in_work=row.in_work,
        stuck=row.stuck,
    )


# -- examinations


@dataclass(frozen=True, slots=True)
class Examination:
    """An examination that somebody works on. Every write proves by `lease_until` that it still may."""

    id: UUID
    fix: bool
    deep: bool
    position: str | None
    report: dict[str, Any] | None
    lease_until: datetime


def add_examination(connection: Connection, *, fix: bool, deep: bool, keep: timedelta) -> UUID:
    """Ask for an examination; return its id. Those that were done longer than `keep` ago are forgotten."""
    connection.execute(doctor_runs.delete().where(doctor_runs.c.finished_at < func.now() - keep))
    examination_id = uuid4()
    connection.execute(doctor_runs.insert().values(id=examination_id, fix=fix, deep=deep))
    return examination_id


def take_examination(
    connection: Connection, *, lease: timedelta, examination_id: UUID | None = None
) -> Examination | None:
    """Take over the oldest examination that is not done and that nobody works on, or one by its id."""
    waiting = (
        select(doctor_runs.c.id)
        .where(
            doctor_runs.c.status == DoctorStatus.QUEUED,
            or_(doctor_runs.c.lease_until.is_(None), doctor_runs.c.lease_until < func.now()),
        )
        .order_by(doctor_runs.c.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if examination_id is not None:
        waiting = waiting.where(doctor_runs.c.id == examination_id)
    row = connection.execute(
        update(doctor_runs)
        .where(doctor_runs.c.id == waiting.scalar_subquery())
        .values(lease_until=func.now() + lease)
        .returning(
            doctor_runs.c.id,
            doctor_runs.c.fix,
            doctor_runs.c.deep,
            doctor_runs.c.position,
            doctor_runs.c.report,
            doctor_runs.c.lease_until,
        )
    ).first()
    return None if row is None else Examination(*row)


def save_examination(
    connection: Connection,
    examination: Examination,
    *,
    position: str | None,
    report: Mapping[str, Any],
    lease: timedelta | None,
) -> datetime | None:
    """Write down how far an examination is; return until when it is the caller's now.

    `lease` None gives it back, and without a `position` it is done. None: it is somebody else's.
    """
    done = position is None
    saved: datetime | None = connection.execute(
        _SAVE,
        {
            "id": str(examination.id),
            "held": examination.lease_until,
            "status": DoctorStatus.DONE if done else DoctorStatus.QUEUED,
            "position": position,
            "report": json.dumps(report),
            "lease_seconds": 0.0 if lease is None else lease.total_seconds(),
        },
    ).scalar()
    return saved


# A lease of no seconds is over at once. What is done was finished now.
_SAVE = text(
    """
    UPDATE doctor_runs
    SET status = :status, position = :position, report = CAST(:report AS jsonb),
        lease_until = now() + make_interval(secs => :lease_seconds),
        finished_at = CASE WHEN CAST(:status AS text) = 'done' THEN now() END
    WHERE id = CAST(:id AS uuid) AND status = 'queued' AND lease_until = :held
    RETURNING lease_until
    """
)


def get_examination(connection: Connection, examination_id: UUID) -> RowMapping | None:
    """Return an examination, done or not, or None."""
    statement = select(doctor_runs).where(doctor_runs.c.id == examination_id)
    return connection.execute(statement).mappings().first()
