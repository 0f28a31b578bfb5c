"""New jobs for packages that are final, from the originals that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, func, select, update

from veripost.models import Status, Trigger, post_packages
from veripost.queries.jobs import lock_newest_run
from veripost.queries.packages import add_run

FINAL = (Status.READY, Status.ERROR)


@dataclass(frozen=True, slots=True)
class ReplayFilter:
    """Which packages to replay: those that match every field that is not None."""

    status: Status | None = None
    error_code: str | None = None
    platform: str | None = None
    since: datetime | None = None  # last changed then or later
    until: datetime | None = None


def start_replay(connection: Connection, package_id: UUID) -> UUID | None:
    """Queue a new job for a package and make it `pending`; None unless it is final. Returns the job's id.

    The files of the last run stay readable until the new one ends.
    """
    lock_newest_run(connection, package_id)
    reopened = connection.execute(
        update(post_packages)
        .where(
            post_packages.c.id == package_id,
            post_packages.c.status.in_(FINAL),
            post_packages.c.source_version.is_not(None),
        )
        .values(
            status=Status.PENDING,
            error_code=None,
            error_message=None,
            error_detail=None,
            updated_at=func.now(),
        )
    )
    if reopened.rowcount != 1:
        return None
    return add_run(connection, package_id, Trigger.REPLAY)


def replayable(connection: Connection, chosen: ReplayFilter, *, limit: int) -> Sequence[RowMapping]:
    """Return up to `limit` final packages that match and whose object has landed, longest unchanged first.

    Each row has `id`, `source_bucket`, `source_key`, `source_version` and `size_bytes`.
    """
    conditions: list[Any] = [
        post_packages.c.status.in_(FINAL),
        post_packages.c.source_version.is_not(None),
    ]
    if chosen.status is not None:
        conditions.append(post_packages.c.status == chosen.status)
    if chosen.error_code is not None:
        conditions.append(post_packages.c.error_code == chosen.error_code)
    if chosen.platform is not None:
        conditions.append(post_packages.c.platform == chosen.platform)
    if chosen.since is not None:
        conditions.append(post_packages.c.updated_at >= chosen.since)
    if chosen.until is not None:
        conditions.append(post_packages.c.updated_at < chosen.until)
    found = connection.execute(
        select(
            post_packages.c.id,
            post_packages.c.source_bucket,
            post_packages.c.source_key,
            post_packages.c.source_version,
            post_packages.c.size_bytes,
        )
        .where(*conditions)
        .order_by(post_packages.c.updated_at, post_packages.c.id)
        .limit(limit)
    )
    return found.mappings().all()
