"""Every SQL statement of VeriPost. Each function takes a connection and runs inside its caller's transaction.

Times are the database's (`now()`), so the clocks of workers do not matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as insert_unless_there

from veripost.models import RunStatus, Status, Trigger, ingest_runs, post_files, post_packages

FINAL = frozenset({Status.READY, Status.ERROR})
_PROGRESS = (Status.PENDING, Status.VALIDATING, Status.STORING, Status.PARSING)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an original landed. `version` is None until the object has arrived."""

    bucket: str
    key: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to write: valid while the lease lives and nobody raised `attempt` since."""

    package_id: UUID
    run_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a package as it was stored."""

    filename: str
    original_path: str
    file_extension: str
    size_bytes: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the newest-first list of packages: right after this row."""

    created_at: datetime
    id: UUID


def package_prefix(package_id: UUID) -> str:
    """Return the prefix below which all files of a package live."""
    return f"packages/{package_id}/"


# -- creating


def add_package(
    connection: Connection,
    *,
    package_id: UUID,
    name: str,
    platform: str,
    source: Source,
    trigger: Trigger,
    size_bytes: int,
) -> UUID:
    """Record a new package whose bytes are still to come, with its first job; return the job's id."""
    values = _package_values(package_id, name, platform, source, size_bytes)
    connection.execute(insert(post_packages).values(values))
    return _add_run(connection, package_id, trigger)


def add_landed_package(
    connection: Connection, *, name: str, platform: str, source: Source, size_bytes: int
) -> UUID:
    """Record the package of a dropped object, with its first job, unless it is there; return its id."""
    package_id = uuid4()
    added = connection.execute(
        insert_unless_there(post_packages)
        .values(_package_values(package_id, name, platform, source, size_bytes))
        .on_conflict_do_nothing(index_elements=["source_bucket", "source_key", "source_version"])
    )
    if added.rowcount == 1:
        _add_run(connection, package_id, Trigger.DROP)
        return package_id
    there: UUID = connection.execute(
        select(post_packages.c.id).where(
            post_packages.c.source_bucket == source.bucket,
            post_packages.c.source_key == source.key,
            post_packages.c.source_version == source.version,
        )
    ).scalar_one()
    return there


def _package_values(
    package_id: UUID, name: str, platform: str, source: Source, size_bytes: int
) -> dict[str, Any]:
    return {
        "id": package_id,
        "name": name,
        "platform": platform,
        "size_bytes": size_bytes,
        "source_bucket": source.bucket,
        "source_key": source.key,
        "source_version": source.version,
        "s3_prefix": package_prefix(package_id),
    }


def _add_run(connection: Connection, package_id: UUID, trigger: Trigger) -> UUID:
    run_id = uuid4()
    connection.execute(insert(ingest_runs).values(id=run_id, package_id=package_id, trigger=trigger))
    return run_id


def remove_unstarted_package(connection: Connection, package_id: UUID) -> None:
    """Forget a package whose object never arrived."""
    connection.execute(
        post_packages.delete().where(
            post_packages.c.id == package_id,
            post_packages.c.status == Status.PENDING,
            post_packages.c.source_version.is_(None),
        )
    )


# -- the job of ingesting


def bind_source_version(connection: Connection, package_id: UUID, version: str) -> str | None:
    """Pin the object version a package consists of, once; return the pinned one, or None without a row."""
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == package_id, post_packages.c.source_version.is_(None))
        .values(source_version=version, updated_at=func.now())
    )
    pinned: str | None = connection.scalar(
        select(post_packages.c.source_version).where(post_packages.c.id == package_id)
    )
    return pinned


def claim_job(connection: Connection, package_id: UUID, *, lease: timedelta, request_id: str) -> Claim | None:
    """Take the newest job of a package over, or return None.

    None means that there is nothing to do: the package is final, or another worker's lease lives.
    Two claims at the same moment wait for each other on the row, and the second then finds a live lease.
    """
    newest = (
        select(ingest_runs.c.id)
        .join(post_packages, post_packages.c.id == ingest_runs.c.package_id)
        .where(ingest_runs.c.package_id == package_id, post_packages.c.status.in_(_PROGRESS))
        .order_by(ingest_runs.c.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    claimed = connection.execute(
        update(ingest_runs)
        .where(
            ingest_runs.c.id == newest,
            or_(
                ingest_runs.c.status.in_((RunStatus.QUEUED, RunStatus.INTERRUPTED)),
                and_(ingest_runs.c.status == RunStatus.RUNNING, ingest_runs.c.lease_until < func.now()),
            ),
        )
        .values(
            status=RunStatus.RUNNING,
            attempt=ingest_runs.c.attempt + 1,
            lease_until=func.now() + lease,
            started_at=func.coalesce(ingest_runs.c.started_at, func.now()),
            error_code=None,
            error_message=None,
            request_id=request_id,
        )
        .returning(ingest_runs.c.id, ingest_runs.c.attempt)
    ).first()
    return None if claimed is None else Claim(package_id, claimed.id, claimed.attempt)


def _holding(claim: Claim) -> Any:
    """The condition under which `claim` may still write."""
    return and_(
        ingest_runs.c.id == claim.run_id,
        ingest_runs.c.attempt == claim.attempt,
        ingest_runs.c.status == RunStatus.RUNNING,
    )


def renew_lease(connection: Connection, claim: Claim, *, lease: timedelta) -> bool:
    """Show a sign of life; False when the job belongs to somebody else now."""
    renewed = connection.execute(
        update(ingest_runs).where(_holding(claim)).values(lease_until=func.now() + lease)
    )
    return renewed.rowcount == 1


def advance(connection: Connection, claim: Claim, status: Status) -> bool:
    """Move the package forward to `status`; False when `claim` has been lost.

    A take-over starts again from the first byte but never moves the visible state backwards.
    """
    held = connection.execute(select(ingest_runs.c.id).where(_holding(claim)).with_for_update()).first()
    if held is None:
        return False
    earlier = _PROGRESS[: _PROGRESS.index(status)]
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == claim.package_id, post_packages.c.status.in_(earlier))
        .values(status=status, updated_at=func.now())
    )
    return True


def _end_run(connection: Connection, claim: Claim, **values: Any) -> bool:
    ended = connection.execute(
        update(ingest_runs).where(_holding(claim)).values(lease_until=None, finished_at=func.now(), **values)
    )
    return ended.rowcount == 1


def finish_ready(
    connection: Connection,
    claim: Claim,
    *,
    name: str,
    files: Sequence[StoredFile],
    problems: Sequence[Mapping[str, Any]],
    size_bytes: int,
    content_hash: str,
) -> bool:
    """Record all files and `ready` together; False (and nothing written) when `claim` has been lost."""
    total = sum(file.size_bytes for file in files)
    if not _end_run(connection, claim, status=RunStatus.SUCCEEDED, files=len(files), bytes=total):
        return False
    connection.execute(post_files.delete().where(post_files.c.package_id == claim.package_id))
    connection.execute(
        _INSERT_FILES,
        {
            "package_id": claim.package_id,
            "prefix": package_prefix(claim.package_id),
            "rows": json.dumps([_file_row(file) for file in files]),
        },
    )
    original = (
        select(post_packages.c.id)
        .where(
            post_packages.c.content_hash == content_hash,
            post_packages.c.status == Status.READY,
            post_packages.c.id != claim.package_id,
        )
        .order_by(post_packages.c.created_at)
        .limit(1)
        .scalar_subquery()
    )
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == claim.package_id)
        .values(
            status=Status.READY,
            name=name,
            file_count=len(files),
            problems=list(problems),
            size_bytes=size_bytes,
            content_hash=content_hash,
            duplicate_of=original,
            ready_at=func.now(),
            updated_at=func.now(),
        )
    )
    return True


# One round trip however many files: the rows travel as one JSON value.
_INSERT_FILES = text(
    """
    INSERT INTO post_files
        (id, package_id, filename, original_path, file_extension, s3_key, size_bytes, content_hash)
    SELECT gen_random_uuid(), :package_id, filename, original_path, file_extension, :prefix || filename,
        size_bytes, content_hash
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS row (
        filename text, original_path text, file_extension text, size_bytes bigint, content_hash text
    )
    """
).bindparams(bindparam("package_id", type_=post_files.c.package_id.type))


def _file_row(file: StoredFile) -> dict[str, Any]:
    return {
        "filename": file.filename,
        "original_path": file.original_path,
        "file_extension": file.file_extension,
        "size_bytes": file.size_bytes,
        "content_hash": file.content_hash,
    }


def finish_refused(
    connection: Connection,
    claim: Claim,
    *,
    code: str,
    message: str,
    detail: str | None,
    problems: Sequence[Mapping[str, Any]],
    size_bytes: int | None,
    content_hash: str | None,
) -> bool:
    """Record why a package cannot be accepted; False (and nothing written) when `claim` has been lost."""
    if not _end_run(
        connection, claim, status=RunStatus.REFUSED, error_code=code, error_message=message, files=0, bytes=0
    ):
        return False
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == claim.package_id)
        .values(
            status=Status.ERROR,
            error_code=code,
            error_message=message,
            error_detail=detail,
            problems=list(problems),
            size_bytes=func.coalesce(size_bytes, post_packages.c.size_bytes),
            content_hash=content_hash,
            updated_at=func.now(),
        )
    )
    return True


def give_back(connection: Connection, claim: Claim, *, code: str, message: str) -> None:
    """Let the next delivery claim the job at once, and keep the cause for whoever looks."""
    connection.execute(
        update(ingest_runs)
        .where(_holding(claim))
        .values(status=RunStatus.INTERRUPTED, lease_until=None, error_code=code, error_message=message)
    )


# -- reading


def _newest_job() -> Any:
    return (
        select(ingest_runs.c.id)
        .where(ingest_runs.c.package_id == post_packages.c.id)
        .order_by(ingest_runs.c.created_at.desc())
        .limit(1)
        .scalar_subquery()
        .label("job_id")
    )


def get_package(connection: Connection, package_id: UUID) -> RowMapping | None:
    """Return one package with the id of its newest job, or None."""
    statement = select(post_packages, _newest_job()).where(post_packages.c.id == package_id)
    return connection.execute(statement).mappings().first()


_SUMMARY = (
    post_packages.c.id,
    post_packages.c.name,
    post_packages.c.platform,
    post_packages.c.status,
    post_packages.c.machine_type,
    post_packages.c.controller_type,
    post_packages.c.error_code,
    post_packages.c.error_message,
    post_packages.c.file_count,
    post_packages.c.section_count,
    post_packages.c.size_bytes,
    post_packages.c.content_hash,
    post_packages.c.duplicate_of,
    post_packages.c.created_at,
    post_packages.c.updated_at,
    post_packages.c.ready_at,
)


def list_packages(connection: Connection, *, limit: int, after: Position | None) -> Sequence[RowMapping]:
    """Return up to `limit` packages, newest first, those behind `after` only."""
    statement = (
        select(*_SUMMARY).order_by(post_packages.c.created_at.desc(), post_packages.c.id.desc()).limit(limit)
    )
    if after is not None:
        place = tuple_(post_packages.c.created_at, post_packages.c.id)
        statement = statement.where(place < tuple_(after.created_at, after.id))
    return connection.execute(statement).mappings().all()


def list_files(
    connection: Connection, package_id: UUID, *, limit: int, after: str | None = None
) -> Sequence[RowMapping]:
    """Return up to `limit` files of a package by case-folded name, those behind the name `after` only."""
    name = func.lower(post_files.c.filename.collate("C"))
    statement = select(post_files).where(post_files.c.package_id == package_id).order_by(name).limit(limit)
    if after is not None:
        statement = statement.where(name > func.lower(literal(after).collate("C")))
    return connection.execute(statement).mappings().all()


def list_runs(connection: Connection, package_id: UUID, *, limit: int) -> Sequence[RowMapping]:
    """Return up to `limit` jobs of a package, newest first."""
    statement: Select[Any] = (
        select(ingest_runs)
        .where(ingest_runs.c.package_id == package_id)
        .order_by(ingest_runs.c.created_at.desc())
        .limit(limit)
    )
    return connection.execute(statement).mappings().all()


def count_runs(connection: Connection, package_id: UUID) -> int:
    """Return how many jobs a package has had."""
    statement = select(func.count()).select_from(ingest_runs).where(ingest_runs.c.package_id == package_id)
    return connection.scalar(statement) or 0


def get_file(connection: Connection, package_id: UUID, file_id: UUID) -> RowMapping | None:
    """Return one file of one package, or None."""
    statement = select(post_files).where(post_files.c.package_id == package_id, post_files.c.id == file_id)
    return connection.execute(statement).mappings().first()


def ping(connection: Connection) -> None:
    """Prove that the database answers and has been migrated."""
    connection.execute(select(post_packages.c.id).limit(0))
