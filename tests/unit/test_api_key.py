"""What an API key looks like: enough of it is random, scanners can find it, and it never prints itself."""

from __future__ import annotations

import hashlib
import math
import re
import string

import pytest

from veripost import api_key
from veripost.api_key import Scope

ALPHABET = string.digits + string.ascii_letters


def test_a_key_has_more_than_160_random_bits_and_can_be_found() -> None:
    made = api_key.make()
    assert re.fullmatch(r"vp_[0-9A-Za-z]{46}", made.text)
    assert made.prefix == made.text[:11]
    secret_bits = 32 * math.log2(len(ALPHABET))
    assert secret_bits > 190
    assert made.hash == hashlib.sha256(made.text.encode()).hexdigest()


def test_no_two_are_alike_and_every_character_occurs() -> None:
    made = [api_key.make() for _ in range(500)]
    assert len({key.prefix for key in made}) == len({key.text[11:43] for key in made}) == 500
    assert set("".join(key.text[3:43] for key in made)) == set(ALPHABET)


def test_a_key_that_is_printed_or_logged_shows_no_secret() -> None:
    made = api_key.make()
    assert made.text[11:] not in repr(made)
    assert made.hash not in repr(made)


def test_any_changed_character_is_noticed_without_a_database() -> None:
    text = api_key.make().text
    assert api_key.prefix_of(text) == text[:11]
    for place in range(3, len(text)):
        other = ALPHABET[(ALPHABET.index(text[place]) + 1) % len(ALPHABET)]
        assert api_key.prefix_of(text[:place] + other + text[place + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "vp_", "vp_" + "a" * 46, "vp_" + "ü" * 46, "xx_" + "0" * 46, "\ud800", "0" * 10_000, "vp_\0"]
)
def test_what_is_no_key_has_no_prefix_but_a_hash_all_the_same(text: str) -> None:
    assert api_key.prefix_of(text) is None
    assert len(api_key.hash_of(text)) == 64


def test_a_line_end_behind_a_key_is_not_part_of_it() -> None:
    assert api_key.prefix_of(api_key.make().text + "\n") is None


def test_scopes_are_nested() -> None:
    covered = {scope: [needed for needed in Scope if scope.covers(needed)] for scope in Scope}
    assert covered == {
        Scope.READ: [Scope.READ],
        Scope.WRITE: [Scope.READ, Scope.WRITE],
        Scope.ADMIN: [Scope.READ, Scope.WRITE, Scope.ADMIN],
    }
