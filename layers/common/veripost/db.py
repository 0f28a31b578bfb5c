"""The one database engine of a process, and how it gets its password."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pg8000.dbapi
from sqlalchemy import URL, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from veripost.errors import Unavailable
from veripost.settings import Settings

_WRONG_CREDENTIALS = "28P01"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
# Classes 08 (connection), 40 (deadlock, serialization: another try helps), 53 (resources), 57P (shutdown,
# starting up) and a statement that was timed out.
_UNAVAILABLE = ("08", "40", "53", "57P", "57014")


@cache
def get_engine(settings: Settings) -> Engine:
    """Return the engine of this process: one connection, checked before each use.

    A Lambda serves one request at a time, so a pool of one is all it can use. A connection that died while
    the environment was frozen or the database restarted is replaced.
    """
    engine = create_engine(
        "postgresql+pg8000://",
        creator=_Connector(settings),
        pool_size=1,
        max_overflow=0,
    )
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _replace_if_dead)
    event.listen(engine, "handle_error", _drop_unfinished_connection)
    return engine


def _note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["used"] = True


def _replace_if_dead(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Check a connection before it is used again; the pool replaces one that is dead.

    `pool_pre_ping` would do it, but it recognises the driver's own errors only, and pg8000 lets the socket's
    through: https://docs.sqlalchemy.org/en/21/core/pooling.html#custom-legacy-pessimistic-ping
    """
    if not record.info.get("used"):
        return
    try:
        # Past the cursor: that would begin a transaction, prepare, and roll back, which is five round trips.
        connection.execute_simple("SELECT 1")
    except (pg8000.dbapi.Error, OSError) as error:
        raise DisconnectionError(str(error)) from error


def _drop_unfinished_connection(context: ExceptionContext) -> None:
    """Never use a connection again on which a statement ended neither well nor by the server's word.

    A socket timeout, or a value that pg8000 cannot encode, leaves half a conversation behind: the next
    statement would read the answer of this one. SQLAlchemy only recognises the driver's own errors.
    """
    error = context.original_exception
    if isinstance(error, pg8000.dbapi.Error):
        return
    context.is_disconnect = True
    context.invalidate_pool_on_disconnect = False
    if isinstance(error, OSError):
        raise OperationalError(context.statement, None, error) from error


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
        host, port = self._address.host or "localhost", self._address.port or 5432
        connection = _dial(host, port, timeout=self._settings.database_timeout_seconds)
        try:
            return pg8000.dbapi.connect(
                user=self._address.username or self._settings.database_user,
                password=password,
                host=host,
                port=port,
                sock=connection,
                database=self._address.database,
                timeout=self._settings.database_timeout_seconds,
                ssl_context=self._tls,
                application_name="veripost",
            )
        except BaseException:
            connection.close()
            raise

    def _iam_token(self) -> str:
        """Return a token that RDS takes as a password; signed here, valid for 15 minutes."""
        with _aws_client("rds") as rds:
            token: str = rds.generate_db_auth_token(
                DBHostname=self._settings.database_host,
                Port=self._settings.database_port,
                DBUsername=self._settings.database_user,
            )
        return token

    def _stored_secret(self) -> str:
        with _aws_client("secretsmanager") as secrets:
            answer = secrets.get_secret_value(SecretId=self._settings.database_secret_arn)
        return _password_in(answer["SecretString"])


def _dial(host: str, port: int, *, timeout: float) -> socket.socket:
    """Return a connection that sends what it is given at once.

    pg8000 writes a large statement in several pieces. The last one would otherwise wait until the server has
    acknowledged those before it, which a server that waits for the end of the statement puts off by 40 ms
    (Nagle's algorithm and delayed acknowledgements: RFC 1122, 4.2.3).
    """
    try:
        connection = socket.create_connection((host, port), timeout)
    except OSError as error:
        raise pg8000.dbapi.InterfaceError(f"cannot connect to {host}, port {port}: {error}") from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


@contextmanager
def _aws_client(service: str) -> Iterator[Any]:
    """Yield a client that gives up within seconds; what fails in the block is `Unavailable`."""
    import boto3  # only a process that has no DATABASE_URL needs it
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    patience = Config(
        connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}
    )
    make_client: Any = boto3.client
    try:
        yield make_client(service, config=patience)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(detail=f"the database's credentials: {error}") from error


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
