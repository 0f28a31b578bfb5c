"""The engine: what it does with a connection that died, stalled or was left in the middle of a statement."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from localcloud.postgres import Postgres
from migrations import app as migrations
from tests.integration.conftest import url_of
from veripost import db
from veripost.errors import Unavailable
from veripost.settings import Settings

# pg8000 cannot say goodbye on a dead socket, and says so when it is collected: here, not in another test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def engine(postgres: Postgres) -> Engine:
    """An engine that waits two seconds at most."""
    url = url_of(postgres, "postgres").replace("postgresql+pg8000://", "postgresql://")
    settings = Settings(database_url=url, database_tls="disable", database_timeout_seconds=2)
    return db.get_engine(settings)


def _answers(engine: Engine) -> list[object]:
    found = []
    for number in range(4):
        with engine.connect() as connection:
            found.append(connection.scalar(text("SELECT CAST(:n AS int)"), {"n": number}))
    return found


def test_a_value_that_cannot_be_sent_does_not_poison_the_connection(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(Exception, match="surrogates not allowed"):
        connection.execute(text("SELECT CAST(:x AS text)"), {"x": "\ud800"})
    assert _answers(engine) == [0, 1, 2, 3]
    engine.dispose()


def test_a_slow_answer_is_an_unavailable_database_and_never_somebody_elses_answer(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(OperationalError) as caught:
        connection.execute(text("SELECT pg_sleep(4)"))
    assert db.is_unavailable(caught.value)
    assert _answers(engine) == [0, 1, 2, 3]
    engine.dispose()


def test_a_connection_that_the_server_ended_is_replaced(engine: Engine, admin: Engine) -> None:
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with admin.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    assert _answers(engine) == [0, 1, 2, 3]
    engine.dispose()


def test_states_are_read_from_pg8000s_errors(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SELECT 1 / 0"))
    assert db.sqlstate(caught.value) == "22012"
    assert not db.is_unavailable(caught.value)
    engine.dispose()


def test_the_password_comes_from_the_secret_and_again_after_a_rotation(
    postgres: Postgres, admin: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    address = postgres.address
    with mock_aws(), admin.connect() as connection:
        connection.execute(text("CREATE ROLE rotated LOGIN PASSWORD 'first'"))
        secrets = boto3.client("secretsmanager")
        arn = secrets.create_secret(Name="db", SecretString=json.dumps({"password": "first"}))["ARN"]
        settings = Settings(
            database_host=address.host,
            database_port=address.port,
            database_name="postgres",
            database_user="rotated",
            database_secret_arn=arn,
            database_tls="disable",
        )
        own = db.get_engine(settings)
        assert _answers(own) == [0, 1, 2, 3]
        connection.execute(text("ALTER ROLE rotated PASSWORD 'second'"))
        secrets.put_secret_value(SecretId=arn, SecretString=json.dumps({"password": "second"}))
        own.dispose()
        assert _answers(own) == [0, 1, 2, 3]
        own.dispose()
        connection.execute(text("DROP ROLE rotated"))


def test_a_secret_that_cannot_be_read_is_unavailable(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:gone"
    settings = Settings(database_host="127.0.0.1", database_secret_arn=arn, database_tls="disable")
    with mock_aws(), pytest.raises(Unavailable), db.get_engine(settings).connect():
        pass


def test_without_extensions_rights_the_migration_goes_on(postgres: Postgres, admin: Engine) -> None:
    with admin.connect() as connection:
        connection.execute(text("CREATE ROLE owner_only LOGIN PASSWORD 'x'"))
        connection.execute(text("CREATE DATABASE plain OWNER owner_only"))
    address = postgres.address
    own = create_engine(f"postgresql+pg8000://owner_only:x@{address.host}:{address.port}/plain")
    with own.connect() as connection:
        migrations.upgrade(connection)
        assert connection.scalar(text("SELECT count(*) FROM post_packages")) == 0
    own.dispose()
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE plain WITH (FORCE)"))
        connection.execute(text("DROP ROLE owner_only"))


def test_a_large_statement_does_not_wait_for_an_acknowledgement(engine: Engine) -> None:
    """Sent in pieces that wait for each other, each would take 40 ms longer, whatever else it takes."""
    taken = []
    with engine.connect() as connection:
        for _ in range(12):
            start = time.perf_counter()
            assert connection.scalar(text("SELECT length(:large)"), {"large": "x" * 40_000}) == 40_000
            taken.append(time.perf_counter() - start)
    assert min(taken[6:]) < 0.03
