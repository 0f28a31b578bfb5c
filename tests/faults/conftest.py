"""Plays: faults that run side by side, because most of the time each waits for a lease or a message.

A play is a function that takes the `Stage`; a test module collects its own and hands each to one test:

    PLAYS = [...]

    @pytest.mark.parametrize("play", PLAYS, ids=names)
    def test_fault(play, outcomes): outcomes[play].result()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.faults.world import Stage

AT_ONCE = 9

type Play = Callable[[Stage], None]


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The servers; they end with the test run."""
    made = Stage(tmp_path_factory.mktemp("faults"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Mapping[Play, Future[None]]]:
    """Every play that was selected for this run, under way; `result` raises what it raised."""
    selected = [play for item in request.session.items if (play := _play_of(item)) is not None]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="play") as threads:
        yield {play: threads.submit(play, stage) for play in selected}
        threads.shutdown(cancel_futures=True)


def _play_of(item: Any) -> Play | None:
    callspec = getattr(item, "callspec", None)
    play: Play | None = None if callspec is None else callspec.params.get("play")
    return play
