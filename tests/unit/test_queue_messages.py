"""What S3 puts into the queue."""

from __future__ import annotations

import json

import pytest

from veripost.ingest_queue import LandedObject, MalformedEvent, landed_objects


def _record(
    key: str = "drops/camworks/a.zip", event: str = "ObjectCreated:Put", **extra: object
) -> dict[str, object]:
    entry = {"key": key, "size": 12, "versionId": "v1", "sequencer": "00"} | extra
    return {
        "eventName": event,
        "s3": {"bucket": {"name": "incoming"}, "object": entry},
        "eventVersion": "9.9",
    }


def _body(*records: object) -> str:
    return json.dumps({"Records": records, "new": "field"})


def test_one_object() -> None:
    assert landed_objects(_body(_record())) == [LandedObject("incoming", "drops/camworks/a.zip", "v1", 12)]


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("drops/camworks/my+post.zip", "drops/camworks/my post.zip"),
        ("drops/camworks/a%2Bb.zip", "drops/camworks/a+b.zip"),
        ("drops/camworks/100%25.zip", "drops/camworks/100%.zip"),
        ("drops/camworks/Fr%C3%A4se+M%C3%BCller.ZIP", "drops/camworks/Fräse Müller.ZIP"),
    ],
)
def test_keys_are_form_encoded(encoded: str, key: str) -> None:
    assert landed_objects(_body(_record(encoded)))[0].key == key


def test_several_records_and_other_events() -> None:
    body = _body(_record("uploads/1"), _record(event="ObjectRemoved:Delete"), _record("uploads/2"))
    assert [landed.key for landed in landed_objects(body)] == ["uploads/1", "uploads/2"]


def test_the_event_name_may_carry_its_service() -> None:
    assert len(landed_objects(_body(_record(event="s3:ObjectCreated:CompleteMultipartUpload")))) == 1


def test_a_test_event_announces_nothing() -> None:
    assert landed_objects(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"})) == []


def test_an_unversioned_bucket_has_the_version_null() -> None:
    assert landed_objects(_body(_record(versionId=None)))[0].version == "null"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "x",
        "[]",
        "null",
        "{}",
        '{"Records": [{"s3": {}, "eventName": "ObjectCreated:Put"}]}',
        '{"Records": 1}',
    ],
)
def test_anything_else_is_malformed(body: str) -> None:
    with pytest.raises(MalformedEvent):
        landed_objects(body)


def test_a_key_that_is_not_utf8_is_malformed() -> None:
    with pytest.raises(MalformedEvent):
        landed_objects(_body(_record("drops/%FF")))
