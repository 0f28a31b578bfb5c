"""Whose turn it is: workers that sleep through their lease, wrong clocks, and workers that always die."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from tests.faults.archives import FILES, damaged, good
from tests.faults.conftest import Play
from tests.faults.worker import Fault
from tests.faults.world import LEASE_SECONDS, PATIENCE_SECONDS, Stage, World, wait_until

HOUR = 3600.0


def slept_while_another_finished(stage: Stage) -> None:
    """The sleeper's lease runs out, a successor makes the package ready, and then the sleeper wakes up."""
    with World(stage, INGEST_TIMEOUT_SECONDS="8") as world:
        landed = world.drop(good())
        sleeper = world.start(Fault("before the fourth PUT", "stop"), once=True)
        sleeper.wait_until_reached()
        world.settle(cleaned_up=False)
        before = world.the_package()
        world.assert_ready(before, FILES, attempts=[2])
        jobs = world.jobs()
        sleeper.resume()
        assert sleeper.wait() == 0, sleeper.printed()
        assert "another worker took this job over" in sleeper.printed()
        assert world.the_package() == before
        assert world.jobs() == jobs
        world.settle()
        world.assert_ready(world.the_package(), FILES, attempts=[2])
        world.assert_nothing_is_left_over()
        world.assert_original_kept(landed)
        assert world.announced() == ["PackageReady"]


def slept_while_another_refused(stage: Stage) -> None:
    """What a late worker stores below a refused package is removed once it cannot run any more."""
    with World(stage, INGEST_TIMEOUT_SECONDS="8") as world:
        world.drop(damaged())
        sleeper = world.start(Fault("before the fourth PUT", "stop"), once=True)
        sleeper.wait_until_reached()
        world.settle(cleaned_up=False)
        world.assert_refused(world.the_package(), "crc_mismatch", attempts=[2])
        sleeper.resume()
        assert sleeper.wait() == 0, sleeper.printed()
        assert world.stored() != {}, "the late worker was to be late"
        world.settle()
        world.assert_refused(world.the_package(), "crc_mismatch", attempts=[2])
        world.assert_nothing_is_left_over()
        assert world.announced() == ["PackageRefused"]


def slept_while_the_package_was_deleted(stage: Stage) -> None:
    """The row stays until the late worker cannot write any more, so that all it wrote is found."""
    with World(stage, INGEST_TIMEOUT_SECONDS="8") as world:
        world.drop(good())
        sleeper = world.start(Fault("before the fourth PUT", "stop"), once=True)
        sleeper.wait_until_reached()
        wait_until(world.lease_ran_out, "the lease runs out")
        assert _delete(world) == 202
        assert world.stored() == {}
        sleeper.resume()
        assert sleeper.wait() == 0, sleeper.printed()
        assert world.stored() != {}, "the late worker was to be late"
        world.settle()
        assert world.all_packages() == []
        world.assert_nothing_is_left_over()
        assert world.announced() == []


def _delete(world: World) -> int:
    request = world.http("DELETE", f"/v1/packages/{world.the_package()['id']}")
    return int(world.invoke("upload", request)["statusCode"])


def slow_but_alive(stage: Stage) -> None:
    """A worker that shows signs of life keeps its job, however long one PUT takes."""
    with World(stage) as world:
        world.drop(good())
        slow = world.start(Fault("before the fourth PUT", "hold"), once=True)
        slow.wait_until_reached()
        deadline = time.monotonic() + 2 * LEASE_SECONDS
        while time.monotonic() < deadline:
            assert world.sweep().taken_over == 0
            time.sleep(0.5)
        slow.resume()
        assert slow.wait() == 0, slow.printed()
        world.settle()
        world.assert_ready(world.the_package(), FILES)
        world.assert_nothing_is_left_over()


@dataclass(frozen=True)
class WrongClock:
    """No clock but the database's counts: neither a worker's nor the sweeper's."""

    offset: float

    def __call__(self, stage: Stage) -> None:
        with World(stage) as world:
            world.drop(good())
            wrong = world.start(Fault("before the fourth PUT", "hold"), clock_offset=self.offset, once=True)
            wrong.wait_until_reached()
            (claimed,) = world.jobs()
            with world.engine.connect() as connection:
                left = connection.exec_driver_sql("SELECT lease_until - now() FROM ingest_runs").scalar()
            assert left is not None
            assert 0 < left.total_seconds() <= LEASE_SECONDS
            swept = world.invoke("sweep", clock_offset=self.offset)
            assert (swept["taken_over"], swept["requeued"], swept["expired_uploads"]) == (0, 0, 0)
            assert world.jobs()[0]["attempt"] == claimed["attempt"]
            wrong.kill()
            # The successor's clock is wrong by as much, in the other direction.
            serving = world.start(clock_offset=-self.offset)
            world.settle()
            serving.end()
            world.assert_ready(world.the_package(), FILES, attempts=[2])
            world.assert_nothing_is_left_over()
            (package,) = world.all_packages()
            assert abs((package["ready_at"] - package["created_at"]).total_seconds()) < PATIENCE_SECONDS


def killed_every_time(stage: Stage) -> None:
    """A package that kills every worker ends as `ingest_failed`, after as many attempts as were allowed."""
    allowed = 3
    with World(stage, MAX_RECEIVE_COUNT=str(allowed)) as world:
        landed = world.drop(good())
        deadline = time.monotonic() + PATIENCE_SECONDS
        worker = world.start("after the fourth PUT")
        while not world.all_packages() or world.the_package()["status"] != "error":
            assert time.monotonic() < deadline, world.left_to_do()
            if worker.exit_code() is not None:
                worker.wait_until_killed()
                worker = world.start("after the fourth PUT")
            world.sweep()
            time.sleep(0.2)
        worker.kill()
        package = world.the_package()
        # A delivery and the sweeper may meet at the end of the last lease: one attempt more, never two.
        (job,) = world.jobs()
        assert allowed <= job["attempt"] <= allowed + 1
        assert package["error_detail"].startswith("given up after")
        world.settle()
        world.assert_refused(world.the_package(), "ingest_failed", attempts=[job["attempt"]], job="failed")
        world.assert_original_kept(landed)
        assert world.announced() == ["PackageFailed"]
        assert world.waiting(world.parking_lot) == []
        assert world.storage.list_uploads("") == []


PLAYS: dict[str, Play] = {
    "slept while another finished": slept_while_another_finished,
    "slept while another refused": slept_while_another_refused,
    "slept while the package was deleted": slept_while_the_package_was_deleted,
    "slow but alive": slow_but_alive,
    "a clock an hour ahead": WrongClock(HOUR),
    "a clock an hour behind": WrongClock(-HOUR),
    "killed every time": killed_every_time,
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_lease(play: Play, outcomes: Mapping[Play, Future[None]]) -> None:
    outcomes[play].result()
