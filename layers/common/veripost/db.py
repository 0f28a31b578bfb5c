"""The one database engine of a process, and how it gets its password."""

from __future__ import annotations

import json
import ssl
from functools import cache
from typing import Any

import pg8000.dbapi
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from veripost.errors import Unavailable
from veripost.settings import Settings

_WRONG_CREDENTIALS = "28P01"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
# Classes 08 (connection), 53 (resources), 57P (shutdown, starting up) and a statement that was timed out.
_UNAVAILABLE = ("08", "53", "57P", "57014")


@cache
def get_engine(settings: Settings) -> Engine:
    """Return the engine of this process: one connection, checked before each use.

    A Lambda serves one request at a time, so a pool of one is all it can use. `pool_pre_ping` replaces a
    connection that died while the environment was frozen or the database restarted.
    """
    connect = _Connector(settings)
    return create_engine(
        "postgresql+pg8000://",
        creator=connect,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
    )


def address(settings: Settings) -> URL:
    """Return where the database is; the password is empty unless `DATABASE_URL` holds one."""
    if settings.database_url:
        return make_url(settings.database_url)
    return URL.create(
        "postgresql",
        username=settings.database_user,
        host=settings.database_host,
        port=settings.database_port,
        database=settings.database_name,
    )


def sqlstate(error: DBAPIError) -> str | None:
    """Return the five-character SQLSTATE of `error`; pg8000 hides it in the first argument as `C`."""
    return _sqlstate_of(error.orig)


def is_unavailable(error: SQLAlchemyError) -> bool:
    """Tell whether `error` means "no database right now" rather than a mistake of ours."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        return True
    state = sqlstate(error) if isinstance(error, DBAPIError) else None
    return state is not None and state.startswith(_UNAVAILABLE)


def _sqlstate_of(error: BaseException | None) -> str | None:
    first = error.args[0] if error is not None and error.args else None
    return first.get("C") if isinstance(first, dict) else None


class _Connector:
    """Opens connections; a secret is fetched once, and again when the server rejects it (rotation)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = address(settings)
        self._tls = _tls_context(settings)
        self._secret: str | None = None

    def __call__(self) -> pg8000.dbapi.Connection:
        if self._address.password is not None:
            return self._connect(str(self._address.password))
        if not self._settings.database_secret_arn:
            return self._connect(self._iam_token())
        if self._secret is not None:
            try:
                return self._connect(self._secret)
            except pg8000.dbapi.DatabaseError as error:
                if _sqlstate_of(error) != _WRONG_CREDENTIALS:
                    raise
        self._secret = self._stored_secret()
        return self._connect(self._secret)

    def _connect(self, password: str) -> pg8000.dbapi.Connection:
        return pg8000.dbapi.connect(
            user=self._address.username or self._settings.database_user,
            password=password,
            host=self._address.host or "localhost",
            port=self._address.port or 5432,
            database=self._address.database,
            timeout=self._settings.database_timeout_seconds,
            ssl_context=self._tls,
            application_name="veripost",
        )

    def _iam_token(self) -> str:
        """Return a token that RDS takes as a password; signed here, valid for 15 minutes."""
        import boto3  # only a process that has no DATABASE_URL needs it

        token: str = boto3.client("rds").generate_db_auth_token(
            DBHostname=self._settings.database_host,
            Port=self._settings.database_port,
            DBUsername=self._settings.database_user,
        )
        return token

    def _stored_secret(self) -> str:
        import boto3  # as above

        answer = boto3.client("secretsmanager").get_secret_value(SecretId=self._settings.database_secret_arn)
        return _password_in(answer["SecretString"])


def _password_in(secret: str) -> str:
    """Return the password of a secret in the form that RDS writes (JSON), or the secret as it stands."""
    try:
        document = json.loads(secret)
    except ValueError:
        return secret
    if isinstance(document, dict) and isinstance(document.get("password"), str):
        return str(document["password"])
    raise Unavailable(detail="the database secret has no field `password`")


def _tls_context(settings: Settings) -> Any:
    # pg8000 takes None as "TLS without a check", so the choice is always spelled out: False or a context.
    if settings.database_tls == "disable":
        return False
    return ssl.create_default_context(cafile=settings.database_ca_file or None)
