"""The jobs of packages: whose turn it is, how far it is, and how it ended."""

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
    case,
    func,
    null,
    select,
    text,
    update,
)

from veripost.errors import IngestFailed
from veripost.models import EventKind, RunStatus, Status, Trigger, ingest_runs, post_files, post_packages
from veripost.queries.events import add_event
from veripost.queries.packages import oldest_twin, package_prefix
from veripost.queries.sections import Contents, add_contents, remove_fingerprint

PROGRESS = (Status.PENDING, Status.VALIDATING, Status.STORING, Status.PARSING)
UPLOAD_EXPIRED = "upload_expired"
WAITING = (RunStatus.QUEUED, RunStatus.INTERRUPTED)
UNFINISHED = (*WAITING, RunStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to write: valid while the lease lives and nobody raised `attempt` since."""

    package_id: UUID
    run_id: UUID
    attempt: int
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Amount:
    """So many files of a package, and so many bytes: those stored so far, or all that there will be."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a package as it was stored."""

    filename: str
    original_path: str
    file_extension: str
    size_bytes: int
    content_hash: str


def newest_run(package_id: Any) -> Any:
    """Return the subquery of the id of a package's newest job."""
    return (
        select(ingest_runs.c.id)
        .where(ingest_runs.c.package_id == package_id)
        .order_by(ingest_runs.c.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )


def lock_newest_run(connection: Connection, package_id: UUID) -> RowMapping | None:
    """Lock a package's newest job against every claim until the transaction ends; return it."""
    statement = (
        select(ingest_runs, (ingest_runs.c.lease_until > func.now()).label("lease_lives"))
        .where(ingest_runs.c.id == newest_run(package_id))
        .with_for_update()
    )
    return connection.execute(statement).mappings().first()


def bind_source_version(connection: Connection, package_id: UUID, version: str) -> str | None:
    """Pin the object version a package consists of, once; return the pinned one, or None without a row.

    An object that arrives after its upload was given up reopens the package and its job. A package that is
    being deleted takes no object any more: it counts as no row.
    """
    lock_newest_run(connection, package_id)
    bound = connection.execute(
        update(post_packages)
        .where(
            post_packages.c.id == package_id,
            post_packages.c.source_version.is_(None),
            post_packages.c.status != Status.DELETING,
        )
        .values(source_version=version, landed_at=func.now(), updated_at=func.now())
        .returning(post_packages.c.status, post_packages.c.error_code)
    ).first()
    if bound is not None and bound.status == Status.ERROR and bound.error_code == UPLOAD_EXPIRED:
        connection.execute(
            update(post_packages)
            .where(post_packages.c.id == package_id)
            .values(status=Status.PENDING, error_code=None, error_message=None, error_detail=None)
        )
        connection.execute(
            update(ingest_runs)
            .where(ingest_runs.c.id == newest_run(package_id))
            .values(status=RunStatus.QUEUED, finished_at=None, error_code=None, error_message=None)
        )
    pinned: str | None = connection.scalar(
        select(post_packages.c.source_version).where(
            post_packages.c.id == package_id, post_packages.c.status != Status.DELETING
        )
    )
    return pinned


def claim_job(
    connection: Connection, package_id: UUID, *, lease: timedelta, request_id: str, longest_run: timedelta
) -> Claim | None:
    """Take the newest job of a package over, or return None.

    None means that there is nothing to do: the package is final, or another worker's lease lives.
    Two claims at the same moment wait for each other on the row, and the second then finds a live lease.

    Whoever takes over from a worker whose lease ran out leaves word that this one may still write, for as
    long as a worker can run at all (`longest_run`); the sweeper looks again after that.
    """
    run = lock_newest_run(connection, package_id)
    if run is None or run["status"] not in UNFINISHED or run["lease_lives"]:
        return None
    status = connection.scalar(select(post_packages.c.status).where(post_packages.c.id == package_id))
    if status not in PROGRESS:
        return None
    attempt = run["attempt"] + 1
    connection.execute(
        update(ingest_runs)
        .where(ingest_runs.c.id == run["id"])
        .values(
            status=RunStatus.RUNNING,
            attempt=attempt,
            lease_until=func.now() + lease,
            started_at=func.coalesce(ingest_runs.c.started_at, func.now()),
            files=None,
            bytes=None,
            files_total=None,
            bytes_total=None,
            error_code=None,
            error_message=None,
            request_id=request_id,
        )
    )
    if run["status"] == RunStatus.RUNNING:
        clean_up_later(connection, package_id, longest_run)
    return Claim(package_id, run["id"], attempt, Trigger(run["trigger"]))


def clean_up_later(connection: Connection, package_id: UUID, wait: timedelta) -> None:
    """Have the sweeper remove, after `wait`, what lies below the package's prefix and has no row."""
    due = func.now() + wait
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == package_id)
        .values(clean_up_after=func.greatest(post_packages.c.clean_up_after, due))
    )


def _holding(claim: Claim) -> Any:
    """The condition under which `claim` may still write."""
    return and_(
        ingest_runs.c.id == claim.run_id,
        ingest_runs.c.attempt == claim.attempt,
        ingest_runs.c.status == RunStatus.RUNNING,
    )


def renew_lease(
    connection: Connection, claim: Claim, *, lease: timedelta, stored: Amount | None = None
) -> bool:
    """Show a sign of life, and how much is `stored`; False when the job belongs to somebody else now."""
    values: dict[str, Any] = {"lease_until": func.now() + lease}
    if stored is not None:
        values |= {"files": stored.files, "bytes": stored.bytes}
    renewed = connection.execute(update(ingest_runs).where(_holding(claim)).values(values))
    return renewed.rowcount == 1


def advance(connection: Connection, claim: Claim, status: Status, *, total: Amount | None = None) -> bool:
    """Move the package forward to `status`; False when `claim` has been lost.

    `total` is how much there is to store, once that is known. A take-over starts again from the first byte
    but never moves the visible state backwards.
    """
    held = connection.execute(select(ingest_runs.c.id).where(_holding(claim)).with_for_update()).first()
    if held is None:
        return False
    if total is not None:
        connection.execute(
            update(ingest_runs)
            .where(ingest_runs.c.id == claim.run_id)
            .values(files=0, bytes=0, files_total=total.files, bytes_total=total.bytes)
        )
    earlier = PROGRESS[: PROGRESS.index(status)]
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
    contents: Contents,
    problems: Sequence[Mapping[str, Any]],
    size_bytes: int,
    content_hash: str,
) -> bool:
    """Record all files, what they say, and `ready` together; False, and nothing, when `claim` has been lost.

    What an earlier run recorded is replaced.
    """
    total = sum(file.size_bytes for file in files)
    if not _end_run(connection, claim, status=RunStatus.SUCCEEDED, files=len(files), bytes=total):
        return False
    _remove_files(connection, claim.package_id)
    # A file's key is made here only where other rows need to know it: by the server it costs less.
    ids = {file.filename: uuid4() for file in contents.files}
    connection.execute(
        _INSERT_FILES,
        {
            "package_id": claim.package_id,
            "prefix": package_prefix(claim.package_id),
            "rows": json.dumps([_file_row(file, ids.get(file.filename)) for file in files]),
        },
    )
    add_contents(connection, claim.package_id, contents, ids)
    original = oldest_twin(content_hash, post_packages.c.platform, besides=claim.package_id)
    values: dict[str, Any] = {
        "status": Status.READY,
        "name": name,
        "machine_type": contents.machine_type,
        "controller_type": contents.controller_type,
        "file_count": len(files),
        "section_count": contents.section_count,
        "problems": list(problems),
        "size_bytes": size_bytes,
        "content_hash": content_hash,
        "extensions": sorted({file.file_extension for file in files}),
        "duplicate_of": original.scalar_subquery(),
        "ready_at": func.now(),
        "updated_at": func.now(),
    }
    # Files of an earlier run may be in the store and not in this one, and an earlier attempt whose store was
    # down has left the parts of a large file.
    if claim.trigger is Trigger.REPLAY or claim.attempt > 1:
        values["clean_up_after"] = func.greatest(post_packages.c.clean_up_after, func.now())
    connection.execute(update(post_packages).where(post_packages.c.id == claim.package_id).values(values))
    add_event(connection, EventKind.READY, claim.package_id, claim.run_id)
    return True


# One round trip however many files: the rows travel as one JSON value.
_INSERT_FILES = text(
    """
    INSERT INTO post_files
        (id, package_id, filename, original_path, file_extension, s3_key, size_bytes, content_hash)
    SELECT coalesce(id, gen_random_uuid()), :package_id, filename, original_path, file_extension,
        :prefix || filename, size_bytes, content_hash
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS row (
        id uuid, filename text, original_path text, file_extension text, size_bytes bigint, content_hash text
    )
    """
).bindparams(bindparam("package_id", type_=post_files.c.package_id.type))


def _remove_files(connection: Connection, package_id: UUID) -> None:
    connection.execute(post_files.delete().where(post_files.c.package_id == package_id))
    remove_fingerprint(connection, package_id)


def _file_row(file: StoredFile, file_id: UUID | None) -> dict[str, Any]:
    return {
        **({} if file_id is None else {"id": str(file_id)}),
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
    """Record why a package cannot be accepted; False (and nothing written) when `claim` has been lost.

    Files of an earlier run are no longer the package's: a replay can refuse what was `ready` once. Their
    objects are the sweeper's to remove, after this is committed.
    """
    if not _end_run(
        connection, claim, status=RunStatus.REFUSED, error_code=code, error_message=message, files=0, bytes=0
    ):
        return False
    _remove_files(connection, claim.package_id)
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == claim.package_id)
        .values(
            status=Status.ERROR,
            error_code=code,
            error_message=message,
            error_detail=detail,
            problems=list(problems),
            machine_type=None,
            controller_type=None,
            file_count=0,
            section_count=None,
            extensions=[],
            ready_at=None,
            size_bytes=func.coalesce(size_bytes, post_packages.c.size_bytes),
            content_hash=content_hash,
            updated_at=func.now(),
        )
    )
    if claim.trigger is Trigger.REPLAY:
        clean_up_later(connection, claim.package_id, timedelta(0))
    add_event(connection, EventKind.REFUSED, claim.package_id, claim.run_id)
    return True


def finish_without_original(
    connection: Connection, claim: Claim, *, code: str, message: str, detail: str | None
) -> bool:
    """End a replay that had nothing to read; False (and nothing written) when `claim` has been lost.

    What an earlier run stored may be the last copy: it stays, and a package that was `ready` is so again.
    """
    if not _end_run(
        connection, claim, status=RunStatus.REFUSED, error_code=code, error_message=message, files=0, bytes=0
    ):
        return False
    was_ready = and_(post_packages.c.ready_at.is_not(None), post_packages.c.content_hash.is_not(None))
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == claim.package_id)
        .values(
            status=case((was_ready, Status.READY), else_=Status.ERROR),
            error_code=case((was_ready, null()), else_=code),
            error_message=case((was_ready, null()), else_=message),
            error_detail=case((was_ready, null()), else_=detail),
            updated_at=func.now(),
        )
    )
    return True


def forget_package(connection: Connection, claim: Claim) -> bool:
    """Remove the record of an object that was gone before it was read; False when `claim` has been lost."""
    if connection.execute(select(ingest_runs.c.id).where(_holding(claim)).with_for_update()).first() is None:
        return False
    connection.execute(post_packages.delete().where(post_packages.c.id == claim.package_id))
    return True


def give_back(connection: Connection, claim: Claim, *, code: str, message: str) -> None:
    """Let the next delivery claim the job at once, and keep the cause for whoever looks."""
    connection.execute(
        update(ingest_runs)
        .where(_holding(claim))
        .values(
            status=RunStatus.INTERRUPTED,
            lease_until=None,
            queued_at=func.now(),
            error_code=code,
            error_message=message,
        )
    )


def fail_job(
    connection: Connection,
    package_id: UUID,
    *,
    why: str,
    longest_run: timedelta,
    sent_at: datetime | None = None,
) -> UUID | None:
    """End a package's job as `ingest_failed`; return its id, or None if it has ended or a lease lives.

    `sent_at` is when the message was sent that was delivered too often: a replay that began later is none of
    its business.
    The files of an earlier run stay the package's. What this job stored is removed by the sweeper: at once,
    or after `longest_run` where its worker may still be writing.
    """
    run = lock_newest_run(connection, package_id)
    if run is None or run["lease_lives"] or run["status"] not in UNFINISHED:
        return None
    if sent_at is not None and run["trigger"] == Trigger.REPLAY and run["created_at"] > sent_at:
        return None
    last = (
        f"{run['error_code']}: {run['error_message']}"
        if run["error_code"]
        else "its worker ended without a word"
    )
    failed = connection.execute(
        update(post_packages)
        .where(post_packages.c.id == package_id, post_packages.c.status.in_(PROGRESS))
        .values(
            status=Status.ERROR,
            error_code=IngestFailed.code,
            error_message=IngestFailed.message,
            error_detail=f"{why}; attempt {run['attempt']}: {last}",
            updated_at=func.now(),
        )
    )
    if failed.rowcount != 1:
        return None
    connection.execute(
        update(ingest_runs)
        .where(ingest_runs.c.id == run["id"])
        .values(
            status=RunStatus.FAILED,
            lease_until=None,
            finished_at=func.now(),
            error_code=func.coalesce(ingest_runs.c.error_code, IngestFailed.code),
            error_message=func.coalesce(ingest_runs.c.error_message, IngestFailed.message),
        )
    )
    may_still_write = run["status"] == RunStatus.RUNNING
    clean_up_later(connection, package_id, longest_run if may_still_write else timedelta(0))
    job_id: UUID = run["id"]
    add_event(connection, EventKind.FAILED, package_id, job_id)
    return job_id


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
