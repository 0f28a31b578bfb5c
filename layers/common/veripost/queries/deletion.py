"""Packages on their way out. The row goes last: as long as it is there, somebody can go on with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, RowMapping, func, or_, select, update

from veripost.models import RunStatus, Status, ingest_runs, post_packages
from veripost.queries.jobs import UNFINISHED, clean_up_later, lock_newest_run
from veripost.queries.packages import Source


@dataclass(frozen=True, slots=True)
class Deletion:
    """A package that is being deleted. `due`: no worker can write below its prefix any more."""

    package_id: UUID
    source: Source
    due: bool


class Busy(Exception):
    """A worker's lease lives; `seconds` until it runs out unless it is renewed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def begin_deletion(connection: Connection, package_id: UUID, *, longest_run: timedelta) -> Deletion | None:
    """Make a package `deleting` and its jobs end; None where there is no such package.

    Raises
    ------
    Busy
        A worker's lease lives.
    """
    run = lock_newest_run(connection, package_id)
    if run is not None and run["lease_lives"]:
        left = connection.scalar(select(func.extract("epoch", run["lease_until"] - func.now())))
        raise Busy(float(left or 0))
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == package_id, post_packages.c.status != Status.DELETING)
        .values(status=Status.DELETING, updated_at=func.now())
    )
    if run is not None and run["status"] in UNFINISHED:
        connection.execute(
            update(ingest_runs)
            .where(ingest_runs.c.id == run["id"])
            .values(
                status=RunStatus.FAILED,
                lease_until=None,
                finished_at=func.now(),
                error_code="deleted",
                error_message="The package was deleted.",
            )
        )
        if run["status"] == RunStatus.RUNNING:  # its lease ran out, but it may be writing all the same
            clean_up_later(connection, package_id, longest_run)
    row = connection.execute(_DELETING.where(post_packages.c.id == package_id)).mappings().first()
    return None if row is None else _deletion(row)


_DELETING = select(
    post_packages.c.id,
    post_packages.c.source_bucket,
    post_packages.c.source_key,
    post_packages.c.source_version,
    or_(post_packages.c.clean_up_after.is_(None), post_packages.c.clean_up_after < func.now()).label("due"),
).where(post_packages.c.status == Status.DELETING)


def _deletion(row: RowMapping) -> Deletion:
    source = Source(row["source_bucket"], row["source_key"], row["source_version"])
    return Deletion(row["id"], source, row["due"])


def pending_deletions(connection: Connection, *, limit: int) -> list[Deletion]:
    """Return up to `limit` packages that are being deleted and can be finished, the oldest first."""
    statement = (
        _DELETING.where(
            or_(post_packages.c.clean_up_after.is_(None), post_packages.c.clean_up_after < func.now())
        )
        .order_by(post_packages.c.updated_at)
        .limit(limit)
    )
    return [_deletion(row) for row in connection.execute(statement).mappings()]


def postpone_deletion(connection: Connection, package_id: UUID) -> None:
    """Let others go first: a deletion that failed is the last in line."""
    connection.execute(
        update(post_packages)
        .where(post_packages.c.id == package_id, post_packages.c.status == Status.DELETING)
        .values(updated_at=func.now())
    )


def finish_deletion(connection: Connection, package_id: UUID) -> bool:
    """Remove the row, files and jobs of a package whose objects are gone; False if it is not due."""
    gone = connection.execute(
        post_packages.delete().where(
            post_packages.c.id == package_id,
            post_packages.c.status == Status.DELETING,
            or_(post_packages.c.clean_up_after.is_(None), post_packages.c.clean_up_after < func.now()),
        )
    )
    return gone.rowcount == 1
