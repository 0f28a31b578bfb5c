"""How Alembic reaches the database: offline (prints SQL) and online (runs it, one deployer at a time)."""

from __future__ import annotations

import logging

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from veripost import db, models
from veripost.settings import get_settings

# Any number does, as long as every deployer of this schema uses the same one.
_ADVISORY_LOCK = 0x7665_7269_706F_7374  # "veripost"

# A migration that cannot get its lock soon must not make every reader of the table queue up behind it.
_LOCK_TIMEOUT = "4s"
_STATEMENT_TIMEOUT = "60s"
_EXTENSIONS = ("vector", "postgis")
_WELCOME = ("pg_trgm",)  # never required: without it, search finds whole words and how they begin
# PostGIS brings this table along; it is not ours, so the drift check must not see it.
_FOREIGN_TABLES = frozenset({"spatial_ref_sys"})

_INSUFFICIENT_PRIVILEGE = "42501"

# How long a second deployer waits for the first to finish.
_DEPLOYER_TIMEOUT = "120s"


log = logging.getLogger("veripost.migrations")


class ExtensionMissing(RuntimeError):
    """The server lacks an extension that `REQUIRE_EXTENSIONS` asks for."""


def ours(name: str | None, kind: str, _parents: object) -> bool:
    """Tell Alembic's comparison which objects of the database the models must know."""
    if kind == "index":
        return name not in models.OPTIONAL_INDEXES
    return not (kind == "table" and name in _FOREIGN_TABLES)


def ensure_extensions(connection: Connection, *, required: bool) -> None:
    """Create each extension that the server offers; warn (or raise, if `required`) about the others."""
    offered = set(connection.scalars(text("SELECT name FROM pg_available_extensions")))
    for extension in (*_EXTENSIONS, *_WELCOME):
        needed = required and extension in _EXTENSIONS
        if extension in offered:
            _create_extension(connection, extension, required=needed)
        elif needed:
            raise ExtensionMissing(
                f"this Postgres server does not offer {extension}, and REQUIRE_EXTENSIONS asks for it"
            )
        else:
            log.warning(
                "this Postgres server does not offer the extension %s; going on without it", extension
            )


def _create_extension(connection: Connection, extension: str, *, required: bool) -> None:
    try:
        with connection.begin_nested():
            connection.execute(text(f"CREATE EXTENSION IF NOT EXISTS {extension}"))
    except DBAPIError as error:
        if required or db.sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise
        log.warning("this user may not create the extension %s; going on without it", extension)


def ensure_optional_indexes(connection: Connection) -> None:
    """Create each index whose table and extension are there; one that cannot be made is only warned about."""
    there = set(connection.scalars(text("SELECT extname FROM pg_extension")))
    for name, index in models.OPTIONAL_INDEXES.items():
        table = connection.scalar(text("SELECT to_regclass(:table)"), {"table": index.table})
        if index.extension not in there or table is None:
            continue
        try:
            with connection.begin_nested():
                connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name} ON {index.table} {index.sql}"))
        except DBAPIError as error:
            log.warning("could not create the index %s; search goes on without it: %s", name, error.orig)


def run_offline() -> None:
    """Print the SQL of the migrations instead of running it (`alembic upgrade head --sql`)."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=models.metadata,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        context.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'")
        context.execute(f"-- Where the server offers them, also: CREATE EXTENSION {', '.join(_EXTENSIONS)}")
        context.run_migrations()
        context.execute(f"-- Where their extensions are, also: {', '.join(models.OPTIONAL_INDEXES)}")


def run_online(connection: Connection) -> None:
    """Run the migrations in one transaction that holds the deployers' lock until it ends."""
    context.configure(connection=connection, target_metadata=models.metadata, include_name=ours)
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{_DEPLOYER_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'"))
        ensure_extensions(connection, required=get_settings().require_extensions)
        context.run_migrations()
        ensure_optional_indexes(connection)


if context.is_offline_mode():
    run_offline()
else:
    shared: Connection | None = context.config.attributes.get("connection")
    if shared is not None:
        run_online(shared)
    else:
        with db.get_engine(get_settings()).connect() as own:
            run_online(own)
