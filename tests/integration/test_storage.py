"""The store over HTTP: ranged reads of any key, pinned to one version, and files that travel in parts."""

from __future__ import annotations

import hashlib

import boto3
import pytest

from veripost import storage as storage_module
from veripost.errors import Unavailable
from veripost.storage import TAIL_BYTES, ObjectChanged, ObjectMissing, Storage, content_disposition

DATA = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(10_000))


def _put(key: str, data: bytes = DATA) -> str:
    version: str = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=data)["VersionId"]
    return version


@pytest.mark.parametrize(
    "key",
    [
        "drops/camworks/plain.zip",
        "drops/camworks/Fräse 1+2 100%.ZIP",
        "drops/camworks//double.zip",
        "drops/camworks/./dot.zip",
        "drops/camworks/trailing/",
        "drops/camworks/a#b?c&d.zip",
    ],
)
def test_any_key_is_read_by_ranges_of_its_own_version(storage: Storage, key: str) -> None:
    version = _put(key)
    _put(key, b"a later upload to the same key")
    reader = storage.open_original("incoming", key, version)
    assert reader.size == len(DATA)
    assert reader.tail_offset == len(DATA) - TAIL_BYTES
    for offset, length in ((0, 10), (100_000, 5), (len(DATA) - 3, 3), (reader.tail_offset - 5, 10), (7, 0)):
        assert reader.read_at(offset, length) == DATA[offset : offset + length]
    assert reader.read_at(0, len(DATA)) == DATA


@pytest.mark.parametrize("key", ["drops/camworks/empty.zip", "drops/camworks//empty.zip"])
def test_an_empty_object_has_no_bytes(storage: Storage, key: str) -> None:
    assert storage.open_original("incoming", key, _put(key, b"")).size == 0


@pytest.mark.parametrize("key", ["drops/camworks/gone.zip", "drops/camworks//gone.zip"])
def test_missing_is_told_from_unavailable(storage: Storage, key: str) -> None:
    version = _put(key)
    storage.delete_original(key, version)
    with pytest.raises(ObjectMissing):
        storage.open_original("incoming", key, version)
    with pytest.raises(Unavailable):
        storage.open_original("no-such-bucket", key, "null")


def test_bytes_of_two_objects_are_never_mixed(storage: Storage) -> None:
    """In a bucket without versions only `If-Match` can tell."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="unversioned")
    s3.put_object(Bucket="unversioned", Key="a.zip", Body=DATA)
    reader = storage.open_original("unversioned", "a.zip", "null")
    s3.put_object(Bucket="unversioned", Key="a.zip", Body=DATA[::-1])
    with pytest.raises(ObjectChanged):
        reader.read_at(0, 10)


def test_parts_are_an_object_only_once_they_are_complete(storage: Storage) -> None:
    s3 = boto3.client("s3")
    upload = storage.start_file("packages/x/BIG.CTL")
    for _ in range(40):
        upload.write(DATA)
    assert "Contents" not in s3.list_objects_v2(Bucket="packages")
    del upload
    assert "Contents" not in s3.list_objects_v2(Bucket="packages")
    storage.abort_uploads("packages/x/")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="packages")

    upload = storage.start_file("packages/x/BIG.CTL")
    for _ in range(40):
        upload.write(DATA)
    upload.complete()
    assert s3.get_object(Bucket="packages", Key="packages/x/BIG.CTL")["Body"].read() == DATA * 40


def test_a_prefix_is_removed_with_every_version_and_marker(storage: Storage) -> None:
    s3 = boto3.client("s3")
    for name in ("a", "a", "b"):
        storage.put_file(f"packages/x/{name}", DATA, "0" * 64)
    storage.put_file("packages/xy/other", DATA, "0" * 64)
    s3.delete_object(Bucket="packages", Key="packages/x/b")
    assert storage.delete_prefix("packages/x/") == 4
    left = s3.list_object_versions(Bucket="packages")
    assert [version["Key"] for version in left["Versions"]] == ["packages/xy/other"]
    assert "DeleteMarkers" not in left


def test_a_put_that_fails_is_our_failure_even_when_the_bucket_is_missing(storage: Storage) -> None:
    boto3.client("s3").delete_bucket(Bucket="packages")
    with pytest.raises(Unavailable):
        storage.put_file("packages/x/a", b"1", "0" * 64)


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("POST.SRC", "attachment; filename=\"POST.SRC\"; filename*=UTF-8''POST.SRC"),
        ('a"b\\.SRC', "attachment; filename=\"a_b_.SRC\"; filename*=UTF-8''a%22b%5C.SRC"),
        ("Fräse.SRC", "attachment; filename=\"Fr_se.SRC\"; filename*=UTF-8''Fr%C3%A4se.SRC"),
        ("a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
    ],
)
def test_a_download_is_named_safely(filename: str, header: str) -> None:
    assert content_disposition(filename) == header


def test_only_what_obstore_names_truly_goes_through_it() -> None:
    plain = storage_module._is_plain
    assert plain("drops/camworks/a b+c%.zip")
    assert not any(plain(key) for key in ("/a", "a/", "a//b", "a/./b", "a/../b", ""))
