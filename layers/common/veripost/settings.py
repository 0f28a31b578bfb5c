"""Every setting, in one place: its environment variable, its default and what it means.

Nothing else in VeriPost reads the environment, and this module reads it on first use, not at import.
`.env.example` and the README's table are checked against `FIELDS` by a test.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class SettingsError(ValueError):
    """One or more environment variables hold a value that cannot be used; the text names all of them."""


def _boolean(text: str) -> bool:
    lowered = text.strip().casefold()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("must be true or false")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise ValueError("must be a whole number above 0")
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number, 0 or more")
    return int(text)


def _log_level(text: str) -> str:
    level = text.strip().upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return level


def _tls(text: str) -> str:
    if text not in {"verify", "disable"}:
        raise ValueError("must be verify or disable")
    return text


def _extensions(text: str) -> tuple[str, ...]:
    pairs = _names(text)
    for pair in pairs:
        platform, colon, extension = pair.partition(":")
        if not (platform and colon and extension.startswith(".") and len(extension) > 1):
            raise ValueError("must look like camworks:.CNF,camworks:.RTF")
    return pairs


def _setting(default: Any, meaning: str, parse: Any = str) -> Any:
    return field(default=default, metadata={"meaning": meaning, "parse": parse})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, parsed and checked. The field `log_level` is the variable `LOG_LEVEL`, and so on."""

    environment: str = _setting("dev", "name of this deployment; appears in every log line")
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL", _log_level)
    log_json: bool = _setting(True, "one JSON object a log line; false prints text for people", _boolean)
    cors_origins: tuple[str, ...] = _setting(
        (), "origins, separated by commas, whose pages may call the API; empty: none", _names
    )
    api_key_header: str = _setting("X-API-Key", "name of the request header that carries the API key")

    database_url: str = _setting(
        "", "postgresql://user:password@host:port/name; beats every DATABASE_ setting below", str
    )
    database_host: str = _setting("", "host of Postgres (or of RDS Proxy)")
    database_port: int = _setting(5432, "port of Postgres", _positive)
    database_name: str = _setting("veripost", "name of the database")
    database_user: str = _setting("veripost", "user that owns the tables")
    database_secret_arn: str = _setting(
        "", "ARN of the Secrets Manager secret with the password; empty: an IAM token is used"
    )
    database_tls: str = _setting(
        "verify",
        "verify: TLS with a checked certificate; disable: plain, for a database on this machine",
        _tls,
    )
    database_ca_file: str = _setting(
        "", "PEM file that vouches for the database's certificate; empty: the system's trust store"
    )
    database_timeout_seconds: int = _setting(10, "longest wait for one answer of the database", _positive)

    s3_endpoint_url: str = _setting("", "S3 as the functions reach it; empty: AWS")
    s3_public_endpoint_url: str = _setting(
        "", "S3 as clients reach it, for presigned URLs; empty: the same as S3_ENDPOINT_URL"
    )
    incoming_bucket: str = _setting("", "bucket where packages land (set by the template)")
    ingest_queue_url: str = _setting("", "queue that ingestion works off (set by the template)")
    parking_lot_queue_url: str = _setting("", "queue of messages that nobody can read (set by the template)")
    event_bus_name: str = _setting("", "bus on which packages are announced (set by the template)")
    bundle_function: str = _setting("", "function that builds packages as one ZIP (set by the template)")
    package_bucket: str = _setting("", "bucket where extracted files live (set by the template)")
    upload_url_seconds: int = _setting(3600, "how long a presigned upload stays valid", _positive)
    download_url_seconds: int = _setting(300, "how long a presigned download stays valid", _positive)

    max_waiting: int = _setting(
        20,
        "how many requests may wait for a package at once (?wait=); the others are answered at once; 0: none",
        _count,
    )

    require_extensions: bool = _setting(
        False, "true: migrations fail where the server lacks the vector or postgis extension", _boolean
    )
    extra_extensions: tuple[str, ...] = _setting(
        (), "file types to accept beyond a platform's own, e.g. camworks:.CNF,camworks:.RTF", _extensions
    )

    max_archive_bytes: int = _setting(2 * GIB, "largest archive", _positive)
    max_entries: int = _setting(10_000, "most entries in an archive", _positive)
    max_member_bytes: int = _setting(256 * MIB, "largest single file, uncompressed", _positive)
    max_total_bytes: int = _setting(2 * GIB, "largest sum of all files, uncompressed", _positive)
    max_ratio: int = _setting(200, "highest compression ratio of a file above 1 MiB", _positive)

    ingest_memory_mb: int = _setting(
        1024, "memory of the ingest function; Lambda gives one CPU for each 1,769 MB", _positive
    )
    ingest_timeout_seconds: int = _setting(
        300, "longest run of the ingest function: a worker that lost its lease may write that long", _positive
    )
    max_receive_count: int = _setting(5, "attempts at a package before it is given up", _positive)
    stale_seconds: int = _setting(
        600, "how long the sweeper leaves alone what shows no sign of life", _positive
    )
    lease_seconds: int = _setting(60, "how long a worker owns a package between two signs of life", _positive)
    retry_backoff_seconds: int = _setting(
        10,
        "wait before the first retry of a failed ingestion; doubles each time, 15 minutes at most",
        _positive,
    )

    @property
    def s3_presign_endpoint_url(self) -> str:
        """The endpoint that presigned URLs name."""
        return self.s3_public_endpoint_url or self.s3_endpoint_url

    @property
    def ingest_cpu_workers(self) -> int:
        """How many threads verify members: one for each whole CPU of the ingest function.

        https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
        """
        return max(1, self.ingest_memory_mb // 1769)

    @property
    def archive_limits(self) -> dict[str, int]:
        """The limits of the archive gate, by the names of its own `Limits`."""
        return {
            "archive_bytes": self.max_archive_bytes,
            "entries": self.max_entries,
            "member_bytes": self.max_member_bytes,
            "total_bytes": self.max_total_bytes,
            "ratio": self.max_ratio,
        }


def variable(name: str) -> str:
    """Return the environment variable of the field `name`."""
    return name.upper()


FIELDS = fields(Settings)


def load(environ: Mapping[str, str]) -> Settings:
    """Parse `environ`; an unset or empty variable keeps its default.

    Raises
    ------
    SettingsError
        Naming every variable that cannot be used, and why. Values are left out: one could be a secret.
    """
    values: dict[str, Any] = {}
    faults: list[str] = []
    for spec in FIELDS:
        text = environ.get(variable(spec.name), "")
        if text == "":
            continue
        try:
            values[spec.name] = spec.metadata["parse"](text)
        except ValueError as fault:
            reason = str(fault) if str(fault).startswith("must") else "must be a whole number above 0"
            faults.append(f"{variable(spec.name)} {reason}")
    if faults:
        raise SettingsError("; ".join(faults))
    return Settings(**values)


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read from the environment once."""
    return load(os.environ)
