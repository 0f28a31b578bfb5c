"""Dead letters → `error`. A message that was delivered too often ends its package as `ingest_failed`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from veripost import ingest_queue, ingestion, telemetry
from veripost.db import get_engine
from veripost.settings import get_settings
from veripost.storage import get_storage
from veripost.telemetry import logger


def give_up(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """End the packages that one message announces; one that nobody can read is parked for a person."""
    settings = get_settings()
    with logger.append_context_keys(request_id=lambda_context.aws_request_id, message_id=record.message_id):
        try:
            objects = ingest_queue.landed_objects(record.body)
        except ingest_queue.MalformedEvent as error:
            ingest_queue.park(record.body, settings=settings)
            telemetry.emit({"MessagesParked": 1})
            logger.error("message parked", extra={"detail": error.detail})
            return
        try:
            for landed in objects:
                ingestion.give_up(
                    landed,
                    engine=get_engine(settings),
                    storage=get_storage(settings),
                    longest_run=ingestion.config_of(settings).longest_run,
                    # Milliseconds since 1970; moving to the dead-letter queue does not change it.
                    sent_at=datetime.fromtimestamp(int(record.attributes.sent_timestamp) / 1000, UTC),
                )
        except Exception:
            logger.exception("dead letter stays in the queue")
            raise


_processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    settings = get_settings()
    telemetry.configure(level=settings.log_level, as_json=settings.log_json, environment=settings.environment)
    return process_partial_response(
        event=event, record_handler=give_up, processor=_processor, context=context
    )
