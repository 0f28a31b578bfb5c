"""Making and ending API keys. (Who calls is `authentication`; the list of keys is a read, in `catalog`.)"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine

from veripost import api_key, queries
from veripost.api_key import Scope
from veripost.errors import InvalidFields, NotFound
from veripost.schemas import CreateKey, MintedKey
from veripost.telemetry import logger


def mint(engine: Engine, request: CreateKey) -> MintedKey:
    """Make a key. The answer holds it in full, for the only time: what is stored is its hash.

    Raises
    ------
    InvalidFields
        `expires_at` is over already.
    """
    if request.expires_at is not None and request.expires_at <= datetime.now(UTC):
        raise InvalidFields(detail="expires_at: must be in the future")
    made = api_key.make()
    with engine.begin() as connection:
        row = queries.add_key(
            connection,
            prefix=made.prefix,
            key_hash=made.hash,
            client_name=request.client_name,
            scopes=[scope for scope in Scope if scope in request.scopes],
            expires=request.expires_at or (timedelta(days=request.days) if request.days else None),
        )
    logger.info("key made", extra={"prefix": made.prefix, "client_name": request.client_name})
    return MintedKey.model_validate({**row, "key": made.text})


def revoke(engine: Engine, key_id: UUID) -> None:
    """End a key now; doing it twice is no error.

    A process that has just seen the key may let it in for `authentication.CACHE_SECONDS` more.

    Raises
    ------
    NotFound
        There is no such key.
    """
    with engine.begin() as connection:
        found = queries.revoke_key(connection, key_id)
    if not found:
        raise NotFound("There is no such key.", code="key_not_found", detail=f"key {key_id}")
    logger.info("key revoked", extra={"key_id": str(key_id)})
