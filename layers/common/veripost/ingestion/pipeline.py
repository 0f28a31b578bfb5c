"""Moves the bytes of one archive: ranged reads in order, verification, and only then a PUT.

No unverified member is ever an object: small members are verified whole before their PUT starts, large ones
travel as parts of a multipart upload that is completed after the verdict and aborted otherwise. A refusal
stops all writing, but every remaining member is still verified so that the report is complete.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from veripost.archive import Directory, Limits, Member, MemberReader
from veripost.errors import Problem, has_errors
from veripost.platforms.rules import Selected, extension_of
from veripost.queries import StoredFile
from veripost.storage import PART_BYTES, ObjectReader, PartsUpload, Storage

_BLOCK_BYTES = 4 << 20  # one ranged GET
_PUT_THREADS = 16
_BYTES_IN_FLIGHT = 32 << 20  # verified bytes that wait for their PUT, all threads together


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came out of an archive. `files` is complete only if `problems` holds no error."""

    files: tuple[StoredFile, ...]
    problems: tuple[Problem, ...]
    content_hash: str


def extract(
    reader: ObjectReader,
    directory: Directory,
    selected: Sequence[Selected],
    *,
    prefix: str,
    storage: Storage,
    limits: Limits,
    publish: bool,
    beat: Callable[[], None],
) -> Extraction:
    """Verify every member of `directory`; while `publish` holds, store the `selected` ones below `prefix`.

    `beat` is called at least once a member and once a block of 4 MiB; whatever it raises stops the work.
    When this function raises, no PUT of its own is still under way.
    """
    wanted = {file.index: file for file in selected}
    problems: list[Problem] = []
    files: list[StoredFile] = []
    with _Feed(reader, beat) as feed, _Writer(storage) as writer:
        for position, member in enumerate(directory.members):
            beat()
            file = wanted.get(position) if publish else None
            key = f"{prefix}{file.filename}" if file else None
            size, sha256, found = _transfer(member, feed, limits, writer, key)
            if found:
                problems.extend(found)
                publish = publish and not has_errors(found)
            elif file and key:
                files.append(
                    StoredFile(
                        filename=file.filename,
                        original_path=file.path,
                        file_extension=extension_of(file.path),
                        s3_key=key,
                        size_bytes=size,
                        content_hash=sha256,
                    )
                )
            writer.check()
        feed.finish()
        writer.finish()
        return Extraction(tuple(files), tuple(problems), feed.sha256)


def _transfer(
    member: Member, feed: _Feed, limits: Limits, writer: _Writer, key: str | None
) -> tuple[int, str, tuple[Problem, ...]]:
    """Verify one member and, with a `key`, store it; return its size, SHA-256 and what is wrong."""
    raw = feed.until(member.end_offset)
    verified = MemberReader(member, raw, limits)
    sink = _Sink(writer, key) if key else None
    try:
        for chunk in verified:
            if sink:
                sink.write(chunk)
    except BaseException:
        if sink:
            sink.discard()
        raise
    for _rest in raw:  # a member that is broken stops being read early; the next one starts at its own offset
        pass
    if sink and not verified.problems:
        sink.publish(verified.sha256)
    elif sink:
        sink.discard()
    return verified.size, verified.sha256, verified.problems


class _Feed:
    """The archive's bytes in order, one ranged GET ahead of the reader and hashed as they pass."""

    def __init__(self, reader: ObjectReader, beat: Callable[[], None]) -> None:
        self._reader = reader
        self._beat = beat
        self._digest = hashlib.sha256()
        self._position = 0  # of the next byte to hand out
        self._requested = 0  # end of the newest block that was asked for
        self._block = memoryview(b"")
        self._ahead: Future[bytes] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")

    def __enter__(self) -> _Feed:
        self._request()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    @property
    def sha256(self) -> str:
        """The hex digest of all bytes handed out so far."""
        return self._digest.hexdigest()

    def until(self, end: int) -> Iterator[memoryview]:
        """Yield the bytes from the present position up to the offset `end`."""
        while self._position < end:
            if not self._block:
                self._next()
            piece = self._block[: end - self._position]
            self._block = self._block[len(piece) :]
            self._position += len(piece)
            yield piece

    def finish(self) -> None:
        """Read (and hash) what is left of the archive."""
        for _piece in self.until(self._reader.size):
            pass

    def _request(self) -> None:
        start, size = self._requested, self._reader.size
        if start >= size:
            self._ahead = None
            return
        # The tail is in memory since the object was opened, so no block may reach across its start.
        limit = self._reader.tail_offset if start < self._reader.tail_offset else size
        self._requested = min(start + _BLOCK_BYTES, limit)
        self._ahead = self._thread.submit(self._reader.read_at, start, self._requested - start)

    def _next(self) -> None:
        self._beat()
        if self._ahead is None:
            raise EOFError("read past the end of the archive")
        data = self._ahead.result()
        self._request()
        self._digest.update(data)
        self._block = memoryview(data)


class _Writer:
    """PUTs on a few threads, bounded by the bytes that wait rather than by the number of tasks."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._threads = ThreadPoolExecutor(max_workers=_PUT_THREADS, thread_name_prefix="put")
        self._room = _BYTES_IN_FLIGHT
        self._changed = threading.Condition()
        self._puts: set[Future[None]] = set()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def put(self, key: str, data: bytes, sha256: str) -> None:
        """Queue one PUT; waits while too many bytes are in flight."""
        with self._changed:
            self._changed.wait_for(lambda: self._room >= len(data))
            self._room -= len(data)
        self._puts.add(self._threads.submit(self._put, key, data, sha256))

    def _put(self, key: str, data: bytes, sha256: str) -> None:
        try:
            self.storage.put_file(key, data, sha256)
        finally:
            with self._changed:
                self._room += len(data)
                self._changed.notify()

    def check(self) -> None:
        """Raise what a finished PUT raised."""
        done = {put for put in self._puts if put.done()}
        self._puts -= done
        for put in done:
            put.result()

    def finish(self) -> None:
        """Wait for all PUTs; raise what the first that failed raised."""
        wait(self._puts, return_when=FIRST_EXCEPTION)
        for put in self._puts:
            if put.done():
                put.result()


@dataclass(slots=True)
class _Sink:
    """Collects one member: a small one for a single PUT, a large one as parts."""

    writer: _Writer
    key: str
    _chunks: list[bytes] = field(default_factory=list)
    _buffered: int = 0
    _parts: PartsUpload | None = None

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._buffered += len(chunk)
        if self._buffered > PART_BYTES:
            if self._parts is None:
                self._parts = self.writer.storage.start_file(self.key)
            self._send_part(self._parts)

    def publish(self, sha256: str) -> None:
        if self._parts is None:
            self.writer.put(self.key, b"".join(self._chunks), sha256)
            return
        try:
            if self._buffered:
                self._send_part(self._parts)
            self._parts.complete()
        except BaseException:
            self._parts.abort()
            raise

    def discard(self) -> None:
        if self._parts is not None:
            self._parts.abort()

    def _send_part(self, parts: PartsUpload) -> None:
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        parts.write(data, hashlib.sha256(data).hexdigest())
