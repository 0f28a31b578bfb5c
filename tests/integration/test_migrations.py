"""The schema comes from Alembic alone, goes up, down and up again, and agrees with the models."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from localcloud.postgres import Postgres
from migrations import app as migrations
from tests.integration.conftest import url_of
from veripost import models, settings


@pytest.fixture
def blank(postgres: Postgres, admin: Engine) -> Iterator[Engine]:
    """An engine of an empty database."""
    name = f"blank_{uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = create_engine(url_of(postgres, name))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def _tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_down_up(blank: Engine) -> None:
    with blank.connect() as connection:
        migrations.upgrade(connection)
    assert _tables(blank) == set(models.metadata.tables)
    with blank.connect() as connection:
        migrations.downgrade(connection, "base")
    assert _tables(blank) == set()
    with blank.connect() as connection:
        migrations.upgrade(connection)
    assert _tables(blank) == set(models.metadata.tables)


def test_models_and_migrations_agree(engine: Engine) -> None:
    def known(name: str | None, kind: str, _parents: object) -> bool:
        return not (kind == "index" and name in models.OPTIONAL_INDEXES)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": known})
        drift = compare_metadata(context, models.metadata)
    assert drift == []


def test_check_constraints_agree(engine: Engine) -> None:
    """Alembic's comparison leaves CHECK constraints out, so their names are compared here."""
    found = inspect(engine)
    for table in models.metadata.sorted_tables:
        migrated = {check["name"] for check in found.get_check_constraints(table.name)}
        ddl = str(CreateTable(table).compile(engine))
        declared = set(re.findall(r"CONSTRAINT (ck_\w+) CHECK", ddl))
        assert declared
        assert migrated == declared, table.name


def test_two_deployers_do_not_collide(blank: Engine) -> None:
    """Alembic's context is one per process, so each deployer is a process, as it is a Lambda in AWS."""
    root = Path(migrations.__file__).parents[1]
    environment = os.environ | {
        "DATABASE_URL": blank.url.set(drivername="postgresql").render_as_string(hide_password=False),
        "DATABASE_TLS": "disable",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "layers" / "common")]),
    }
    command_line = [sys.executable, "-c", "from migrations import app; app.handler({}, None)"]
    deployers = [
        subprocess.Popen(command_line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    outputs = [deployer.communicate(timeout=120)[0].decode() for deployer in deployers]
    assert [deployer.returncode for deployer in deployers] == [0, 0, 0], outputs
    assert _tables(blank) == set(models.metadata.tables)


def test_offline_mode_prints_the_sql() -> None:
    config = Config(Path(migrations.__file__).with_name("alembic.ini"))
    printed = io.StringIO()
    with redirect_stdout(printed):
        command.upgrade(config, "head", sql=True)
    sql = printed.getvalue()
    assert "SET LOCAL lock_timeout" in sql
    for table in models.metadata.tables:
        assert f"CREATE TABLE {table}" in sql


def test_vector_is_there_and_a_missing_extension_can_be_an_error(
    blank: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with blank.connect() as connection:
        offered = set(connection.scalars(text("SELECT name FROM pg_available_extensions")))
    assert "vector" in offered
    monkeypatch.setenv("REQUIRE_EXTENSIONS", "1")
    settings.get_settings.cache_clear()
    try:
        if "postgis" in offered:
            with blank.connect() as connection:
                migrations.upgrade(connection)
        else:
            with (
                blank.connect() as connection,
                pytest.raises(RuntimeError, match="does not offer postgis"),
            ):
                migrations.upgrade(connection)
            assert _tables(blank) == set()
    finally:
        settings.get_settings.cache_clear()


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE post_packages SET status = 'lost'", "ck_post_packages_status"),
        ("UPDATE post_packages SET status = 'error'", "ck_post_packages_error_has_a_code"),
        ("UPDATE post_packages SET status = 'ready'", "ck_post_packages_ready_is_whole"),
        ("UPDATE post_packages SET content_hash = 'abc'", "ck_post_packages_content_hash_is_sha256"),
        (
            "UPDATE post_packages SET content_hash = repeat('A', 64)",
            "ck_post_packages_content_hash_is_sha256",
        ),
        ("UPDATE post_packages SET content_hash = repeat('x', 64)", "invalid hexadecimal digit"),
        ("UPDATE post_packages SET s3_prefix = 'elsewhere/'", "ck_post_packages_s3_prefix"),
        ("UPDATE ingest_runs SET status = 'running'", "ck_ingest_runs_running_has_a_lease"),
    ],
)
def test_the_database_holds_the_rules(engine: Engine, statement: str, constraint: str) -> None:
    package_id = uuid4()
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO post_packages (id, name, source_bucket, source_key, s3_prefix) "
                "VALUES (:id, 'x', 'b', 'k', :prefix)"
            ),
            {"id": package_id, "prefix": f"packages/{package_id}/"},
        )
        connection.execute(
            text("INSERT INTO ingest_runs (id, package_id, trigger) VALUES (:run, :id, 'drop')"),
            {"run": uuid4(), "id": package_id},
        )
        with pytest.raises(DBAPIError, match=constraint):
            connection.execute(text(statement))
        connection.rollback()
