"""Every minute, or on demand: compare what is stored with what is recorded."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from veripost import telemetry
from veripost.db import get_engine
from veripost.schemas import CallDoctor
from veripost.settings import get_settings
from veripost.storage import get_storage
from veripost.telemetry import logger
from veripost.upkeep import doctor


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    settings = get_settings()
    telemetry.configure(level=settings.log_level, as_json=settings.log_json, environment=settings.environment)
    call = CallDoctor.model_validate(event)
    with logger.append_context_keys(request_id=context.aws_request_id):
        found = doctor.called(
            call,
            engine=get_engine(settings),
            storage=get_storage(settings),
            settings=settings,
            seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
        )
    return {} if found is None else found.model_dump(mode="json")
