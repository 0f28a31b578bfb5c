"""API keys on real Postgres: who is let in, who is not, what is remembered, and what is never written."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.exc import OperationalError

from functions.status import app as status_app
from functions.upload import app as upload_app
from migrations import app as migrations
from tests.integration.gateway import call
from veripost import api_key, authentication, catalog, db, keys, queries, settings
from veripost.authentication import CACHE_SECONDS, CACHED_KEYS, Authenticator
from veripost.errors import InvalidFields, NotFound, Unauthenticated
from veripost.models import api_keys
from veripost.schemas import CreateKey, MintedKey


class Clock:
    """A clock that stands until it is told to go."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(engine: Engine, clock: Clock) -> Authenticator:
    """An authenticator that remembers nobody yet."""
    return Authenticator(engine, clock=clock)


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[str]]:
    """Every statement that this process sends, as it is sent."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def _mint(engine: Engine, *scopes: str, **fields: Any) -> MintedKey:
    wanted = {"client_name": "tests", "scopes": scopes or ("read",), **fields}
    return keys.mint(engine, CreateKey.model_validate(wanted))


def _change(engine: Engine, key: MintedKey, values: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE api_keys SET {values} WHERE id = :id"), {"id": key.id})


def _row(engine: Engine, key: MintedKey) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(api_keys).where(api_keys.c.id == key.id)).one()


# -- being let in


def test_a_key_is_known_by_its_client_and_scopes(engine: Engine, door: Authenticator) -> None:
    minted = _mint(engine, "write", "read")
    assert minted.scopes == ["read", "write"]
    caller = door.authenticate(minted.key)
    assert (caller.key_id, caller.client_name) == (minted.id, "tests")
    assert caller.scopes == {"read", "write"}


@pytest.mark.parametrize(
    "values", ["revoked_at = now()", "expires_at = now()", "expires_at = now() - interval '1 day'"]
)
def test_who_is_not_let_in_hears_the_same_words(engine: Engine, door: Authenticator, values: str) -> None:
    good, ended = _mint(engine), _mint(engine)
    _change(engine, ended, values)
    forged = good.key[:20] + ("a" if good.key[20] != "a" else "b") + good.key[21:]
    unknown = api_key.make().text
    told = set()
    for wrong in ("", "Bearer x", forged, unknown, ended.key, good.key + " "):
        with pytest.raises(Unauthenticated) as refused:
            door.authenticate(wrong)
        told.add((refused.value.code, refused.value.message, refused.value.detail))
    assert len(told) == 1


def test_every_key_is_compared_exactly_once(
    engine: Engine, door: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key and one that nobody has take the same path, so time does not tell them apart."""
    compared: list[tuple[str, str]] = []

    def counting(left: str, right: str) -> bool:
        compared.append((left, right))
        return hmac.compare_digest(left, right)

    monkeypatch.setattr(authentication, "hmac", SimpleNamespace(compare_digest=counting))
    good = _mint(engine)
    wrong_secret = _with_the_same_prefix(good.key)
    assert api_key.prefix_of(wrong_secret) == good.prefix
    for presented, is_good in [
        (good.key, True),
        (good.key, True),  # remembered
        (wrong_secret, False),  # its prefix exists
        (api_key.make().text, False),  # its prefix does not
        ("", False),  # no key
        ("nonsense", False),
    ]:
        compared.clear()
        if is_good:
            door.authenticate(presented)
        else:
            with pytest.raises(Unauthenticated):
                door.authenticate(presented)
        assert [left for left, _ in compared] == [api_key.hash_of(presented)]
        assert all(len(left) == len(right) == 64 for left, right in compared)


def _with_the_same_prefix(key: str) -> str:
    """Return a well-formed key, checksum and all, whose prefix is that of `key` and whose secret is not."""
    body = key[:11] + api_key.make().text[11:43]
    return body + api_key._checksum(body)


# -- being remembered


def test_a_key_is_looked_up_twice_a_minute_at_most(
    engine: Engine, door: Authenticator, clock: Clock, statements: list[str]
) -> None:
    minted = _mint(engine)
    statements.clear()
    door.authenticate(minted.key)
    first = len(statements)
    for _ in range(100):
        clock.now += (CACHE_SECONDS - 1) / 100
        door.authenticate(minted.key)
    assert len(statements) == first
    clock.now += 1.5
    door.authenticate(minted.key)
    assert len(statements) == first + 1


def test_a_wrong_secret_does_not_ride_on_a_remembered_key(engine: Engine, door: Authenticator) -> None:
    minted = _mint(engine)
    door.authenticate(minted.key)
    with pytest.raises(Unauthenticated):
        door.authenticate(_with_the_same_prefix(minted.key))
    door.authenticate(minted.key)


def test_a_revoked_key_ends_within_the_cache_and_for_good(
    engine: Engine, door: Authenticator, clock: Clock
) -> None:
    minted = _mint(engine)
    door.authenticate(minted.key)
    keys.revoke(engine, minted.id)
    clock.now += CACHE_SECONDS - 0.1
    door.authenticate(minted.key)
    clock.now += 0.2
    with pytest.raises(Unauthenticated):
        door.authenticate(minted.key)
    clock.now -= 10  # a clock that is set back must not bring it back
    with pytest.raises(Unauthenticated):
        door.authenticate(minted.key)


def test_an_entry_does_not_outlive_its_key(engine: Engine, door: Authenticator, clock: Clock) -> None:
    minted = _mint(engine)
    _change(engine, minted, "expires_at = now() + interval '5 s'")
    door.authenticate(minted.key)
    clock.now += 4
    door.authenticate(minted.key)
    clock.now += 1.1
    _change(engine, minted, "expires_at = now()")
    with pytest.raises(Unauthenticated):
        door.authenticate(minted.key)


def test_a_new_key_works_at_once_and_strangers_fill_no_memory(engine: Engine, door: Authenticator) -> None:
    unknown = api_key.make()
    with pytest.raises(Unauthenticated):
        door.authenticate(unknown.text)
    with engine.begin() as connection:
        queries.add_key(
            connection,
            prefix=unknown.prefix,
            key_hash=unknown.hash,
            client_name="late",
            scopes=["read"],
            expires=None,
        )
    assert door.authenticate(unknown.text).client_name == "late"


def test_only_so_many_keys_are_remembered(engine: Engine, door: Authenticator, statements: list[str]) -> None:
    made = [_mint(engine) for _ in range(CACHED_KEYS + 1)]
    for key in made:
        door.authenticate(key.key)
    statements.clear()
    door.authenticate(made[-1].key)
    assert statements == []
    door.authenticate(made[0].key)
    assert len(statements) > 0


# -- the last use


def test_use_is_noted_once_a_minute(
    engine: Engine, door: Authenticator, clock: Clock, statements: list[str]
) -> None:
    minted = _mint(engine)
    assert minted.last_used_at is None
    door.authenticate(minted.key)
    noted = _row(engine, minted).last_used_at
    assert noted is not None
    statements.clear()
    for _ in range(5):
        clock.now += 11
        door.authenticate(minted.key)
    assert not any("UPDATE" in statement for statement in statements)
    clock.now += 11
    door.authenticate(minted.key)
    assert sum("UPDATE" in statement for statement in statements) == 1
    assert _row(engine, minted).last_used_at == noted  # by the database's clock it is not a minute yet
    _change(engine, minted, "last_used_at = now() - interval '61 s'")
    clock.now += 61
    door.authenticate(minted.key)
    assert _row(engine, minted).last_used_at > noted


def test_noting_waits_for_nobody_and_fails_nothing(
    engine: Engine,
    clock: Clock,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minted = _mint(engine)
    other = create_engine(database_url.replace("postgresql://", "postgresql+pg8000://"))
    with other.begin() as connection:  # somebody is revoking it, and takes his time
        connection.execute(text("SELECT 1 FROM api_keys WHERE id = :id FOR UPDATE"), {"id": minted.id})
        Authenticator(engine, clock=clock).authenticate(minted.key)
    other.dispose()
    assert _row(engine, minted).last_used_at is None

    def broken(*_: object, **__: object) -> None:
        raise OperationalError("UPDATE", None, OSError("the database has gone"))

    monkeypatch.setattr(queries, "note_key_use", broken)
    assert Authenticator(engine, clock=clock).authenticate(minted.key).client_name == "tests"


# -- making, listing, revoking


def test_a_key_ends_when_it_was_said(engine: Engine) -> None:
    assert _mint(engine).expires_at is None
    in_days = _mint(engine, days=2).expires_at
    assert in_days is not None
    assert abs(in_days - datetime.now(UTC) - timedelta(days=2)) < timedelta(minutes=1)
    moment = datetime.now(UTC) + timedelta(hours=1)
    assert _mint(engine, expires_at=moment.isoformat()).expires_at == moment
    with pytest.raises(InvalidFields, match="in the future"):
        _mint(engine, expires_at="2001-01-01T00:00:00Z")


def test_keys_are_listed_newest_first_without_hash_or_key(engine: Engine) -> None:
    made = [_mint(engine) for _ in range(5)]
    first = catalog.list_keys(engine, limit=3, cursor=None)
    second = catalog.list_keys(engine, limit=2, cursor=first.next_cursor)
    assert [key.id for key in (*first.keys, *second.keys)] == [key.id for key in reversed(made)]
    shown = first.model_dump_json() + second.model_dump_json()
    for key in made:
        assert key.key not in shown
        assert api_key.hash_of(key.key) not in shown


def test_revoking_is_for_good_and_may_be_repeated(engine: Engine) -> None:
    minted = _mint(engine)
    keys.revoke(engine, minted.id)
    when = _row(engine, minted).revoked_at
    keys.revoke(engine, minted.id)
    assert _row(engine, minted).revoked_at == when
    with pytest.raises(NotFound):
        keys.revoke(engine, uuid4())


def test_what_is_stored_and_logged_holds_no_key(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        minted = _mint(engine)
    assert minted.key[11:] not in caplog.text
    assert minted.key[11:] not in repr(minted)
    assert minted.key not in str(_row(engine, minted))
    assert _row(engine, minted).key_hash == api_key.hash_of(minted.key)


# -- over HTTP


@pytest.fixture
def deployed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment that the template gives the functions."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATABASE_TLS", "disable")
    settings.get_settings.cache_clear()
    own = db.get_engine(settings.get_settings())
    yield
    own.dispose()
    settings.get_settings.cache_clear()


def _call(app: Any, method: str, path: str, *, key: str = "", body: object = None) -> tuple[int, Any, Any]:
    return call(app, method, path, key=key, body=None if body is None else json.dumps(body))


@pytest.mark.usefixtures("deployed")
def test_the_life_of_a_key_over_http(engine: Engine) -> None:
    admin = _mint(engine, "admin").key
    wanted = {"client_name": "erp", "scopes": ["read"], "days": 30}
    status, made, headers = _call(upload_app, "POST", "/v1/keys", key=admin, body=wanted)
    assert (status, headers["Cache-Control"]) == (201, "no-store")
    assert made["key"].startswith(made["prefix"])
    assert "key_hash" not in made
    listed = _call(status_app, "GET", "/v1/keys", key=admin)[1]
    assert listed["keys"][0] == {name: value for name, value in made.items() if name != "key"}

    assert _call(status_app, "GET", "/v1/packages", key=made["key"])[0] == 200
    status, told, _ = _call(status_app, "GET", "/v1/keys", key=made["key"])
    assert (status, told["code"]) == (403, "forbidden")
    assert "admin" in told["message"]
    assert _call(upload_app, "DELETE", f"/v1/keys/{made['id']}", key=admin)[0] == 204
    assert _call(upload_app, "DELETE", f"/v1/keys/{made['id']}", key=admin)[0] == 204
    assert _call(upload_app, "DELETE", f"/v1/keys/{uuid4()}", key=admin)[1]["code"] == "key_not_found"
    assert _call(upload_app, "DELETE", "/v1/keys/1", key=admin)[1]["code"] == "key_not_found"


@pytest.mark.usefixtures("deployed")
def test_without_a_key_nothing_is_read_not_even_the_body(statements: list[str]) -> None:
    statements.clear()
    for app, method, path in [
        (status_app, "GET", "/v1/packages"),
        (upload_app, "POST", "/v1/packages"),
        (upload_app, "POST", "/v1/keys"),
    ]:
        status, told, headers = _call(app, method, path)
        assert (status, told["code"], told["detail"]) == (401, "unauthenticated", None)
        assert headers["WWW-Authenticate"] == 'ApiKey header="X-API-Key"'
    assert statements == []


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "client_name"),
        ({"client_name": "x"}, "scopes"),
        ({"client_name": "x", "scopes": []}, "scopes"),
        ({"client_name": "x", "scopes": ["root"]}, "scopes"),
        ({"client_name": "", "scopes": ["read"]}, "client_name"),
        ({"client_name": "a\nb", "scopes": ["read"]}, "client_name"),
        ({"client_name": "x" * 101, "scopes": ["read"]}, "client_name"),
        ({"client_name": "x", "scopes": ["read"], "days": 0}, "days"),
        ({"client_name": "x", "scopes": ["read"], "days": 1, "expires_at": "2100-01-01T00:00:00Z"}, "both"),
        ({"client_name": "x", "scopes": ["read"], "expires_at": "2100-01-01T00:00:00"}, "expires_at"),
        ({"client_name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"client_name": "x", "scopes": ["read"], "key": "vp_mine"}, "key"),
    ],
)
def test_wrong_fields_are_named(engine: Engine, fields: dict[str, object], named: str) -> None:
    admin = _mint(engine, "admin").key
    status, told, _ = _call(upload_app, "POST", "/v1/keys", key=admin, body=fields)
    assert (status, told["code"]) == (422, "invalid_fields")
    assert named in told["detail"]


@pytest.mark.usefixtures("deployed")
def test_packages_remember_whose_key_brought_them(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        upload_app, "get_storage", lambda _settings: SimpleNamespace(incoming="i", presign_upload=_form)
    )
    writer = _mint(engine, "write", client_name="post archive").key
    wanted = {"filename": "a.zip", "size_bytes": 5}
    made = _call(upload_app, "POST", "/v1/packages", key=writer, body=wanted)[1]
    shown = _call(status_app, "GET", f"/v1/packages/{made['package_id']}", key=writer)[1]
    assert shown["created_by"] == "post archive"


def _form(*_: object, **__: object) -> Any:
    return SimpleNamespace(url="https://s3.example", fields={})


@pytest.mark.usefixtures("deployed")
def test_the_first_key_is_made_by_the_migrations_function(engine: Engine) -> None:
    made = migrations.handler({"key": {"client_name": "me", "scopes": ["admin"]}}, None)
    assert json.loads(json.dumps(made))["client_name"] == "me"
    assert _call(status_app, "GET", "/v1/keys", key=made["key"])[0] == 200
    assert _row(engine, MintedKey.model_validate(made)).id == UUID(made["id"])
    with pytest.raises(ValueError, match="scopes"):
        migrations.handler({"key": {"client_name": "me"}}, None)
