"""The Lambda that brings the schema up to date: invoked by every deploy, and by `make migrate`.

It also makes the first API key (`make key`): whoever may invoke it owns the deployment anyhow, so no key has
to be there by default.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from veripost import db, keys, telemetry
from veripost.schemas import CreateKey
from veripost.settings import get_settings


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema on `connection` up to `revision`; returns when it is committed."""
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema on `connection` back to `revision` (`base`: nothing is left)."""
    command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config(Path(__file__).with_name("alembic.ini"))
    config.attributes["connection"] = connection
    return config


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Upgrade to the newest revision and tell which one that is and which extensions exist.

    `{"key": {"client_name", "scopes", ...}}`, with the fields of `POST /v1/keys`, makes a key instead, and
    returns it: the only time that it is shown.
    """
    settings = get_settings()
    telemetry.configure(level=settings.log_level, as_json=settings.log_json, environment=settings.environment)
    if "key" in event:
        minted = keys.mint(db.get_engine(settings), CreateKey.model_validate(event["key"]))
        return minted.model_dump(mode="json")
    # The server bounds migrations (see env.py); the socket must wait longer than any of its bounds.
    patient = replace(settings, database_timeout_seconds=150)
    with db.get_engine(patient).connect() as connection:
        upgrade(connection)
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        extensions = list(connection.scalars(text("SELECT extname FROM pg_extension ORDER BY extname")))
    telemetry.logger.info("schema is up to date", extra={"revision": revision, "extensions": extensions})
    return {"revision": revision, "extensions": extensions}
