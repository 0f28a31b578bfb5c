"""Events that come too often, too late, out of order, or not at all; and messages that nobody can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from localcloud import samples
from tests.faults.archives import FILES, damaged, good
from tests.faults.conftest import Play
from tests.faults.worker import Fault
from tests.faults.world import Stage, World, event_of, wait_until
from veripost.upkeep import deletion

GARBAGE = "this is not an event"


def ten_deliveries_of_one_event(stage: Stage) -> None:
    with World(stage) as world:
        landed = world.put(good())
        world.announce(landed, times=10)
        others = [world.start() for _ in range(2)]
        world.settle()
        for other in others:
            other.end()
        world.assert_ready(world.the_package(), FILES)
        world.assert_nothing_is_left_over()
        world.assert_original_kept(landed)
        assert world.announced() == ["PackageReady"]


@dataclass(frozen=True)
class TwoAtTheSameMoment:
    """The first process waits inside its transaction until the second has come to the same place."""

    point: str

    def __call__(self, stage: Stage) -> None:
        # The lease counts from the beginning of the first's transaction, which must not last as long.
        with World(stage, LEASE_SECONDS="30") as world:
            landed = world.put(good())
            world.announce(landed)
            first = world.start(Fault(self.point, "hold"), once=True)
            first.wait_until_reached()
            world.announce(landed)
            second = world.start(once=True)
            wait_until(world.somebody_waits_for_a_lock, "the second waits for the first", second.printed)
            first.resume()
            assert (first.wait(), second.wait()) == (0, 0), first.printed() + second.printed()
            world.settle()
            world.assert_ready(world.the_package(), FILES)
            world.assert_nothing_is_left_over()
            assert world.announced() == ["PackageReady"]


def late_duplicates_of_what_has_ended(stage: Stage) -> None:
    """A final package is final, whatever is delivered again."""
    with World(stage) as world:
        ready, refused = world.drop(good()), world.drop(damaged())
        world.settle()
        before = world.all_packages()
        world.announce(ready, refused, times=2)
        world.settle()
        assert world.all_packages() == before
        assert sorted(world.announced()) == ["PackageReady", "PackageRefused"]
        world.assert_nothing_is_left_over()


def out_of_order_drops(stage: Stage) -> None:
    """An overwritten drop is two packages, each of the bytes of its own version, whichever event is first."""
    files = [{"ONE.SRC": b":SECTION=A\r\n"}, {"TWO.SRC": b":SECTION=B\r\n"}]
    with World(stage) as world:
        key = f"drops/camworks/{uuid4()}.zip"
        older = world.put(samples.zip_of(files[0]), key)
        newer = world.put(samples.zip_of(files[1]), key)
        world.announce(newer)
        world.settle()
        world.announce(older)
        world.settle()
        by_name = {package["name"]: package for package in world.all_packages()}
        assert by_name["ONE"]["source_version"] == older.version
        assert by_name["TWO"]["source_version"] == newer.version
        world.assert_ready(by_name["ONE"], files[0])
        world.assert_ready(by_name["TWO"], files[1])
        world.assert_nothing_is_left_over()


def out_of_order_uploads(stage: Stage) -> None:
    """A form was used twice: one version becomes the package, the other is deleted."""
    with World(stage) as world:
        package_id, key = world.announce_upload(good())
        older, newer = world.put(damaged(), key), world.put(good(), key)
        world.announce(newer)
        world.settle()
        world.announce(older)
        world.settle()
        assert world.the_package()["id"] == package_id
        world.assert_ready(world.the_package(), FILES)
        left = [each for page in world.storage.list_versions(world.incoming, "") for each in page.versions]
        assert [each.version for each in left] == [newer.version]
        world.assert_nothing_is_left_over()


def overwritten_before_we_came(stage: Stage) -> None:
    """The event names a version, and that version is what is read."""
    with World(stage) as world:
        landed = world.put(good())
        overwriting = world.put(b"something else", landed.key)
        world.announce(landed)
        worker = world.start(once=True)
        assert worker.wait() == 0, worker.printed()
        world.assert_ready(world.the_package(), FILES)
        world.settle()  # the sweeper has found the other version, which is no ZIP
        first, second = world.all_packages()
        assert second["source_version"] == overwriting.version
        world.assert_ready(first, FILES)
        world.assert_refused(second, "not_a_zip")


def deleted_before_we_came(stage: Stage) -> None:
    """Gone for good: there is no package. Hidden by a delete marker: the version is there, and is read."""
    with World(stage) as world:
        gone, hidden = world.put(good()), world.put(good())
        world.storage.delete_original(gone.key, gone.version)
        world.s3.delete_object(Bucket=world.incoming, Key=hidden.key)
        world.announce(gone, hidden)
        world.settle()
        package = world.the_package()
        assert package["source_key"] == hidden.key
        world.assert_ready(package, FILES)
        world.assert_original_kept(hidden)
        world.assert_nothing_is_left_over()


def lost_events(stage: Stage) -> None:
    """S3 never said a word about a drop and an upload: the sweeper finds both."""
    with World(stage) as world:
        package_id, key = world.announce_upload(good())
        world.put(good(), key)
        dropped = world.put(good())
        world.put(b"", "drops/camworks/new folder/")  # a folder marker is no package
        world.sweep()  # too early: an event may still be on its way
        wait_until(lambda: len(world.all_packages()) == 2 or world.sweep().lost_events > 0, "it is found")
        world.settle()
        packages = {package["source_key"]: package for package in world.all_packages()}
        assert packages[key]["id"] == package_id
        assert set(packages) == {key, dropped.key}
        for package in packages.values():
            world.assert_ready(package, FILES)
        world.assert_nothing_is_left_over()


def landed_after_the_form_expired(stage: Stage) -> None:
    """The package was given up as `upload_expired`; the late object takes it up again, with the same id."""
    with World(stage, UPLOAD_URL_SECONDS="1") as world:
        with_event, without_event = world.announce_upload(good()), world.announce_upload(good())
        world.settle()
        assert [package["error_code"] for package in world.all_packages()] == ["upload_expired"] * 2
        assert [world.jobs(each)[0]["status"] for each, _ in (with_event, without_event)] == ["failed"] * 2
        world.announce(world.put(good(), with_event[1]))
        world.put(good(), without_event[1])
        wait_until(lambda: world.sweep().lost_events > 0, "the one without an event is found")
        world.settle()
        assert {package["id"] for package in world.all_packages()} == {with_event[0], without_event[0]}
        for package in world.all_packages():
            world.assert_ready(package, FILES)
        assert sorted(world.announced()) == ["PackageReady"] * 2 + ["PackageRefused"] * 2
        world.assert_nothing_is_left_over()


# -- messages that nobody can read, and those that were delivered too often


def a_batch_with_one_poisoned_record(stage: Stage) -> None:
    """Its neighbours are done at once; it comes back alone, and in the end waits for a person."""
    with World(stage, MAX_RECEIVE_COUNT="2") as world:
        landed = [world.put(good()) for _ in range(4)]
        half_readable = {
            "Records": [json.loads(event_of(landed[3]))["Records"][0], {"eventName": "ObjectCreated:X"}]
        }
        bodies = [
            event_of(landed[0]),
            GARBAGE,
            event_of(landed[1]),
            json.dumps(half_readable),
            event_of(landed[2]),
        ]
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        world.sqs.send_message_batch(QueueUrl=world.queue, Entries=entries)
        first = world.start(once=True)
        assert first.wait() == 0, first.printed()
        assert [package["status"] for package in world.all_packages()] == ["ready"] * 3
        world.settle()  # the fourth object's event was in a message that cannot be read: the sweeper finds it
        for package in world.all_packages():
            world.assert_ready(package, FILES)
        assert len(world.all_packages()) == 4
        failed = world.start(handler="failed", queue=world.dead_letters)
        parked: list[str] = []
        wait_until(lambda: len(parked.__iadd__(world.waiting(world.parking_lot))) >= 2, "both are parked")
        failed.end()
        assert sorted(parked) == sorted([GARBAGE, json.dumps(half_readable)])
        world.assert_nothing_is_left_over()


def dead_letters(stage: Stage) -> None:
    """They end what nobody works on, and nothing else."""
    with World(stage) as world:
        ready = world.drop(good())
        world.settle()
        held = world.drop(good())
        working = world.start(Fault("before the fourth PUT", "hold"), once=True)
        working.wait_until_reached()
        unknown = world.put(good())
        bodies = [event_of(each) for each in (ready, held, unknown)]
        for body in [*bodies, GARBAGE]:
            world.sqs.send_message(QueueUrl=world.dead_letters, MessageBody=body)
        ending = world.start(handler="failed", queue=world.dead_letters, once=True)
        assert ending.wait() == 0, ending.printed()
        packages = {package["source_key"]: package for package in world.all_packages()}
        assert packages[ready.key]["status"] == "ready"
        assert packages[held.key]["status"] == "storing"
        world.assert_refused(packages[unknown.key], "ingest_failed", attempts=[0], job="failed")
        working.resume()
        assert working.wait() == 0, working.printed()
        world.settle()
        packages = {package["source_key"]: package for package in world.all_packages()}
        world.assert_ready(packages[held.key], FILES)
        assert world.announced() == ["PackageReady", "PackageFailed", "PackageReady"]
        assert world.waiting(world.parking_lot) == [GARBAGE]
        world.assert_nothing_is_left_over()


# -- deletion


def deleted_while_worked_on(stage: Stage) -> None:
    """Busy while a worker's lease lives; gone at once afterwards; and gone it stays."""
    with World(stage) as world:
        landed = world.drop(good())
        working = world.start(Fault("before the fourth PUT", "hold"), once=True)
        working.wait_until_reached()
        package_id: UUID = world.the_package()["id"]
        with pytest.raises(deletion.PackageBusy) as busy:
            _delete(world, package_id)
        assert 1 <= (busy.value.retry_after or 0) <= 3
        assert world.the_package()["status"] == "storing"
        working.resume()
        assert working.wait() == 0, working.printed()
        world.assert_ready(world.the_package(), FILES)
        assert [_delete(world, package_id) for _ in range(3)] == [True, True, True]
        assert world.storage.original_size(landed.bucket, landed.key, landed.version) is None
        world.settle()
        assert world.all_packages() == []
        world.assert_nothing_is_left_over()


def deleted_before_the_upload(stage: Stage) -> None:
    """What lands for a deleted package belongs to nobody, and is removed."""
    with World(stage) as world:
        package_id, key = world.announce_upload(good())
        assert _delete(world, package_id) is True
        landed = world.put(good(), key)
        world.announce(landed)
        world.settle()
        assert world.all_packages() == []
        assert world.storage.original_size(landed.bucket, landed.key, landed.version) is None
        world.assert_nothing_is_left_over()


def duplicate_after_the_deletion(stage: Stage) -> None:
    """Nothing of a deleted drop comes back."""
    with World(stage) as world:
        landed = world.drop(good())
        world.settle()
        assert _delete(world, world.the_package()["id"]) is True
        world.announce(landed)
        world.settle()
        assert world.all_packages() == []
        world.assert_nothing_is_left_over()


def _delete(world: World, package_id: UUID) -> bool:
    return deletion.delete_package(world.engine, world.storage, package_id, longest_run=world.longest_run)


PLAYS: dict[str, Play] = {
    "ten deliveries of one event": ten_deliveries_of_one_event,
    "two at the same moment, making the row": TwoAtTheSameMoment("inside the row's transaction"),
    "two at the same moment, claiming": TwoAtTheSameMoment("inside the claim"),
    "late duplicates of what has ended": late_duplicates_of_what_has_ended,
    "drops out of order": out_of_order_drops,
    "uploads out of order": out_of_order_uploads,
    "overwritten before we came": overwritten_before_we_came,
    "deleted before we came": deleted_before_we_came,
    "lost events": lost_events,
    "landed after the form expired": landed_after_the_form_expired,
    "a batch with one poisoned record": a_batch_with_one_poisoned_record,
    "dead letters": dead_letters,
    "deleted while worked on": deleted_while_worked_on,
    "deleted before the upload": deleted_before_the_upload,
    "a duplicate after the deletion": duplicate_after_the_deletion,
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_delivery(play: Play, outcomes: Mapping[Play, Future[None]]) -> None:
    outcomes[play].result()
