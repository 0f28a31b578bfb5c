"""When to try again, and how long to wait before it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Retry:
    """How stubborn the client is. Times are in seconds.

    `attempts` counts the first one. Pauses double from `first` up to `most`, each shortened by chance, so
    that clients that failed together do not come back together. A server that names a longer pause is
    believed, up to `patience`.
    """

    attempts: int = 5
    first: float = 0.5
    most: float = 20.0
    patience: float = 120.0

    def pause(self, failures: int, asked: float | None = None) -> float:
        """Return how long to wait after so many failures in a row; `asked` is what Retry-After said."""
        grown = min(self.most, self.first * 2 ** (failures - 1))
        own = random.uniform(grown / 2, grown)  # noqa: S311 - spreads load, guards nothing
        return max(own, min(asked or 0.0, self.patience))


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header means (RFC 9110 10.2.3: a number or a date), if any."""
    if not header:
        return None
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
