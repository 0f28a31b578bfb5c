"""Packages and their files: how they come into being, and every read of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, RowMapping, Select, func, insert, literal, select, true
from sqlalchemy.dialects.postgresql import insert as insert_unless_there

from veripost.models import Status, Trigger, ingest_runs, post_files, post_packages


@dataclass(frozen=True, slots=True)
class Source:
    """Where an original landed. `version` is None until the object has arrived."""

    bucket: str
    key: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a newest-first list: right after this row."""

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
    created_by: str | None = None,
) -> UUID:
    """Record a new package whose bytes are still to come, with its first job; return the job's id."""
    values = _package_values(package_id, name, platform, source, size_bytes) | {"created_by": created_by}
    connection.execute(insert(post_packages).values(values))
    return add_run(connection, package_id, trigger)


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
        add_run(connection, package_id, Trigger.DROP)
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
        "landed_at": None if source.version is None else func.now(),
        "s3_prefix": package_prefix(package_id),
    }


def add_run(connection: Connection, package_id: UUID, trigger: Trigger) -> UUID:
    """Queue a new job for a package; return its id."""
    run_id = uuid4()
    # Not now(), which is when the transaction began: the newest job is the one that was added last.
    connection.execute(
        insert(ingest_runs).values(
            id=run_id, package_id=package_id, trigger=trigger, created_at=func.clock_timestamp()
        )
    )
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


def get_status(connection: Connection, package_id: UUID) -> RowMapping | None:
    """Return what tells how far a package is, with the counters of its newest job, or None."""
    newest = (
        select(
            ingest_runs.c.id,
            ingest_runs.c.files,
            ingest_runs.c.bytes,
            ingest_runs.c.files_total,
            ingest_runs.c.bytes_total,
        )
        .where(ingest_runs.c.package_id == post_packages.c.id)
        .order_by(ingest_runs.c.created_at.desc())
        .limit(1)
        .lateral()
    )
    statement = (
        select(
            post_packages.c.id,
            post_packages.c.status,
            post_packages.c.error_code,
            post_packages.c.error_message,
            post_packages.c.error_detail,
            post_packages.c.file_count,
            post_packages.c.section_count,
            post_packages.c.problems,
            post_packages.c.source_version,
            post_packages.c.size_bytes,
            post_packages.c.updated_at,
            newest.c.id.label("job_id"),
            newest.c.files.label("files_stored"),
            newest.c.bytes.label("bytes_stored"),
            newest.c.files_total,
            newest.c.bytes_total,
        )
        .select_from(post_packages.outerjoin(newest, true()))
        .where(post_packages.c.id == package_id)
    )
    return connection.execute(statement).mappings().first()


def find_ready(connection: Connection, *, content_hash: str, platform: str) -> UUID | None:
    """Return the oldest `ready` package of a platform whose archive consists of these very bytes, or None."""
    found: UUID | None = connection.scalar(oldest_twin(content_hash, platform))
    return found


def oldest_twin(content_hash: str, platform: Any, *, besides: UUID | None = None) -> Select[Any]:
    """Return the statement behind `find_ready`: the same bytes mean something else on another platform."""
    twin = post_packages.alias("twin")
    statement = select(twin.c.id).where(
        twin.c.content_hash == content_hash, twin.c.platform == platform, twin.c.status == Status.READY
    )
    if besides is not None:
        statement = statement.where(twin.c.id != besides)
    return statement.order_by(twin.c.created_at, twin.c.id).limit(1)


def list_files(
    connection: Connection, package_id: UUID, *, limit: int, after: str | None = None
) -> Sequence[RowMapping]:
    """Return up to `limit` files of a package by case-folded name, those behind the name `after` only."""
    name = func.lower(post_files.c.filename.collate("C"))
    statement = select(post_files).where(post_files.c.package_id == package_id).order_by(name).limit(limit)
    if after is not None:
        statement = statement.where(name > func.lower(literal(after).collate("C")))
    return connection.execute(statement).mappings().all()


def get_file(connection: Connection, package_id: UUID, file_id: UUID) -> RowMapping | None:
    """Return one file of one package, or None."""
    statement = select(post_files).where(post_files.c.package_id == package_id, post_files.c.id == file_id)
    return connection.execute(statement).mappings().first()


def ping(connection: Connection) -> None:
    """Prove that the database answers and has been migrated."""
    connection.execute(select(post_packages.c.id).limit(0))
