"""Collecting a batch of SQS messages as Lambda does: wait for the first one, then for the batching window."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_PER_RECEIVE = 10  # a limit of SQS
LONGEST_WAIT = 20  # likewise
IDLE_WAIT = 5
"""How long one poll of an empty queue lasts: also the longest that a deleted mapping lingers."""

type Receive = Callable[[int, int], list[dict[str, Any]]]
"""Receive up to so many messages, waiting up to so many whole seconds for the first."""


def collect_batch(
    receive: Receive, size: int, window: float, clock: Callable[[], float] = time.monotonic
) -> list[dict[str, Any]]:
    """Receive up to `size` messages: none after an idle wait, else what comes within `window` seconds."""
    batch = receive(min(size, MOST_PER_RECEIVE), IDLE_WAIT)
    deadline = clock() + window
    while batch and len(batch) < size and (left := deadline - clock()) > 0:
        batch += receive(min(size - len(batch), MOST_PER_RECEIVE), min(max(int(left), 1), LONGEST_WAIT))
    return batch
