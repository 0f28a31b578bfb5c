"""One real Postgres for the whole run, migrated once; every test module gets a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
import urllib3
from moto.server import ThreadedMotoServer
from sqlalchemy import Engine, create_engine, make_url, text

from localcloud.postgres import Postgres, start_postgres
from migrations import app as migrations
from veripost import db, settings
from veripost.settings import Settings
from veripost.storage import Storage

_TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that dies with the test run."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    with start_postgres(folder, fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def admin(postgres: Postgres) -> Iterator[Engine]:
    """A connection that creates and drops databases."""
    engine = create_engine(url_of(postgres, "postgres"), isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def template(postgres: Postgres, admin: Engine) -> str:
    """A database migrated by Alembic, to copy from (40 ms a copy)."""
    with admin.connect() as connection:
        # With the rules of Unicode, as on RDS: in the server's own locale, "C", some mistakes cannot be seen.
        connection.execute(
            text(
                f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0 "
                "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        )
    engine = create_engine(url_of(postgres, _TEMPLATE))
    with engine.connect() as connection:
        migrations.upgrade(connection)
    engine.dispose()
    return _TEMPLATE


@pytest.fixture(scope="module")
def database_url(postgres: Postgres, admin: Engine, template: str) -> Iterator[str]:
    """The address of a fresh, migrated database."""
    name = f"test_{uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield url_of(postgres, name).replace("postgresql+pg8000://", "postgresql://")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    """The engine as a Lambda has it."""
    made = db.get_engine(Settings(database_url=database_url, database_tls="disable"))
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """An S3 that speaks HTTP: the engine's own client cannot be mocked inside the process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def storage(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Both buckets, empty and versioned."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    urllib3.request("POST", f"{s3_url}/moto-api/reset")
    s3 = boto3.client("s3")
    for bucket in ("incoming", "packages"):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return Storage(
        settings.load(
            {"INCOMING_BUCKET": "incoming", "PACKAGE_BUCKET": "packages", "S3_ENDPOINT_URL": s3_url}
        )
    )


def url_of(postgres: Postgres, database: str) -> str:
    url = make_url(postgres.url).set(drivername="postgresql+pg8000", database=database)
    return url.render_as_string(hide_password=False)
