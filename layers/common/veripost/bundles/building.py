"""Building a package as one ZIP, from its stored files, in constant memory.

Files come in by ranges, some of them ahead; the ZIP goes out in parts, and becomes an object only once every
file's SHA-256 has been found to be the recorded one. The same files make the same bytes: sorted by name,
dated 1980 (the earliest that ZIP can say), with one compressor at one level.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import IO, Final, Protocol, cast
from uuid import UUID

from sqlalchemy import Engine

from veripost import queries, telemetry
from veripost.errors import BundleFailed
from veripost.queries import BundleClaim
from veripost.storage import ObjectMissing, ObjectReader, Storage
from veripost.telemetry import logger

_RANGE_BYTES: Final = 4 << 20
# A file up to 128 KiB comes whole with its first request, so some are always on their way.
_AHEAD: Final = 16
_RESERVE_SECONDS: Final = 15.0  # what is kept of a function's time to end in good order
_AFTERWARDS = timedelta(minutes=1)  # no builder works for longer than its function can run, and this
_UNTIL_RETRIED = timedelta(minutes=4)  # Lambda waits one minute, then two, before it tries again


class Outcome(StrEnum):
    """What became of an order. All of these mean: it is done with."""

    BUILT = "built"
    FAILED = "failed"
    IGNORED = "ignored"  # built already, or the package is not what it was
    SUPERSEDED = "superseded"  # another builder took over


@dataclass(frozen=True, slots=True)
class BundledFile:
    """A file as it is recorded: its name in the ZIP, where it lies, its size in bytes and its SHA-256."""

    filename: str
    key: str
    size: int
    sha256: str


class Sink(Protocol):
    """Where a ZIP goes: bytes can be added to it, and that is all."""

    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


def build(
    engine: Engine, storage: Storage, package_id: UUID, *, seconds_left: Callable[[], float]
) -> Outcome:
    """Build the bundle that was ordered of a package. Safe to call any number of times.

    Raises
    ------
    Exception
        Anything that trying again can help (database or storage down). No object is left.
    """
    lease = timedelta(seconds=seconds_left()) + _AFTERWARDS
    with engine.begin() as connection:
        claim = queries.claim_bundle(connection, package_id, lease=lease)
        rows = [] if claim is None else queries.bundle_files(connection, package_id)
    if claim is None:
        return Outcome.IGNORED
    files = [
        BundledFile(row["filename"], row["s3_key"], row["size_bytes"], row["content_hash"]) for row in rows
    ]
    try:
        version, size = _store(storage, package_id, files, seconds_left)
    except (BundleFailed, ObjectMissing) as error:
        logger.error("bundle failed", extra={"detail": error.detail})
        telemetry.emit({"BundlesFailed": 1})
        with engine.begin() as connection:
            failed = queries.fail_bundle(connection, claim, detail=error.detail or error.message)
        return Outcome.FAILED if failed else Outcome.SUPERSEDED
    except Exception:
        _leave_to_the_next(engine, claim)
        raise
    with engine.begin() as connection:
        built = queries.finish_bundle(connection, claim, version=version, size_bytes=size)
    if not built:  # or the package was deleted, and its bundle with it
        storage.discard_bundle(package_id, version)
        return Outcome.SUPERSEDED
    telemetry.emit({"BundlesBuilt": 1, "BundleBytes": size})
    logger.info("bundle built", extra={"files": len(files), "bytes": size})
    return Outcome.BUILT


def _leave_to_the_next(engine: Engine, claim: BundleClaim) -> None:
    logger.exception("building a bundle failed; Lambda will try again")
    try:
        with engine.begin() as connection:
            queries.await_builder(connection, claim, patience=_UNTIL_RETRIED)
    except Exception:
        logger.exception("could not say so; the builder's lease will run out")


def _store(
    storage: Storage, package_id: UUID, files: Sequence[BundledFile], seconds_left: Callable[[], float]
) -> tuple[str, int]:
    """Write the ZIP into the store; return its version and size. Whatever is raised, no object is left."""

    def check() -> None:
        if seconds_left() < _RESERVE_SECONDS:
            raise BundleFailed(detail="the package is too large to be built in the time a function has")

    upload = storage.start_bundle(package_id)
    try:
        write_zip(files, storage.open_file, upload, check=check)
        return upload.complete()
    except BaseException:
        upload.abort()
        raise


def write_zip(
    files: Iterable[BundledFile],
    open_file: Callable[[str], ObjectReader],
    sink: Sink,
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write `files`, in their order, as a ZIP into `sink`; `check` is called before each piece of work.

    Raises
    ------
    BundleFailed
        A file's bytes are not those that were recorded.
    """
    stream = cast("IO[bytes]", sink)  # zipfile asks for no more of it than a Sink has
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file, reader in _opened_ahead(files, open_file):
            # Its size decides whether the entry is written as ZIP64, before a byte of it is.
            with archive.open(_entry(file), "w") as member:
                for data in _verified(file, reader, check):
                    member.write(data)


def _entry(file: BundledFile) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(file.filename, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, whatever this runs on: it gives the next line its meaning
    entry.external_attr = 0o100644 << 16
    entry.file_size = file.size
    return entry


def _verified(file: BundledFile, reader: ObjectReader, check: Callable[[], None]) -> Iterator[bytes]:
    if reader.size != file.size:
        raise BundleFailed(detail=f"{file.key} has {reader.size} bytes, and {file.size} were recorded")
    digest = hashlib.sha256()
    for offset in range(0, file.size, _RANGE_BYTES):
        check()
        data = reader.read_at(offset, min(_RANGE_BYTES, file.size - offset))
        digest.update(data)
        yield data
    if digest.hexdigest() != file.sha256:
        raise BundleFailed(detail=f"{file.key} has the SHA-256 {digest.hexdigest()}, not {file.sha256}")


def _opened_ahead(
    files: Iterable[BundledFile], open_file: Callable[[str], ObjectReader]
) -> Iterator[tuple[BundledFile, ObjectReader]]:
    """Yield each file with its reader, while the next ones are already being opened."""
    coming: deque[tuple[BundledFile, Future[ObjectReader]]] = deque()
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="open")
    try:
        for file in files:
            coming.append((file, pool.submit(open_file, file.key)))
            if len(coming) > _AHEAD:
                yield _opened(*coming.popleft())
        for first, opening in coming:
            yield _opened(first, opening)
    finally:
        pool.shutdown(cancel_futures=True)


def _opened(file: BundledFile, opening: Future[ObjectReader]) -> tuple[BundledFile, ObjectReader]:
    try:
        return file, opening.result()
    except ObjectMissing as error:
        raise BundleFailed(detail=f"{file.key} is not in the store") from error
