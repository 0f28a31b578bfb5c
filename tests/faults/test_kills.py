"""Workers that are killed at a named point, and what the rest makes of it: what would have been without.

Each play kills one process with SIGKILL, then runs what AWS runs (redelivery after a short visibility
timeout, and the sweeper), and looks at everything that is stored anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from localcloud import samples
from tests.faults.archives import FILES, damaged, good, large_files
from tests.faults.conftest import Play
from tests.faults.worker import POINTS
from tests.faults.world import Stage, World, event_of, wait_until
from veripost.upkeep import deletion, replay


@dataclass(frozen=True)
class KilledWhileIngesting:
    """A drop whose first worker dies at `point`. `attempts` is how many the job then needs."""

    point: str
    attempts: int
    large: bool = False

    def __call__(self, stage: Stage) -> None:
        files = large_files() if self.large else FILES
        with World(stage) as world:
            landed = world.drop(samples.zip_of(files))
            world.start(self.point).wait_until_killed()
            world.settle()
            world.assert_ready(world.the_package(), files, attempts=[self.attempts])
            world.assert_nothing_is_left_over()
            world.assert_original_kept(landed)
            assert world.announced() == ["PackageReady"]


@dataclass(frozen=True)
class KilledWhileRefusing:
    """A drop that is refused, by its platform or for damage that shows late."""

    point: str
    attempts: int = 2

    def __call__(self, stage: Stage) -> None:
        late = self.point != "amid verification"
        data = damaged() if late else samples.zip_of(FILES | {"part.NC": b"G0 X0\r\n"})
        with World(stage) as world:
            landed = world.drop(data)
            world.start(self.point).wait_until_killed()
            world.settle()
            code = "crc_mismatch" if late else "forbidden_extension"
            world.assert_refused(world.the_package(), code, attempts=[self.attempts])
            world.assert_nothing_is_left_over()
            world.assert_original_kept(landed)
            assert world.announced() == ["PackageRefused"]


INGESTING = [
    KilledWhileIngesting("inside the row's transaction", 1),
    KilledWhileIngesting("row made, before the claim", 1),
    KilledWhileIngesting("inside the claim", 1),
    KilledWhileIngesting("after the claim", 2),
    KilledWhileIngesting("after advance to validating", 2),
    KilledWhileIngesting("before the first PUT", 2),
    KilledWhileIngesting("after the fourth PUT", 2),
    KilledWhileIngesting("amid a multipart upload", 2, large=True),
    KilledWhileIngesting("before multipart complete", 2, large=True),
    KilledWhileIngesting("after multipart complete", 2, large=True),
    KilledWhileIngesting("after the last PUT", 2),
    KilledWhileIngesting("inside the final transaction", 2),
    KilledWhileIngesting("after commit, before the acknowledgement", 1),
]
REFUSING = [
    KilledWhileRefusing("amid verification"),
    KilledWhileRefusing("refused, before the deletion"),
    KilledWhileRefusing("refused, amid the deletion"),
    KilledWhileRefusing("refused, after the deletion"),
    KilledWhileRefusing("refused, inside the final transaction"),
]


def upload_between_row_and_put(stage: Stage) -> None:
    """The API door dies before its PUT: nobody can send these bytes any more, so the package ends."""
    with World(stage, UPLOAD_URL_SECONDS="1") as world:
        request = world.http("POST", "/v1/packages/upload", file=good())
        world.start("upload, between row and PUT", handler="upload", event=request).wait_until_killed()
        assert world.the_package()["status"] == "pending"
        world.settle()
        world.assert_refused(world.the_package(), "upload_expired", attempts=[0], job="failed")
        world.assert_nothing_is_left_over()
        assert world.announced() == ["PackageRefused"]


def upload_between_put_and_answer(stage: Stage) -> None:
    """The API door dies after its PUT: its caller knows nothing, and the package becomes ready anyhow."""
    with World(stage) as world:
        request = world.http("POST", "/v1/packages/upload", file=good())
        world.start("upload, between PUT and answer", handler="upload", event=request).wait_until_killed()
        world.settle()  # the event was lost, too: the sweeper finds the object
        world.assert_ready(world.the_package(), FILES)
        world.assert_nothing_is_left_over()
        assert world.announced() == ["PackageReady"]


@dataclass(frozen=True)
class KilledWhileDeleting:
    """A deletion that is cut off goes on by itself, and repeating it does no harm."""

    point: str

    def __call__(self, stage: Stage) -> None:
        with World(stage) as world:
            landed = world.drop(good())
            world.settle()
            package = world.the_package()
            request = world.http("DELETE", f"/v1/packages/{package['id']}")
            world.start(self.point, handler="upload", event=request).wait_until_killed()
            assert world.the_package()["status"] == "deleting"
            world.settle()
            assert world.all_packages() == []
            assert world.stored() == {}
            assert world.storage.original_size(landed.bucket, landed.key, landed.version) is None
            again = world.invoke("upload", request)
            assert again["statusCode"] == 204
            world.assert_nothing_is_left_over()


def replay_between_job_and_message(stage: Stage) -> None:
    """A replay is recorded and its message never sent: the sweeper announces the job."""
    with World(stage) as world:
        landed = world.drop(good())
        world.settle()
        package = world.the_package()
        request = world.http("POST", f"/v1/packages/{package['id']}/replay")
        killed = world.start("replay, between job and message", handler="upload", event=request)
        killed.wait_until_killed()
        assert world.the_package()["status"] == "pending"
        world.settle()
        world.assert_ready(world.the_package(), FILES, attempts=[1, 1])
        world.assert_nothing_is_left_over()
        world.assert_original_kept(landed)
        assert world.announced() == ["PackageReady", "PackageReady"]


def replay_killed_while_storing(stage: Stage) -> None:
    """The files of the last run stay readable until a new one has replaced them."""
    with World(stage) as world:
        world.drop(good())
        world.settle()
        package_id = world.the_package()["id"]
        replay.replay(world.engine, world.storage, world.settings, package_id)
        world.start("after the fourth PUT").wait_until_killed()
        with world.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT s3_key, content_hash FROM post_files").all()
        assert {key: {digest} for key, digest in rows} == world.stored()
        world.settle()
        world.assert_ready(world.the_package(), FILES, attempts=[1, 2])
        world.assert_nothing_is_left_over()


def sweeper_between_announcement_and_note(stage: Stage) -> None:
    """The sweeper dies after it has announced a job again: the next run does so once more, without harm."""
    with World(stage) as world:
        world.drop(good())
        world.start("before the first PUT").wait_until_killed()
        wait_until(world.lease_ran_out, "the lease runs out")
        killed = world.start("sweeper, between announcement and note", handler="sweep", event={})
        killed.wait_until_killed()
        assert world.jobs()[0]["status"] == "running"
        world.settle()
        world.assert_ready(world.the_package(), FILES, attempts=[2])
        world.assert_nothing_is_left_over()
        assert world.announced() == ["PackageReady"]


def publisher_between_acceptance_and_deletion(stage: Stage) -> None:
    """The event goes out twice, with the same `event_id`: at least once, and told apart."""
    with World(stage) as world:
        bus, received = _subscribe(stage, world)
        world.environment["EVENT_BUS_NAME"] = bus
        world.drop(good())
        world.settle()
        killed = world.start("publisher, between acceptance and deletion", handler="publish", event={})
        killed.wait_until_killed()
        assert world.announced() == ["PackageReady"]  # still in the outbox
        assert world.invoke("publish") == {"published": 1}
        assert world.announced() == []
        assert world.invoke("publish") == {"published": 0}
        first, second = received()
        assert first["detail"] == second["detail"]
        assert first["detail"]["package_id"] == str(world.the_package()["id"])
        assert first["detail-type"] == "PackageReady"


def _subscribe(stage: Stage, world: World) -> tuple[str, Callable[[], list[Any]]]:
    """Make a bus whose events land in a queue; return its name, and what has arrived."""
    bus = f"bus-{world.folder.name}"
    stage.events.create_event_bus(Name=bus)
    queue = world.make_queue(bus)
    found = stage.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    arn = found["Attributes"]["QueueArn"]
    stage.events.put_rule(Name=bus, EventBusName=bus, EventPattern=json.dumps({"source": ["veripost"]}))
    stage.events.put_targets(Rule=bus, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    return bus, lambda: [json.loads(body) for body in world.waiting(queue)]


def dead_letter_inside_the_transaction(stage: Stage) -> None:
    """The function that ends packages dies while it does: the letter comes back, and one event is told."""
    with World(stage) as world:
        landed = world.put(good())
        world.sqs.send_message(QueueUrl=world.dead_letters, MessageBody=event_of(landed))
        killed = world.start(
            "dead letter, inside the transaction", handler="failed", queue=world.dead_letters
        )
        killed.wait_until_killed()
        assert world.the_package()["status"] == "pending"
        again = world.start(handler="failed", queue=world.dead_letters, once=True)
        assert again.wait() == 0, again.printed()
        world.assert_refused(world.the_package(), "ingest_failed", attempts=[0], job="failed")
        assert world.announced() == ["PackageFailed"]
        replay.replay(world.engine, world.storage, world.settings, world.the_package()["id"])
        world.settle()
        world.assert_ready(world.the_package(), FILES, attempts=[0, 1])
        world.assert_nothing_is_left_over()


def deleted_after_a_crash(stage: Stage) -> None:
    """A deletion does not wait for a dead worker, and its row stays until that one cannot write any more."""
    with World(stage, LEASE_SECONDS="8", INGEST_TIMEOUT_SECONDS="8") as world:
        landed = world.drop(good())
        world.start("after the fourth PUT").wait_until_killed()
        package_id = world.the_package()["id"]
        request = world.http("DELETE", f"/v1/packages/{package_id}")
        busy = world.invoke("upload", request)
        assert busy["statusCode"] == 409, busy
        assert int(busy["multiValueHeaders"]["Retry-After"][0]) <= 8
        wait_until(world.lease_ran_out, "the lease runs out")
        accepted = world.invoke("upload", request)
        assert accepted["statusCode"] == 202, accepted
        assert world.stored() == {}
        repeated = deletion.delete_package(
            world.engine, world.storage, package_id, longest_run=world.longest_run
        )
        assert repeated is False
        world.settle()
        assert world.all_packages() == []
        assert world.storage.original_size(landed.bucket, landed.key, landed.version) is None
        world.assert_nothing_is_left_over()


OTHERS: dict[str, Play] = {
    "upload, between row and PUT": upload_between_row_and_put,
    "upload, between PUT and answer": upload_between_put_and_answer,
    "deletion, before the objects": KilledWhileDeleting("deletion, before the objects"),
    "deletion, between objects and row": KilledWhileDeleting("deletion, between objects and row"),
    "replay, between job and message": replay_between_job_and_message,
    "replay, while storing": replay_killed_while_storing,
    "sweeper, between announcement and note": sweeper_between_announcement_and_note,
    "publisher, between acceptance and deletion": publisher_between_acceptance_and_deletion,
    "dead letter, inside the transaction": dead_letter_inside_the_transaction,
    "deleted after a crash": deleted_after_a_crash,
}
PLAYS: dict[str, Play] = {
    **{each.point: each for each in INGESTING},
    **{each.point: each for each in REFUSING},
    **OTHERS,
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_killed(play: Play, outcomes: Mapping[Play, Future[None]]) -> None:
    outcomes[play].result()


def test_every_point_is_killed_at_or_used() -> None:
    others = {"before the fourth PUT"}  # of test_outages.py and test_leases.py
    assert set(POINTS) - set(PLAYS) == others
