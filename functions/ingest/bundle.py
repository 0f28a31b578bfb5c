"""One package as one ZIP, ordered by `POST /v1/packages/{id}/bundle`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from veripost import telemetry
from veripost.bundles import building
from veripost.db import get_engine
from veripost.settings import get_settings
from veripost.storage import get_storage
from veripost.telemetry import logger


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    settings = get_settings()
    telemetry.configure(level=settings.log_level, as_json=settings.log_json, environment=settings.environment)
    package_id = UUID(event["package_id"])
    with logger.append_context_keys(request_id=context.aws_request_id, package_id=str(package_id)):
        outcome = building.build(
            get_engine(settings),
            get_storage(settings),
            package_id,
            seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
        )
    return {"outcome": outcome}
