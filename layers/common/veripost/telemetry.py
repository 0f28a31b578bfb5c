"""One structured logger for the whole package; every line of a job carries its identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

logger = Logger(service="veripost")
NAMESPACE = "VeriPost"
_environment = ["dev"]  # of this process, once `configure` has told it

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
    _environment[:] = [environment]


def emit(values: Mapping[str, float | timedelta], **dimensions: str) -> None:
    """Report metrics, all with the same dimensions besides `environment`.

    They are printed as one line in CloudWatch's embedded metric format, so that reporting costs no call:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    A `timedelta` is in seconds, a name that ends with `Bytes` in bytes, all others are counts.
    """
    metrics = EphemeralMetrics(namespace=NAMESPACE, service="veripost")
    metrics.add_dimension(name="environment", value=_environment[0])
    for dimension, text in dimensions.items():
        metrics.add_dimension(name=dimension, value=text)
    for name, value in values.items():
        if isinstance(value, timedelta):
            metrics.add_metric(name=name, unit=MetricUnit.Seconds, value=value.total_seconds())
        else:
            unit = MetricUnit.Bytes if name.endswith("Bytes") else MetricUnit.Count
            metrics.add_metric(name=name, unit=unit, value=value)
    metrics.flush_metrics()
