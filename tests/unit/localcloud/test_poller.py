"""Collecting a batch from SQS."""

from __future__ import annotations

from typing import Any

from localcloud.executor.poller import IDLE_WAIT, collect_batch


class Queue:
    """Answers each receive with what is scripted, and moves a clock by what that takes."""

    def __init__(self, *answers: tuple[int, float]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, int]] = []
        self.now = 0.0

    def receive(self, count: int, seconds: int) -> list[dict[str, Any]]:
        self.asked.append((count, seconds))
        messages, duration = self.answers.pop(0)
        self.now += duration
        return [{}] * messages

    def collect(self, size: int, window: float) -> int:
        return len(collect_batch(self.receive, size, window, clock=lambda: self.now))


def test_an_empty_queue_is_asked_once_and_for_long() -> None:
    queue = Queue((0, IDLE_WAIT))
    assert queue.collect(size=10, window=0) == 0
    assert queue.asked == [(10, IDLE_WAIT)]


def test_without_a_window_what_is_there_goes_at_once() -> None:
    queue = Queue((3, 0.01))
    assert queue.collect(size=10, window=0) == 3
    assert len(queue.asked) == 1


def test_with_a_window_it_waits_for_more_until_the_batch_is_full() -> None:
    queue = Queue((10, 0.0), (10, 1.0), (5, 1.0))
    assert queue.collect(size=25, window=30) == 25
    assert queue.asked == [(10, IDLE_WAIT), (10, 20), (5, 20)]


def test_the_window_closes_on_a_batch_that_does_not_fill() -> None:
    queue = Queue((1, 3.0), (1, 2.0), (0, 1.5))
    assert queue.collect(size=10, window=3) == 2
    assert queue.asked == [(10, IDLE_WAIT), (9, 3), (8, 1)]
