"""SQS batch → ingestion. Each message stands for itself: one that fails is retried alone."""

from __future__ import annotations

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


def ingest_message(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """Ingest every object that one message announces; raise to have the message delivered again."""
    settings = get_settings()
    with logger.append_context_keys(request_id=lambda_context.aws_request_id, message_id=record.message_id):
        try:
            for landed in ingest_queue.landed_objects(record.body):
                ingestion.ingest(
                    landed,
                    engine=get_engine(settings),
                    storage=get_storage(settings),
                    config=ingestion.config_of(settings),
                    request_id=lambda_context.aws_request_id,
                    seconds_left=lambda: lambda_context.get_remaining_time_in_millis() / 1000,
                )
        except Exception:
            seconds = ingest_queue.delay_redelivery(
                record.receipt_handle,
                deliveries=int(record.attributes.approximate_receive_count),
                settings=settings,
            )
            logger.exception("message will be delivered again", extra={"after_seconds": seconds})
            raise


_processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    settings = get_settings()
    telemetry.configure(level=settings.log_level, as_json=settings.log_json, environment=settings.environment)
    return process_partial_response(
        event=event, record_handler=ingest_message, processor=_processor, context=context
    )
