"""One structured logger for the whole package; every line of a job carries its identifiers."""

from __future__ import annotations

import logging

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

logger = Logger(service="veripost")

_TEXT = "%(asctime)s %(levelname)s %(message)s"


def configure(*, level: str, as_json: bool, environment: str) -> None:
    """Set the level and the form of every log line of this process; safe to call again."""
    logger.setLevel(level)
    formatter: logging.Formatter = (
        LambdaPowertoolsFormatter(service="veripost") if as_json else logging.Formatter(_TEXT)
    )
    for handler in logger.handlers:
        handler.setFormatter(formatter)
    if as_json:
        logger.append_keys(environment=environment)
