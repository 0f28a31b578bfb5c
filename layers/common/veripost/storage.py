"""Objects in S3: the only module that talks to it.

The many small requests of ingestion (ranged GETs, single PUTs) go through obstore, which costs a tenth of
boto3's CPU and works on while Python's lock is held elsewhere; everything else, which is rare, through boto3,
which is imported when it is first needed. `docs/decisions/0004-object-writer.md` has the figures.

Two buckets: `incoming`, where archives land and stay, and `packages`, where extracted files are written
under `packages/{package_id}/`. Both are versioned, so "gone" means every version is gone.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from itertools import batched
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import obstore
from obstore.exceptions import BaseError as ObstoreError
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

from veripost.errors import NotFound, Unavailable
from veripost.settings import Settings
from veripost.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ObjectIdentifierTypeDef
    from obstore import GetOptions, WritableFile

TAIL_BYTES = 128 << 10  # end records (66 KiB at most) and the directory of some 2,000 entries, in one read
SINGLE_PUT_BYTES = 8 << 20  # files above this are uploaded in parts
_PART_BYTES = 5 << 20  # the least that S3 takes
_PARTS_AT_ONCE = 2
_HASH_BYTES = 1 << 20

_BUNDLE_PART_BYTES = 8 << 20  # S3 takes 10,000 parts: 80 GB, far above what a package can be
_MOST_DELETED_AT_ONCE = 1000  # a limit of S3
ORIGINAL_NAME = "archive.zip"  # an upload lands at uploads/{package_id}/ under this name
# 405 is what a delete marker answers; HEAD has no body, so its errors are named by their number.
_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "MethodNotAllowed", "404", "405"})


class ObjectMissing(NotFound):
    """The object version is not in the bucket (any more)."""

    code = "original_missing"
    message = "The uploaded file is no longer in the store, so it cannot be read."


class ObjectChanged(Unavailable):
    """The object was replaced while it was being read."""

    code = "original_changed"
    message = "The uploaded file was replaced while it was being read."


class _RangeNotSatisfiable(Unavailable):
    """The object has no byte in the range that was asked for."""


@dataclass(frozen=True, slots=True)
class PresignedUpload:
    """What a browser or `curl` needs to send one file straight to S3."""

    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object. `size` is in bytes; None: a delete marker."""

    key: str
    version: str
    size: int | None
    modified: datetime


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Versions, and the key and version id behind which the next page goes on (empty: there is none)."""

    versions: Sequence[ObjectVersion]
    following: tuple[str, str]


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A file on its way in parts that nobody has completed."""

    key: str
    upload_id: str
    started: datetime


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it. `size` is in bytes."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What is known of an object without its bytes, or from them. `size` is in bytes.

    `sha256` is in hex and of the whole object; None where nobody knows it. `in_parts`: the object came in
    parts, so S3 keeps a checksum of its parts' checksums, which says nothing about the whole:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """

    size: int
    sha256: str | None
    in_parts: bool


@cache
def get_storage(settings: Settings) -> Storage:
    """Return the storage of this process; its clients are made once and keep their connections."""
    return Storage(settings)


def _client(
    endpoint_url: str, *, attempts: int = 4, connect_timeout: int = 5, read_timeout: int = 20
) -> S3Client:
    import boto3  # a second of CPU that most invocations never need
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        # Spelled out: "auto" presigns for the global endpoint, which redirects and so breaks a signed POST.
        # A body is not hashed again for the signature: it carries its own checksum, which is signed.
        s3={
            "addressing_style": "path" if endpoint_url else "virtual",
            "payload_signing_enabled": False,
        },
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=32,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=endpoint_url or None, config=config)


def _object_store(bucket: str, settings: Settings) -> S3Store:
    """Return a store of `bucket`; region and credentials come from the environment, as in every AWS tool."""
    place: dict[str, Any] = {"virtual_hosted_style_request": not settings.s3_endpoint_url}
    if settings.s3_endpoint_url:
        place["endpoint"] = settings.s3_endpoint_url
    return S3Store(
        bucket,
        checksum_algorithm="SHA256",
        client_options={
            "allow_http": settings.s3_endpoint_url.startswith("http://"),
            "connect_timeout": "5s",
            "timeout": "30s",
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=30)},
        **place,
    )


@contextmanager
def _boto3_errors() -> Iterator[None]:
    """Turn botocore's errors into ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        if code in _MISSING:
            raise ObjectMissing(detail=str(error)) from error
        if code in {"PreconditionFailed", "412"}:
            raise ObjectChanged(detail=str(error)) from error
        if code in {"InvalidRange", "416"}:
            raise _RangeNotSatisfiable(detail=str(error)) from error
        raise Unavailable(detail=str(error)) from error
    except BotoCoreError as error:
        raise Unavailable(detail=str(error)) from error


@contextmanager
def _obstore_errors() -> Iterator[None]:
    """Turn obstore's errors into ours; only the first line of their text is meant for people."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(detail=_first_line(error)) from error
    except PreconditionError as error:
        raise ObjectChanged(detail=_first_line(error)) from error
    except (ObstoreError, OSError) as error:
        raise Unavailable(detail=_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


class Storage:
    """The two buckets of one deployment."""

    def __init__(self, settings: Settings) -> None:
        self.incoming = settings.incoming_bucket
        self.packages = settings.package_bucket
        self._settings = settings
        self._lock = threading.Lock()
        self._stores: dict[str, S3Store] = {}

    @cached_property
    def _s3(self) -> S3Client:
        with self._lock:  # boto3 cannot make two clients at the same moment
            return _client(self._settings.s3_endpoint_url)

    @cached_property
    def _impatient_s3(self) -> S3Client:
        """For what must be answered soon, or else be left: health, and cleaning up before time is over."""
        with self._lock:
            return _client(self._settings.s3_endpoint_url, attempts=1, connect_timeout=2, read_timeout=4)

    @cached_property
    def _presigner(self) -> S3Client:
        # A presigned URL is signed for the host that its user will call, so it has a client of its own.
        return _client(self._settings.s3_presign_endpoint_url)

    def _store_of(self, bucket: str) -> S3Store:
        """Return the one store of `bucket`: it keeps its connections from job to job."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = _object_store(bucket, self._settings)
            return self._stores[bucket]

    # -- health

    def ping(self) -> None:
        """Raise `Unavailable` unless both buckets answer."""
        with _boto3_errors():
            self._impatient_s3.head_bucket(Bucket=self.incoming)
            self._impatient_s3.head_bucket(Bucket=self.packages)

    # -- presigned URLs

    def presign_upload(
        self, key: str, *, max_bytes: int, seconds: int, sha256: str | None = None
    ) -> PresignedUpload:
        """Return a POST that writes exactly `key` of the incoming bucket, with 1 to `max_bytes` bytes.

        With `sha256` (hex) S3 itself refuses any other bytes. Fields and conditions as in
        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
        """
        fields: dict[str, str] = {}
        if sha256 is not None:
            fields = {"x-amz-checksum-algorithm": "SHA256", "x-amz-checksum-sha256": _base64_of(sha256)}
        conditions: list[Any] = [["content-length-range", 1, max_bytes]]
        conditions.extend({name: value} for name, value in fields.items())
        post = self._presigner.generate_presigned_post(
            self.incoming, key, Fields=dict(fields), Conditions=conditions, ExpiresIn=seconds
        )
        return PresignedUpload(url=post["url"], fields=post["fields"])

    def presign_file(self, key: str, *, filename: str, seconds: int) -> str:
        """Return a GET of a stored file that a browser saves as `filename`."""
        return self._presign_get(self.packages, key, filename=filename, seconds=seconds)

    def presign_archive(self, key: str, version: str, *, filename: str, seconds: int) -> str:
        """Return a GET of exactly this version of an original archive."""
        return self._presign_get(
            self.incoming, key, filename=filename, seconds=seconds, extra={"VersionId": version}
        )

    def _presign_get(
        self, bucket: str, key: str, *, filename: str, seconds: int, extra: Mapping[str, str] | None = None
    ) -> str:
        return self._presigner.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": bucket,
                "Key": key,
                "ResponseContentDisposition": content_disposition(filename),
                "ResponseContentType": "application/octet-stream",
                **(extra or {}),
            },
            ExpiresIn=seconds,
        )

    # -- originals

    def put_original(self, key: str, data: bytes, sha256: str) -> None:
        """Store an archive that came through the API; S3 checks `sha256` (hex) on arrival."""
        with _boto3_errors():
            self._s3.put_object(
                Bucket=self.incoming,
                Key=key,
                Body=data,
                ContentType="application/zip",
                ChecksumSHA256=_base64_of(sha256),
            )

    def delete_original(self, key: str, version: str) -> None:
        """Remove one version of an original for good."""
        with _boto3_errors():
            self._s3.delete_object(Bucket=self.incoming, Key=key, VersionId=version)

    def original_size(self, bucket: str, key: str, version: str) -> int | None:
        """Return the bytes of one version of an original; None where it is not there (any more)."""
        try:
            with _boto3_errors():
                head = self._s3.head_object(Bucket=bucket, Key=key, **_version_argument(version))
                return head["ContentLength"]
        except ObjectMissing:
            return None

    def open_original(self, bucket: str, key: str, version: str) -> ObjectReader:
        """Open one version of an original for ranged reads.

        Raises
        ------
        ObjectMissing
            That version does not exist.
        """
        if _is_plain(key):
            try:
                return ObjectReader(_ObstoreRanges(self._store_of(bucket), key, version))
            except (ObjectMissing, Unavailable):
                # boto3 tells apart what looks alike here: no such object, no such bucket, no byte in it.
                logger.info("opening the original again through boto3", extra={"key": key})
        return ObjectReader(_Boto3Ranges(self._s3, bucket, key, version))

    # -- extracted files

    def put_file(self, key: str, data: bytes | bytearray, sha256: str) -> None:
        """Store a whole file; obstore sends its SHA-256 along, and S3 checks it on arrival.

        `sha256` (hex) is what the gate computed of the same bytes; it is kept as metadata.
        """
        try:
            obstore.put(
                self._store_of(self.packages),
                key,
                data,
                attributes={"Content-Type": "application/octet-stream", "content-hash": sha256},
                use_multipart=False,
            )
        except (ObstoreError, OSError) as error:
            raise Unavailable(detail=_first_line(error)) from error

    def read_file(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes `[start, end)` of a stored file, which must have that many.

        Raises
        ------
        ObjectMissing
            There is no such file.
        """
        with _obstore_errors():
            return obstore.get_range(self._store_of(self.packages), key, start=start, end=end).to_bytes()

    def start_file(self, key: str) -> PartsUpload:
        """Start a file that travels in parts and exists only once `PartsUpload.complete` has returned."""
        with _obstore_errors():
            return PartsUpload(
                obstore.open_writer(
                    self._store_of(self.packages),
                    key,
                    attributes={"Content-Type": "application/octet-stream"},
                    buffer_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            )

    def abort_uploads(self, prefix: str) -> int:
        """Give up every unfinished upload of a file below `prefix`; return how many there were."""
        return self.abandon(self.list_uploads(prefix))

    def list_uploads(self, prefix: str) -> list[UnfinishedUpload]:
        """Return every unfinished upload of a file below `prefix`."""
        uploads, following = self.page_of_uploads(prefix)
        while following[0]:
            more, following = self.page_of_uploads(prefix, after=following)
            uploads += more
        return uploads

    def page_of_uploads(
        self, prefix: str, *, after: tuple[str, str] = ("", ""), limit: int = 1000
    ) -> tuple[list[UnfinishedUpload], tuple[str, str]]:
        """Return up to `limit` unfinished uploads below `prefix`, and where the next page goes on.

        Both places are a key and an upload id; an empty key: there is nothing more.
        """
        key_marker, upload_marker = after
        place: dict[str, Any] = {"KeyMarker": key_marker} if key_marker else {}
        if upload_marker:
            place["UploadIdMarker"] = upload_marker
        with _boto3_errors():
            page = self._impatient_s3.list_multipart_uploads(
                Bucket=self.packages, Prefix=prefix, MaxUploads=limit, **place
            )
        uploads = [
            UnfinishedUpload(upload["Key"], upload["UploadId"], upload["Initiated"])
            for upload in page.get("Uploads", ())
        ]
        if not page.get("IsTruncated"):
            return uploads, ("", "")
        return uploads, (page["NextKeyMarker"], page.get("NextUploadIdMarker", ""))

    def abandon(self, uploads: Sequence[UnfinishedUpload]) -> int:
        """Give up unfinished uploads, which frees their parts; return how many."""
        from botocore.exceptions import ClientError

        with _boto3_errors():
            for upload in uploads:
                try:
                    self._impatient_s3.abort_multipart_upload(
                        Bucket=self.packages, Key=upload.key, UploadId=upload.upload_id
                    )
                except ClientError as error:
                    if error.response["Error"].get("Code") != "NoSuchUpload":  # somebody else was faster
                        raise
        return len(uploads)

    def delete_prefix(self, prefix: str) -> int:
        """Remove every version, delete marker and unfinished upload below `prefix`; return how many."""
        removed = 0
        for page in self.list_versions(self.packages, prefix):
            removed += self.delete_versions(self.packages, page.versions)
        return removed + self.abort_uploads(prefix)

    def delete_bundle(self, package_id: UUID) -> int:
        """Remove every version of a package's bundle; return how many there were."""
        pages = self.list_versions(self.packages, bundle_key(package_id))
        return sum(self.delete_versions(self.packages, page.versions) for page in pages)

    # -- looking without changing

    def page_of_objects(
        self, prefix: str, *, after: str = "", limit: int = 1000
    ) -> tuple[list[ListedObject], bool]:
        """Return up to `limit` objects of the packages bucket with keys behind `after`, in the order of their
        keys' UTF-8 bytes, and whether there are more."""
        place: dict[str, Any] = {"StartAfter": after} if after else {}
        with _boto3_errors():
            page = self._s3.list_objects_v2(Bucket=self.packages, Prefix=prefix, MaxKeys=limit, **place)
        objects = [
            ListedObject(entry["Key"], entry["Size"], entry["LastModified"])
            for entry in page.get("Contents", ())
        ]
        return objects, bool(page.get("IsTruncated")) and bool(objects)

    def versions_of(self, bucket: str, key: str) -> list[ObjectVersion]:
        """Return every version and delete marker of exactly this key."""
        found: list[ObjectVersion] = []
        for page in self.list_versions(bucket, key):
            ours = [version for version in page.versions if version.key == key]
            found += ours
            if len(ours) < len(page.versions):  # longer keys follow the one that they begin with
                break
        return found

    def describe_object(self, bucket: str, key: str, version: str | None = None) -> StoredObject | None:
        """Return size and checksum of an object, or of one version of it; None where there is none."""
        try:
            with _boto3_errors():
                head = self._s3.head_object(
                    Bucket=bucket, Key=key, ChecksumMode="ENABLED", **_version_argument(version)
                )
        except ObjectMissing:
            return None
        checksum = head.get("ChecksumSHA256", "")
        in_parts = "-" in checksum or "-" in head["ETag"]  # `…-7`: of seven parts
        whole = base64.b64decode(checksum).hex() if checksum and not in_parts else None
        return StoredObject(head["ContentLength"], whole, in_parts)

    def hash_object(
        self, bucket: str, key: str, version: str | None = None, *, may_go_on: Callable[[], bool]
    ) -> StoredObject | None:
        """Read an object, or one version of it, and hash it; None where there is none.

        Where `may_go_on` says no before the last byte, `sha256` is None.
        """
        try:
            with _boto3_errors():
                answer = self._s3.get_object(Bucket=bucket, Key=key, **_version_argument(version))
                digest = hashlib.sha256()
                with answer["Body"] as body:
                    while data := body.read(_HASH_BYTES):
                        digest.update(data)
                        if not may_go_on():
                            return StoredObject(answer["ContentLength"], None, in_parts=False)
        except ObjectMissing:
            return None
        return StoredObject(answer["ContentLength"], digest.hexdigest(), in_parts=False)

    # -- bundles

    def open_file(self, key: str) -> ObjectReader:
        """Open a stored file for ranged reads. Raises `ObjectMissing`."""
        return self.open_original(self.packages, key, "null")

    def start_bundle(self, package_id: UUID) -> BundleUpload:
        """Start a package's bundle, which exists only once `BundleUpload.complete` has returned."""
        return BundleUpload(self._s3, self.packages, bundle_key(package_id))

    def has_bundle(self, package_id: UUID, version: str) -> bool:
        """Tell whether this version of a package's bundle is still there."""
        return self.original_size(self.packages, bundle_key(package_id), version) is not None

    def presign_bundle(self, package_id: UUID, version: str, *, filename: str, seconds: int) -> str:
        """Return a GET of exactly this version of a package's bundle."""
        return self._presign_get(
            self.packages,
            bundle_key(package_id),
            filename=filename,
            seconds=seconds,
            extra={"VersionId": version},
        )

    def discard_bundle(self, package_id: UUID, version: str) -> None:
        """Remove one version of a package's bundle for good."""
        with _boto3_errors():
            self._s3.delete_object(Bucket=self.packages, Key=bundle_key(package_id), VersionId=version)

    # -- both buckets, version by version

    def first_version(self, bucket: str, key: str) -> ObjectVersion | None:
        """Return the oldest version of an object that is no delete marker, or None."""
        found: ObjectVersion | None = None
        for page in self.list_versions(bucket, key):
            for version in page.versions:
                if version.key == key and version.size is not None:
                    found = version  # newest first: the last one is the oldest
        return found

    def list_versions(
        self, bucket: str, prefix: str, *, after: tuple[str, str] = ("", ""), limit: int = 1000
    ) -> Iterator[VersionPage]:
        """Yield pages of up to `limit` object versions and delete markers, by key and then newest first.

        `after` is the key and version id behind which to go on, as an earlier page gave them.
        """
        key_marker, version_marker = after
        while True:
            place: dict[str, Any] = {"KeyMarker": key_marker} if key_marker else {}
            if version_marker:
                place["VersionIdMarker"] = version_marker
            with _boto3_errors():
                page = self._s3.list_object_versions(Bucket=bucket, Prefix=prefix, MaxKeys=limit, **place)
            key_marker = page.get("NextKeyMarker", "") if page.get("IsTruncated") else ""
            version_marker = page.get("NextVersionIdMarker", "") if key_marker else ""
            versions = [
                *(
                    ObjectVersion(entry["Key"], entry["VersionId"], entry["Size"], entry["LastModified"])
                    for entry in page.get("Versions", ())
                ),
                *(
                    ObjectVersion(entry["Key"], entry["VersionId"], None, entry["LastModified"])
                    for entry in page.get("DeleteMarkers", ())
                ),
            ]
            yield VersionPage(versions, (key_marker, version_marker))
            if not key_marker:
                return

    def delete_versions(self, bucket: str, versions: Sequence[ObjectVersion]) -> int:
        """Remove exactly these versions for good; return how many. One that is gone already is no error."""
        doomed: list[ObjectIdentifierTypeDef] = [
            {"Key": version.key, "VersionId": version.version} for version in versions
        ]
        for batch in batched(doomed, _MOST_DELETED_AT_ONCE, strict=False):
            with _boto3_errors():
                answer = self._s3.delete_objects(
                    Bucket=bucket, Delete={"Objects": list(batch), "Quiet": True}
                )
            if answer.get("Errors"):
                raise Unavailable(
                    detail=f"could not delete {len(answer['Errors'])} objects: {answer['Errors'][0]}"
                )
        return len(doomed)


def upload_owner(key: str) -> UUID | None:
    """Return the package that an upload's key names: `uploads/{package_id}/archive.zip`, and nothing else."""
    door, _, rest = key.partition("/")
    owner, _, filename = rest.partition("/")
    try:
        return UUID(owner) if door == "uploads" and filename == ORIGINAL_NAME else None
    except ValueError:
        return None


def _version_argument(version: str | None) -> dict[str, Any]:
    # `null` is what S3 calls the version of an object in an unversioned bucket.
    return {} if version in {None, "null"} else {"VersionId": version}


def bundle_key(package_id: UUID) -> str:
    """Return where the whole package lies as one ZIP, once somebody has asked for it."""
    return f"bundles/{package_id}.zip"


def _is_plain(key: str) -> bool:
    """Tell whether obstore can name `key`: it reads `a//b`, `/a` or `a/` as another key, or not at all."""
    return all(part not in {"", ".", ".."} for part in key.split("/"))


class _ObstoreRanges:
    """Ranged GETs of one object version through obstore."""

    def __init__(self, store: S3Store, key: str, version: str) -> None:
        self._store = store
        self._key = key
        self._options: GetOptions = {}
        if version != "null":  # what S3 calls the version of an object in an unversioned bucket
            self._options["version"] = version

    def tail(self, length: int) -> tuple[int, bytes]:
        """Return the object's size and its last `length` bytes, and pin what was read."""
        with _obstore_errors():
            found = obstore.get(
                self._store, self._key, options={**self._options, "range": {"suffix": length}}
            )
            self._options["if_match"] = found.meta["e_tag"]
            return found.meta["size"], found.bytes().to_bytes()

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes `[start, end)` of the object that was pinned."""
        with _obstore_errors():
            found = obstore.get(self._store, self._key, options={**self._options, "range": (start, end)})
            return found.bytes().to_bytes()


class _Boto3Ranges:
    """Ranged GETs of one object version through boto3, for keys that obstore cannot name."""

    def __init__(self, s3: S3Client, bucket: str, key: str, version: str) -> None:
        self._get: Any = s3.get_object
        self._where = {"Bucket": bucket, "Key": key}
        if version != "null":
            self._where["VersionId"] = version

    def tail(self, length: int) -> tuple[int, bytes]:
        """Return the object's size and its last `length` bytes, and pin what was read."""
        try:
            with _boto3_errors():
                answer = self._get(**self._where, Range=f"bytes=-{length}")
        except _RangeNotSatisfiable:
            return 0, b""  # RFC 9110 §14.1.2: no suffix of an empty object is satisfiable
        self._where["IfMatch"] = answer["ETag"]
        data = self._body(answer)
        content_range = answer.get("ContentRange")
        return int(content_range.rpartition("/")[2]) if content_range else len(data), data

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes `[start, end)` of the object that was pinned."""
        with _boto3_errors():
            return self._body(self._get(**self._where, Range=f"bytes={start}-{end - 1}"))

    def _body(self, answer: Any) -> bytes:
        with _boto3_errors(), answer["Body"] as body:
            data: bytes = body.read()
            return data


class ObjectReader:
    """One object version, read by ranges. The first request brings the size and the object's tail.

    Every later request carries `If-Match`, so bytes of two different objects are never mixed, and no byte
    is downloaded twice: what lies in the tail is served from memory.
    """

    def __init__(self, ranges: _ObstoreRanges | _Boto3Ranges) -> None:
        self._ranges = ranges
        self.size, self._tail = ranges.tail(TAIL_BYTES)
        self.tail_offset = self.size - len(self._tail)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises
        ------
        ObjectChanged, ObjectMissing
            The object is not the one that was opened any more.
        Unavailable
            S3 does not answer, or answered with fewer bytes.
        """
        end = offset + length
        in_tail = self._tail[max(offset - self.tail_offset, 0) : max(end - self.tail_offset, 0)]
        if len(in_tail) == length:
            return in_tail
        data = self._ranges.read(offset, min(end, self.tail_offset)) + in_tail
        if len(data) != length:
            raise Unavailable(detail=f"asked for {length} bytes at {offset}, got {len(data)}")
        return data


class PartsUpload:
    """A file on its way in parts, each with its own SHA-256 that S3 checks.

    Dropped without `complete`, it never becomes an object; `Storage.abort_uploads` then frees its parts.
    """

    def __init__(self, writer: WritableFile) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Take the next bytes; waits while too many parts are under way."""
        try:
            self._writer.write(data)
        except (ObstoreError, OSError) as error:
            raise Unavailable(detail=_first_line(error)) from error

    def complete(self) -> None:
        """Send what is left and make the object exist."""
        try:
            self._writer.close()
        except (ObstoreError, OSError) as error:
            raise Unavailable(detail=_first_line(error)) from error


class BundleUpload:
    """An object on its way in parts, each with its own SHA-256 that S3 checks; `zipfile` writes into it.

    Through boto3, unlike `PartsUpload`: parts are few and large here, and whoever completes an upload must be
    told which version it made, since two builders may write to the same key.
    """

    def __init__(self, s3: S3Client, bucket: str, key: str) -> None:
        self._s3 = s3
        self._bucket, self._key = bucket, key
        self._buffer = bytearray()
        self._size = 0
        self._parts: list[CompletedPartTypeDef] = []
        with _boto3_errors():
            self._id = s3.create_multipart_upload(
                Bucket=bucket, Key=key, ContentType="application/zip", ChecksumAlgorithm="SHA256"
            )["UploadId"]

    def write(self, data: bytes, /) -> int:
        """Take the next bytes, and send a part whenever one is full. Raises `Unavailable`."""
        self._buffer += data
        while len(self._buffer) >= _BUNDLE_PART_BYTES:
            self._send(self._buffer[:_BUNDLE_PART_BYTES])
            del self._buffer[:_BUNDLE_PART_BYTES]
        return len(data)

    def flush(self) -> None:
        """Do nothing: parts have a least size."""

    def complete(self) -> tuple[str, int]:
        """Send what is left and make the object exist; return its version and its size in bytes."""
        if self._buffer or not self._parts:
            self._send(self._buffer)
        with _boto3_errors():
            answer = self._s3.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._id,
                MultipartUpload={"Parts": self._parts},
            )
        return answer.get("VersionId", "null"), self._size

    def abort(self) -> None:
        """Give the upload up, which frees its parts; if S3 does not answer, the lifecycle does it."""
        try:
            with _boto3_errors():
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._id)
        except (Unavailable, NotFound) as error:
            logger.warning("an upload was left unfinished", extra={"key": self._key, "detail": error.detail})

    def _send(self, data: bytearray) -> None:
        number = len(self._parts) + 1
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
        with _boto3_errors():
            answer = self._s3.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._id,
                PartNumber=number,
                Body=bytes(data),
                ChecksumSHA256=checksum,
            )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum})
        self._size += len(data)


def content_disposition(filename: str) -> str:
    """Return an RFC 6266 `attachment` header for any file name, with an ASCII fallback."""
    fallback = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _base64_of(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
