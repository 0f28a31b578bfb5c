"""The outbox: what is to be told to the outside, recorded with the state that it tells of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, bindparam, func, select, text

from veripost.models import EventKind, outbox, post_packages


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the outbox. `detail` is what consumers get; its `event_id` stays the same at each try."""

    id: int
    kind: EventKind
    detail: dict[str, Any]
    created_at: datetime


def add_event(connection: Connection, kind: EventKind, package_id: UUID, job_id: UUID) -> None:
    """Announce the state that this transaction gives a package; call it after the last UPDATE of that row."""
    connection.execute(
        _INSERT_EVENT, {"event_id": uuid4(), "kind": kind, "package_id": package_id, "job_id": str(job_id)}
    )


_INSERT_EVENT = text(
    """
    INSERT INTO outbox (event_id, kind, detail)
    SELECT :event_id, :kind, jsonb_build_object(
        'event_id', CAST(:event_id AS text), 'package_id', id, 'job_id', CAST(:job_id AS text), 'name', name,
        'platform', platform, 'status', status, 'error_code', error_code, 'error_message', error_message,
        'file_count', file_count, 'size_bytes', size_bytes, 'content_hash', content_hash,
        'duplicate_of', duplicate_of, 'occurred_at', now()
    )
    FROM post_packages WHERE id = :package_id
    """
).bindparams(
    bindparam("event_id", type_=outbox.c.event_id.type),
    bindparam("package_id", type_=post_packages.c.id.type),
)


def oldest_events(connection: Connection, *, limit: int) -> list[Event]:
    """Return up to `limit` events that have not been accepted yet, in the order of their recording."""
    rows = connection.execute(select(outbox).order_by(outbox.c.id).limit(limit)).all()
    return [Event(row.id, EventKind(row.kind), row.detail, row.created_at) for row in rows]


def delete_events(connection: Connection, ids: Sequence[int]) -> None:
    """Forget events that have been accepted."""
    connection.execute(outbox.delete().where(outbox.c.id.in_(ids)))


def oldest_event_age(connection: Connection) -> timedelta:
    """Return how long the oldest event has been waiting; zero where none is."""
    age: timedelta | None = connection.scalar(select(func.now() - func.min(outbox.c.created_at)))
    return age or timedelta(0)
