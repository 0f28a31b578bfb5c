"""Who is calling, by the API key of the request, and whether they may."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from veripost import api_key, db, queries
from veripost.api_key import Scope
from veripost.errors import Forbidden, Unauthenticated
from veripost.settings import Settings
from veripost.telemetry import logger

CACHE_SECONDS = 30  # so long a process may let a revoked key in
CACHED_KEYS = 256
NOTED_EVERY = timedelta(minutes=1)

_NO_KEY = "0" * 64  # the hash of nothing: what a key that nobody has is compared with


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key it is, and what it allows."""

    key_id: UUID
    client_name: str
    scopes: frozenset[Scope]

    def require(self, needed: Scope) -> None:
        """Raise `Forbidden`, which says what is needed, unless one of the scopes covers it."""
        if not any(scope.covers(needed) for scope in self.scopes):
            raise Forbidden(
                f"This API key may not do that: it needs the scope “{needed}”.",
                detail=f"needs {needed}; the key has {', '.join(sorted(self.scopes))}",
            )


@dataclass(frozen=True, slots=True)
class _Known:
    """A usable key as it was found, and until when that counts (seconds of the clock)."""

    key_hash: str
    caller: Caller
    found_at: float
    lasts: float
    noted_at: float

    def counts(self, now: float) -> bool:
        return 0 <= now - self.found_at < self.lasts


class Authenticator:
    """Recognises keys, and remembers those it recognised for half a minute.

    So a key that is revoked works on for up to `CACHE_SECONDS` in a process that has just seen it; one that
    expires does not, because no entry outlives its key. What was not recognised is not remembered: a new key
    works at once. `clock` is a wall clock: a monotonic one may stand still while Lambda freezes a process.
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def authenticate(self, key: str) -> Caller:
        """Return whose `key` (the header's text, empty without one) this is.

        A key with one wrong character, one that nobody has, a revoked one and an expired one take the same
        path to the same words.

        Raises
        ------
        Unauthenticated
            It is no key that may be used now.
        SQLAlchemyError
            The database does not answer.
        """
        now = self._clock()
        prefix = api_key.prefix_of(key)
        known = self._find(prefix, now) if prefix is not None else None
        expected = _NO_KEY if known is None else known.key_hash
        same = hmac.compare_digest(api_key.hash_of(key), expected)
        if prefix is None or known is None or not same:
            raise Unauthenticated
        self._note(prefix, known, now)
        return known.caller

    def _find(self, prefix: str, now: float) -> _Known | None:
        before = self._known.get(prefix)
        if before is not None and before.counts(now):
            return before
        with self._engine.connect() as connection:
            row = queries.find_key(connection, prefix)
        self._known.pop(prefix, None)
        if row is None:
            return None
        left = CACHE_SECONDS if row["seconds_left"] is None else min(CACHE_SECONDS, row["seconds_left"])
        known = _Known(
            key_hash=row["key_hash"],
            caller=Caller(
                key_id=row["id"],
                client_name=row["client_name"],
                scopes=frozenset(Scope(scope) for scope in row["scopes"]),
            ),
            found_at=now,
            lasts=float(left),
            noted_at=before.noted_at if before else float("-inf"),
        )
        self._keep(prefix, known)
        return known

    def _keep(self, prefix: str, known: _Known) -> None:
        self._known[prefix] = known
        while len(self._known) > CACHED_KEYS:
            del self._known[next(iter(self._known))]  # the one that was found longest ago

    def _note(self, prefix: str, known: _Known, now: float) -> None:
        """Write down, once a minute, that the key is in use; a caller never waits or fails because of it."""
        if 0 <= now - known.noted_at < NOTED_EVERY.total_seconds():
            return
        if prefix in self._known:
            self._known[prefix] = replace(known, noted_at=now)
        try:
            with self._engine.begin() as connection:
                queries.note_key_use(connection, known.caller.key_id, every=NOTED_EVERY)
        except SQLAlchemyError as error:
            logger.warning(
                "could not note the use of a key",
                extra={"client": known.caller.client_name, "detail": str(error.__cause__ or error)},
            )


@cache
def get_authenticator(settings: Settings) -> Authenticator:
    """Return the authenticator of this process. Like the engine, it serves one request at a time."""
    return Authenticator(db.get_engine(settings))
