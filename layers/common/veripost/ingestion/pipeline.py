"""Moves the bytes of one archive: read ahead → verify → PUT, each on threads of its own, in constant memory.

    reading    this thread: ranged GETs, a few ahead, and the archive's own SHA-256 in passing
    verifying  one thread a CPU: inflates and checks members, in batches of neighbours, and parses those that
               are too large to be held until all is stored
    writing    up to 32 threads: PUTs of verified members, bounded by the bytes that wait, not by their number

No unverified member is ever an object: small members are verified whole before their PUT starts, large ones
travel as parts of a multipart upload that is completed only after the verdict. A refusal stops all writing,
but every remaining member is still verified so that the report is complete; a failure of ours stops it all.
Cleaning up after either is the caller's business.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from queue import Queue, SimpleQueue

from veripost.archive import CHUNK_BYTES, Directory, Limits, Member, MemberReader
from veripost.errors import Problem, Unavailable, has_errors
from veripost.ingestion.parsing import PackageReader
from veripost.platforms.rules import Selected, extension_of
from veripost.queries import StoredFile
from veripost.storage import SINGLE_PUT_BYTES, ObjectReader, PartsUpload, Storage

_BLOCK_BYTES = 1 << 20  # one ranged GET
_BLOCKS_AHEAD = 6  # GETs under way: S3 takes its time to begin each answer, and each holds its memory
_BATCH_MEMBERS = 16  # what one verifying thread takes at a time
# Threads cost CPU where the store answers at once, and are the only cure where it does not: start with few,
# and take more while PUTs are slow.
_PUT_THREADS_FIRST = 8
_PUT_THREADS_MOST = 32
_SLOW_PUT_SECONDS = 0.01
_BYTES_IN_FLIGHT = 16 << 20  # verified bytes that wait for their PUT, all threads together


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came out of an archive. `files` is complete only if `problems` holds no error."""

    files: tuple[StoredFile, ...]
    problems: tuple[Problem, ...]
    content_hash: str | None  # None: reading stopped early


class OutOfTime(Unavailable):
    """The function is about to be cut off; the job goes back while there is time to say so."""

    code = "out_of_time"
    message = "There was not enough time to finish this package; it will be tried again."


def extract(
    reader: ObjectReader,
    directory: Directory,
    selected: Sequence[Selected],
    *,
    prefix: str,
    storage: Storage,
    limits: Limits,
    cpu_workers: int,
    publish: bool,
    contents: PackageReader,
    check: Callable[[], None],
    note_stored: Callable[[int], None] = lambda _size: None,
) -> Extraction:
    """Verify every member of `directory`; while `publish` holds, store the `selected` ones below `prefix`.

    What is stored is also given to `contents`, whose word counts only if `problems` holds no error.
    `check` is called for each MiB that is read and each second of waiting; whatever it raises stops the work.
    `note_stored` is called with the size of each file that became an object, on the thread that stored it.
    When this function returns or raises, no thread and no PUT of its own is still under way.
    """
    blocks = _blocks(directory.members)
    rest = [(directory.directory_offset, reader.size)]
    ranges = [
        piece for start, end in [*((b.start, b.end) for b in blocks), *rest] for piece in _cut(start, end)
    ]
    writer = _Writer(storage, note_stored)
    verifier = _Verifier(
        storage,
        writer,
        selected,
        prefix=prefix,
        limits=limits,
        publish=publish,
        contents=contents,
        note_stored=note_stored,
    )
    workers = _Workers(verifier.verify, cpu_workers)

    def go_on() -> None:
        check()
        writer.raise_failure()
        workers.raise_failure()

    try:
        with writer, _ReadAhead(reader, ranges, go_on) as feed, workers:
            for block in blocks:
                _hand_out(block, feed, workers)
            feed.finish()
            workers.finish(go_on)
            writer.finish(go_on)
            return verifier.extraction(feed.sha256)
    except OutOfTime:
        # A package that is refused anyhow is refused now, with what was found so far: another attempt would
        # run out of time as well, and its sender would never see the reasons.
        if verifier.publishing:
            raise
        return verifier.extraction(None)


# -- reading


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbouring members that one ranged GET brings, or one member that takes several."""

    members: Sequence[Member]

    @property
    def start(self) -> int:
        return self.members[0].header_offset

    @property
    def end(self) -> int:
        return self.members[-1].end_offset


def _blocks(members: Sequence[Member]) -> list[_Block]:
    """Cut `members`, whose spans follow each other, into blocks of 1 MiB or of one larger member."""
    blocks: list[_Block] = []
    first = 0
    for position, member in enumerate(members):
        if position > first and member.end_offset - members[first].header_offset > _BLOCK_BYTES:
            blocks.append(_Block(members[first:position]))
            first = position
    if members:
        blocks.append(_Block(members[first:]))
    return blocks


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield `[start, end)` in pieces that one GET brings."""
    for offset in range(start, end, _BLOCK_BYTES):
        yield offset, min(offset + _BLOCK_BYTES, end)


class _ReadAhead:
    """The bytes of `ranges` in order, requested before they are needed and hashed as they pass."""

    def __init__(
        self, reader: ObjectReader, ranges: Sequence[tuple[int, int]], go_on: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._go_on = go_on
        self._ranges = iter(ranges)
        self._digest = hashlib.sha256()
        self._threads = ThreadPoolExecutor(max_workers=_BLOCKS_AHEAD, thread_name_prefix="read-ahead")
        self._coming: deque[Future[bytes]] = deque()

    def __enter__(self) -> _ReadAhead:
        for _ in range(_BLOCKS_AHEAD):
            self._request()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    @property
    def sha256(self) -> str:
        """The hex digest of all bytes taken so far."""
        return self._digest.hexdigest()

    def take(self) -> bytes:
        """Return the bytes of the next range. Raises what reading them, or any other thread, raised."""
        self._go_on()
        piece = self._coming.popleft().result()
        self._request()
        self._digest.update(piece)
        return piece

    def finish(self) -> None:
        """Read (and hash) what is left."""
        while self._coming:
            self.take()

    def _request(self) -> None:
        following = next(self._ranges, None)
        if following is not None:
            start, end = following
            self._coming.append(self._threads.submit(self._reader.read_at, start, end - start))


# -- verifying


@dataclass(frozen=True, slots=True)
class _Batch:
    """Neighbouring members and their bytes, which are here."""

    members: Sequence[Member]
    data: memoryview
    offset: int  # of the first byte of `data` in the archive

    def spans(self) -> Iterator[tuple[Member, Iterator[bytes | memoryview]]]:
        for member in self.members:
            span = self.data[member.header_offset - self.offset : member.end_offset - self.offset]
            yield member, iter((span,))


@dataclass(slots=True)
class _Stream:
    """One large member, whose bytes arrive piece by piece; None ends them, once."""

    member: Member
    pieces: Queue[bytes | None] = field(default_factory=partial(Queue, maxsize=2))

    ended: bool = False

    def spans(self) -> Iterator[tuple[Member, Iterator[bytes | memoryview]]]:
        yield self.member, self.drain()

    def drain(self) -> Iterator[bytes | memoryview]:
        """Yield what is still to come; nothing, however often it is called, after the end."""
        while not self.ended:
            piece = self.pieces.get()
            if piece is None:
                self.ended = True
            else:
                yield piece


def _hand_out(block: _Block, feed: _ReadAhead, workers: _Workers) -> None:
    pieces = len(range(block.start, block.end, _BLOCK_BYTES))
    if pieces == 1:
        data = memoryview(feed.take())
        for batch in batched(block.members, _BATCH_MEMBERS, strict=False):
            workers.put(_Batch(batch, data, block.start))
        return
    stream = _Stream(block.members[0])
    workers.put(stream)
    try:
        for _ in range(pieces):
            stream.pieces.put(feed.take())
    finally:
        stream.pieces.put(None)


class _Workers:
    """The verifying threads. After a failure they take what is handed to them and do nothing with it."""

    def __init__(self, verify: Callable[[_Batch | _Stream], None], count: int) -> None:
        self._verify = verify
        self._work: Queue[_Batch | _Stream | None] = Queue(maxsize=2 * count)
        self._failure: BaseException | None = None
        self._sent_home = False
        self._threads = [threading.Thread(target=self._run, name=f"verify-{n}") for n in range(count)]

    def __enter__(self) -> _Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and self._failure is None:
            self._failure = error
        self._send_home()
        for thread in self._threads:
            thread.join()

    def put(self, task: _Batch | _Stream) -> None:
        """Hand a task out; waits while the threads have enough."""
        self._work.put(task)

    def raise_failure(self) -> None:
        """Raise what a thread raised."""
        if self._failure is not None:
            raise self._failure

    def finish(self, go_on: Callable[[], None]) -> None:
        """Wait for all tasks; raise what a thread or `go_on` raised."""
        self._send_home()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(timeout=1)
                go_on()
        go_on()

    def _send_home(self) -> None:
        if not self._sent_home:
            self._sent_home = True
            for _thread in self._threads:
                self._work.put(None)

    def _run(self) -> None:
        while (task := self._work.get()) is not None:
            try:
                if self._failure is None:
                    self._verify(task)
            except BaseException as error:
                self._failure = error  # carried to the thread that waits for us
            if isinstance(task, _Stream):
                for _rest in task.drain():
                    pass


class _Verifier:
    """Verifies members, hands what is to be kept to the writer, and remembers what it found."""

    def __init__(
        self,
        storage: Storage,
        writer: _Writer,
        selected: Sequence[Selected],
        *,
        prefix: str,
        limits: Limits,
        publish: bool,
        note_stored: Callable[[int], None],
        contents: PackageReader,
    ) -> None:
        self._contents = contents
        self._storage = storage
        self._note_stored = note_stored
        self._writer = writer
        self._selected = {file.index: file for file in selected}
        self._prefix = prefix
        self._limits = limits
        self._publish = publish
        self._files: dict[int, StoredFile] = {}
        self._problems: dict[int, tuple[Problem, ...]] = {}

    def verify(self, task: _Batch | _Stream) -> None:
        """Verify every member of `task`."""
        for member, raw in task.spans():
            file = self._selected.get(member.index) if self._publish else None
            verified = MemberReader(member, raw, self._limits)
            if file is None:
                for _chunk in verified:
                    pass
            else:
                self._store(file, verified, f"{self._prefix}{file.filename}")
            if verified.problems:
                self._problems[member.index] = verified.problems
                self._publish = self._publish and not has_errors(verified.problems)

    @property
    def publishing(self) -> bool:
        """Tell whether nothing has been found yet that refuses the package."""
        return self._publish

    def extraction(self, content_hash: str | None) -> Extraction:
        """Return everything found, in the order of the archive."""
        files = tuple(self._files[index] for index in sorted(self._files))
        problems = tuple(problem for index in sorted(self._problems) for problem in self._problems[index])
        return Extraction(files, problems, content_hash)

    def _store(self, file: Selected, verified: MemberReader, key: str) -> None:
        if verified.member.size <= SINGLE_PUT_BYTES:
            content = _whole(verified)
            if verified.problems:
                return
            self._writer.put(key, content, verified.sha256)
            self._contents.take(file, content)
        else:
            parts = self._storage.start_file(key)
            passing = _writing(verified, parts)
            self._contents.read(file, passing)
            for _chunk in passing:
                pass
            if verified.problems:
                return  # never completed; whoever refuses the package aborts what was begun
            parts.complete()
            self._note_stored(verified.size)
        self._files[verified.member.index] = StoredFile(
            filename=file.filename,
            original_path=file.path,
            file_extension=extension_of(file.path),
            size_bytes=verified.size,
            content_hash=verified.sha256,
        )


def _whole(verified: MemberReader) -> bytes | bytearray:
    """Return a member's whole content; a large one is copied into place chunk by chunk, to be there once."""
    size = verified.member.size
    if size <= CHUNK_BYTES:
        return b"".join(verified)
    content = bytearray(size)
    filled = 0
    for chunk in verified:
        content[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return content


def _writing(verified: MemberReader, parts: PartsUpload) -> Iterator[bytes]:
    """Yield a member's chunks, each once it has been given to the upload."""
    for chunk in verified:
        parts.write(chunk)
        yield chunk


# -- writing


class _Writer:
    """Single PUTs on threads that are started as they are needed."""

    def __init__(self, storage: Storage, note_stored: Callable[[int], None]) -> None:
        self._storage = storage
        self._note_stored = note_stored
        self._waiting: SimpleQueue[tuple[str, bytes | bytearray, str] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._in_flight = 0  # bytes
        self._unfinished = 0  # PUTs
        self._short_of_room = False
        self._allowed = _PUT_THREADS_FIRST
        self._ending = False
        self._failure: BaseException | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and self._failure is None:
            self._failure = error  # what still waits is dropped
        with self._changed:
            self._ending = True
        for _thread in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def put(self, key: str, data: bytes | bytearray, sha256: str) -> None:
        """Queue one PUT; waits while too many bytes are in flight."""
        with self._changed:
            while self._in_flight and self._in_flight + len(data) > _BYTES_IN_FLIGHT:
                self._short_of_room = True
                self._changed.wait()
            self._in_flight += len(data)
            self._unfinished += 1
            self._take_threads()
        self._waiting.put((key, data, sha256))

    def _take_threads(self) -> None:
        """Start what may be started and has work; the caller holds the lock."""
        while not self._ending and len(self._threads) < min(self._unfinished, self._allowed):
            thread = threading.Thread(target=self._run, name=f"put-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()

    def raise_failure(self) -> None:
        """Raise what a PUT raised."""
        if self._failure is not None:
            raise self._failure

    def finish(self, go_on: Callable[[], None]) -> None:
        """Wait for all PUTs; raise what one of them or `go_on` raised."""
        with self._changed:
            while not self._changed.wait_for(lambda: not self._unfinished, timeout=1):
                go_on()
        go_on()

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            size = len(task[1])
            started = time.monotonic()
            try:
                if self._failure is None:
                    self._storage.put_file(*task)
                    self._note_stored(size)
            except BaseException as error:  # carried to the thread that waits for us
                self._failure = error
            del task  # and with it the bytes, before the next wait
            with self._changed:
                self._in_flight -= size
                self._unfinished -= 1
                if time.monotonic() - started > _SLOW_PUT_SECONDS and self._allowed < _PUT_THREADS_MOST:
                    self._allowed = min(self._allowed * 2, _PUT_THREADS_MOST)
                    self._take_threads()
                if self._short_of_room or not self._unfinished:
                    self._short_of_room = False
                    self._changed.notify_all()
