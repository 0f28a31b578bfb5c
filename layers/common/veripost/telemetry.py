"""One structured logger for the whole package; every line of a job carries its identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

logger = Logger(service="veripost")

_LEFT_OUT = frozenset({"timestamp", "level", "message", "location", "service", "exception", "exception_name"})


class TextFormatter(LambdaPowertoolsFormatter):
    """Lines for people: time, level and message, then everything else as `name=value`."""

    def serialize(self, log: Mapping[str, Any]) -> str:
        """Return one line, and the traceback below it where there is one."""
        facts = [f"{name}={value}" for name, value in log.items() if name not in _LEFT_OUT]
        line = " ".join([str(log["timestamp"]), str(log["level"]), str(log["message"]), *facts])
        return f"{line}\n{log['exception']}" if log.get("exception") else line


def configure(*, level: str, as_json: bool, environment: str) -> None:
    """Set the level and the form of every log line of this process; safe to call again."""
    logger.setLevel(level)
    kind = LambdaPowertoolsFormatter if as_json else TextFormatter
    for handler in logger.handlers:
        if type(handler.formatter) is not kind:
            handler.setFormatter(kind(service="veripost"))
    logger.append_keys(environment=environment)
