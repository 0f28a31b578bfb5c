"""API keys: one row each, of which the key itself is no part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, RowMapping, extract, func, insert, or_, select, tuple_, update

from veripost.models import api_keys
from veripost.queries.packages import Position

# All that may be shown; the hash is not.
_SHOWN = tuple(column for column in api_keys.c if column.name != "key_hash")


def add_key(
    connection: Connection,
    *,
    prefix: str,
    key_hash: str,
    client_name: str,
    scopes: Sequence[str],
    expires: datetime | timedelta | None,
) -> RowMapping:
    """Record a key that ends at a moment, so long from now, or never; return its row without the hash."""
    statement = (
        insert(api_keys)
        .values(
            id=uuid4(),
            prefix=prefix,
            key_hash=key_hash,
            client_name=client_name,
            scopes=list(scopes),
            expires_at=func.now() + expires if isinstance(expires, timedelta) else expires,
        )
        .returning(*_SHOWN)
    )
    return connection.execute(statement).mappings().one()


def find_key(connection: Connection, prefix: str) -> RowMapping | None:
    """Return the key with this prefix if it may be used now; `seconds_left` is None where it never ends."""
    statement = select(
        api_keys.c.id,
        api_keys.c.key_hash,
        api_keys.c.client_name,
        api_keys.c.scopes,
        extract("epoch", api_keys.c.expires_at - func.now()).label("seconds_left"),
    ).where(
        api_keys.c.prefix == prefix,
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()),
    )
    return connection.execute(statement).mappings().first()


def note_key_use(connection: Connection, key_id: UUID, *, every: timedelta) -> None:
    """Write down that a key was used just now, unless that was done less than `every` ago.

    Waits for nobody: while another process writes it down, that is enough.
    """
    due: Any = (
        select(api_keys.c.id)
        .where(
            api_keys.c.id == key_id,
            or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < func.now() - every),
        )
        .with_for_update(skip_locked=True)
    )
    connection.execute(
        update(api_keys).where(api_keys.c.id.in_(due.scalar_subquery())).values(last_used_at=func.now())
    )


def revoke_key(connection: Connection, key_id: UUID) -> bool:
    """End a key now, or leave it ended; False when there is none."""
    revoked = connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id)
        .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
    )
    return revoked.rowcount == 1


def list_keys(connection: Connection, *, limit: int, after: Position | None) -> Sequence[RowMapping]:
    """Return up to `limit` keys, newest first, those behind `after` only."""
    statement = select(*_SHOWN).order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()).limit(limit)
    if after is not None:
        place = tuple_(api_keys.c.created_at, api_keys.c.id)
        statement = statement.where(place < tuple_(after.created_at, after.id))
    return connection.execute(statement).mappings().all()
