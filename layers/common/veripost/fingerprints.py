"""A short vector of what sections a package has: packages that resemble each other point the same way.

Feature hashing: each section gives two features, its name and its lines (by their digest), and each feature
adds 1 or −1 to one of 256 numbers, which of them its hash says; the sum is scaled to length 1. The cosine of
two such vectors is near the share of features that their packages have in common, give or take a few
hundredths for features that meet by chance. The same sections give the same vector, on every machine and in
every version: no model, nothing to download. `docs/decisions/0006-similarity.md` argues it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from itertools import islice

from veripost.platforms.facts import Section

DIMENSIONS = 256
MOST_SECTIONS = 5_000
"""How many sections of a package count, the first ones; the largest post seen has 750."""


def features_of(sections: Iterable[Section]) -> set[int]:
    """Return the hashes of all features of `sections`: of each its name, whatever its case, and its lines."""
    found: set[int] = set()
    for section in islice(sections, MOST_SECTIONS):
        name = section.name.casefold().encode("utf-8", "surrogatepass")
        found.add(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()))
        found.add(int(section.digest[:16], 16))
    return found


def fingerprint(sections: Iterable[Section]) -> list[float] | None:
    """Return the vector of `sections`: `DIMENSIONS` numbers, of length 1; None where nothing is left of it.

    The lowest bits of a feature's hash choose the number, the next one the sign.
    """
    numbers = [0] * DIMENSIONS
    for feature in features_of(sections):
        numbers[feature % DIMENSIONS] += 1 if feature & DIMENSIONS else -1
    length = math.sqrt(sum(number * number for number in numbers))
    return [round(number / length, 6) for number in numbers] if length else None
