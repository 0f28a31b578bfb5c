"""The fingerprint of sections: the same everywhere, and near the share of what packages have in common."""

from __future__ import annotations

import math

from veripost.fingerprints import DIMENSIONS, features_of, fingerprint
from veripost.models import FINGERPRINT_NUMBERS
from veripost.platforms import camworks
from veripost.platforms.facts import Section


def _sections(count: int, *, edited: int = 0, first: int = 0) -> list[Section]:
    text = "".join(
        f":SECTION=NAME_{number}\n:T:{'edited' if number < first + edited else 'plain'}{number}\n"
        for number in range(first, first + count)
    )
    return list(camworks.parse([text.encode()]).sections)


def _cosine(one: list[Section], other: list[Section]) -> float:
    first, second = fingerprint(one), fingerprint(other)
    assert first is not None
    assert second is not None
    return sum(a * b for a, b in zip(first, second, strict=True))


def test_it_has_length_one_and_the_numbers_that_the_table_asks_for() -> None:
    numbers = fingerprint(_sections(50))
    assert numbers is not None
    assert len(numbers) == DIMENSIONS == FINGERPRINT_NUMBERS
    assert math.isclose(sum(number * number for number in numbers), 1, abs_tol=1e-3)
    assert fingerprint([]) is None


def test_it_never_changes() -> None:
    """Stored vectors are compared with new ones: whoever changes this must compute all of them anew."""
    numbers = fingerprint(_sections(3))
    assert numbers is not None
    there = {place: number for place, number in enumerate(numbers) if number}
    small = 0.408248
    assert there == {29: -small, 31: -small, 72: small, 221: -small, 238: -small, 252: -small}


def test_order_and_case_make_no_difference() -> None:
    sections = _sections(20)
    assert fingerprint(sections) == fingerprint(reversed(sections))
    assert len(features_of(sections)) == 40


def test_it_is_near_the_share_in_common() -> None:
    whole = _sections(400)
    assert _cosine(whole, whole) > 0.999
    assert abs(_cosine(whole, _sections(400, edited=40)) - 0.95) < 0.05  # 760 of 800 features are the same
    assert abs(_cosine(whole, _sections(400, edited=400)) - 0.5) < 0.15
    assert abs(_cosine(whole, _sections(400, first=1000))) < 0.2
