"""Telling the outside what became of packages: from the outbox to EventBridge, at least once, in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from veripost import queries, telemetry
from veripost.errors import Unavailable
from veripost.settings import Settings
from veripost.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

SOURCE = "veripost"
_MOST_IN_A_CALL = 10  # a limit of EventBridge
_RESERVE_SECONDS = 10.0


@cache
def _client() -> EventBridgeClient:
    import boto3

    return boto3.client("events")


def publish(engine: Engine, settings: Settings, *, seconds_left: Callable[[], float]) -> int:
    """Send what waits in the outbox until it is empty or time is nearly over; return how many went out.

    An event leaves the outbox once EventBridge has accepted it. Cut off in between, it is sent again:
    consumers tell duplicates by `detail.event_id`.

    Raises
    ------
    Unavailable
        EventBridge did not take an event; it and all later ones stay.
    """
    with engine.connect() as connection:  # first: whatever happens below, the alarm has its figure
        telemetry.emit({"OldestEventAge": queries.oldest_event_age(connection)})
    published = 0
    while seconds_left() > _RESERVE_SECONDS:
        with engine.connect() as connection:
            events = queries.oldest_events(connection, limit=_MOST_IN_A_CALL)
        if not events:
            break
        accepted = _put(events, settings)
        with engine.begin() as connection:
            queries.delete_events(connection, accepted)
        telemetry.emit({"EventsPublished": len(accepted)})
        published += len(accepted)
        if len(accepted) < len(events):
            raise Unavailable(detail=f"the event bus refused {len(events) - len(accepted)} events")
    if published:
        logger.info("events published", extra={"events": published})
    return published


def _put(events: list[queries.Event], settings: Settings) -> list[int]:
    """Return the ids of the events that were accepted: all before the first that was not."""
    from botocore.exceptions import BotoCoreError, ClientError

    entries: list[PutEventsRequestEntryTypeDef] = [
        {
            "Source": SOURCE,
            "DetailType": event.kind,
            "Time": event.created_at,
            "Resources": [f"veripost:package/{event.detail['package_id']}"],
            "Detail": json.dumps(event.detail),
            "EventBusName": settings.event_bus_name,
        }
        for event in events
    ]
    try:
        answer = _client().put_events(Entries=entries)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(detail=f"the event bus: {error}") from error
    accepted: list[int] = []
    for event, told in zip(events, answer["Entries"], strict=True):
        if "EventId" not in told:
            logger.error(
                "event refused", extra={"event_id": event.detail["event_id"], "code": told.get("ErrorCode")}
            )
            break
        accepted.append(event.id)
    return accepted
