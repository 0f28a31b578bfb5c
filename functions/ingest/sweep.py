"""Every minute: find what nobody works on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from veripost import telemetry
from veripost.db import get_engine
from veripost.settings import get_settings
from veripost.storage import get_storage
from veripost.telemetry import logger
from veripost.upkeep.sweep import Sweeper


def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    settings = get_settings()
    telemetry.configure(level=settings.log_level, as_json=settings.log_json, environment=settings.environment)
    sweeper = Sweeper(
        get_engine(settings),
        get_storage(settings),
        settings,
        seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    with logger.append_context_keys(request_id=context.aws_request_id):
        return asdict(sweeper.run())
