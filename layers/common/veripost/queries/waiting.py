"""Slots to wait in: how many requests may be held open at once, over all processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, text

from veripost.models import waiting_slots


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to hold one request open. It ends by itself, should nobody give it back."""

    number: int
    held_until: datetime


def take_slot(connection: Connection, *, most: int, hold: timedelta) -> Slot | None:
    """Take one of the slots 1 to `most`, or return None when all are held.

    Two callers may pick the same free one; the row lets one of them have it, and the other is told that all
    are held, which can be too cautious but never one too many.
    """
    row = connection.execute(_TAKE, {"most": most, "hold": hold}).first()
    return None if row is None else Slot(row.slot, row.held_until)


_TAKE = text(
    """
    INSERT INTO waiting_slots (slot, held_until)
    SELECT number, now() + CAST(:hold AS interval)
    FROM generate_series(1, CAST(:most AS integer)) AS number
    WHERE NOT EXISTS (SELECT FROM waiting_slots WHERE slot = number AND held_until > now())
    ORDER BY random() LIMIT 1
    ON CONFLICT (slot) DO UPDATE SET held_until = excluded.held_until
        WHERE waiting_slots.held_until <= now()
    RETURNING slot, held_until
    """
)


def give_slot_back(connection: Connection, slot: Slot) -> None:
    """Free a slot, unless it has ended and is somebody else's by now."""
    connection.execute(
        delete(waiting_slots).where(
            waiting_slots.c.slot == slot.number, waiting_slots.c.held_until == slot.held_until
        )
    )
