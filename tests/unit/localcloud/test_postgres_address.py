"""DATABASE_URL, taken apart and put together."""

from __future__ import annotations

import pytest

from localcloud.postgres import Address


@pytest.mark.parametrize(
    "address",
    [
        Address("127.0.0.1", 5433, "me", "secret", "veripost"),
        Address("db.example", 5432, "a@b", "p@ss/w:rd%", "my db"),
        Address("::1", 5432, "me", "", "veripost"),
    ],
)
def test_an_address_survives_being_a_url(address: Address) -> None:
    assert Address.from_url(address.url) == address


def test_what_is_left_out_is_what_postgres_assumes() -> None:
    assert Address.from_url("postgres://me@host") == Address("host", 5432, "me", "", "me")
    assert Address.from_url("postgresql+pg8000://me:x@host/d?sslmode=require").database == "d"


@pytest.mark.parametrize("url", ["mysql://me@host/d", "postgresql:///d", "host:5432"])
def test_anything_else_is_refused_with_the_form_expected(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://user:password@host:port/database"):
        Address.from_url(url)
