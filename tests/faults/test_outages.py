"""The database goes away amid a run, and S3 is overloaded: nothing is lost, and what can wait waits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future

import pytest

from localcloud import samples
from localcloud.postgres import Postgres, start_postgres
from tests.faults.archives import FILES, good, large_files
from tests.faults.conftest import Play
from tests.faults.proxy import Proxy
from tests.faults.worker import Fault
from tests.faults.world import LEASE_SECONDS, Stage, World, migrated, wait_until

EVERYTHING = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})


def postgres_restarts_amid_a_run(stage: Stage) -> None:
    """The worker misses some heartbeats and goes on: it was gone for less than a lease."""
    with (
        start_postgres(stage.folder / "restarted", fsync=False) as server,
        _own_world(stage, server) as world,
    ):
        world.drop(good())
        working = world.start(Fault("before the fourth PUT", "hold"), once=True)
        working.wait_until_reached()
        server.stop()
        time.sleep(LEASE_SECONDS / 2)
        server.restart()
        working.resume()
        assert working.wait() == 0, working.printed()
        world.assert_ready(world.the_package(), FILES)
        world.settle()
        world.assert_nothing_is_left_over()
        assert world.announced() == ["PackageReady"]


def postgres_is_down_when_the_worker_ends(stage: Stage) -> None:
    """Nothing can be written, not even that it failed: the lease runs out, another attempt does it all."""
    with start_postgres(stage.folder / "down", fsync=False) as server, _own_world(stage, server) as world:
        world.drop(good())
        working = world.start(Fault("before the fourth PUT", "hold"), once=True)
        working.wait_until_reached()
        server.stop()
        working.resume()
        assert working.wait() == 0, working.printed()
        assert "message will be delivered again" in working.printed()
        with pytest.raises(Exception, match=r"postgres|connect"):
            world.sweep()  # it says so, and its alarm is that it says nothing else
        server.restart()
        world.settle()
        world.assert_ready(world.the_package(), FILES, attempts=[2])
        world.assert_nothing_is_left_over()
        assert world.announced() == ["PackageReady"]


def _own_world(stage: Stage, server: Postgres) -> World:
    migrated(server)
    return World(stage, postgres=server)


def s3_is_overloaded_for_a_moment(stage: Stage) -> None:
    """Requests are repeated, and the job does not even notice."""
    with Proxy(stage.aws_url) as proxy, World(stage, S3_ENDPOINT_URL=proxy.url) as world:
        world.drop(good())
        working = world.start(Fault("before the first PUT", "hold"), once=True)
        working.wait_until_reached()
        proxy.overloaded = frozenset({"PUT"})
        working.resume()
        wait_until(lambda: proxy.refused >= 10, "S3 refuses some PUTs", working.printed)
        proxy.overloaded = frozenset()
        assert working.wait() == 0, working.printed()
        world.assert_ready(world.the_package(), FILES)
        world.assert_nothing_is_left_over()


def s3_is_overloaded_for_longer(stage: Stage) -> None:
    """The job is given back with the cause, and ends well once S3 answers; not even parts are left over."""
    files = large_files()
    with Proxy(stage.aws_url) as proxy, World(stage, S3_ENDPOINT_URL=proxy.url) as world:
        world.drop(samples.zip_of(files))
        working = world.start(Fault("before multipart complete", "hold"))
        working.wait_until_reached()
        proxy.overloaded = EVERYTHING
        working.resume()
        wait_until(lambda: world.jobs()[0]["status"] == "interrupted", "it is given back", working.printed)
        (job,) = world.jobs()
        assert (job["error_code"], job["lease_until"]) == ("unavailable", None)
        assert world.storage.list_uploads("") != [], "nobody could abort it"
        proxy.overloaded = frozenset()
        world.settle()
        working.end()
        world.assert_ready(world.the_package(), files, attempts=[2])
        world.assert_nothing_is_left_over()
        assert world.announced() == ["PackageReady"]


PLAYS: dict[str, Play] = {
    "Postgres restarts amid a run": postgres_restarts_amid_a_run,
    "Postgres is down when the worker ends": postgres_is_down_when_the_worker_ends,
    "S3 is overloaded for a moment": s3_is_overloaded_for_a_moment,
    "S3 is overloaded for longer": s3_is_overloaded_for_longer,
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_outage(play: Play, outcomes: Mapping[Play, Future[None]]) -> None:
    outcomes[play].result()
