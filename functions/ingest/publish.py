"""Every minute: tell EventBridge what became of packages."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from veripost import telemetry
from veripost.db import get_engine
from veripost.settings import get_settings
from veripost.telemetry import logger
from veripost.upkeep import announcing


def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    settings = get_settings()
    telemetry.configure(level=settings.log_level, as_json=settings.log_json, environment=settings.environment)
    with logger.append_context_keys(request_id=context.aws_request_id):
        published = announcing.publish(
            get_engine(settings),
            settings,
            seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
        )
    return {"published": published}
