"""Reads what a package's files say while they pass on their way to the store: nothing is downloaded again.

Whatever a parser does, it cannot fail a package: it gets a bounded number of bytes and of facts, and what it
raises becomes a notice.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from veripost.errors import Problem, ProblemCode, Severity
from veripost.fingerprints import fingerprint
from veripost.platforms import registry
from veripost.platforms.facts import FileFacts, PackageFacts, Parser
from veripost.platforms.registry import Platform
from veripost.platforms.rules import Selected, extension_of
from veripost.queries import Contents, FileContents
from veripost.telemetry import logger

# The largest source seen has some 200 KB and 750 sections: two hundred such posts in one package are read
# whole, and ten of them are kept whole. Parsers read some 35 MB/s while they keep others from Python, and a
# fact takes some 300 bytes here and 40 µs of the database.
MOST_FILE_BYTES: Final = 32 << 20
MOST_PACKAGE_BYTES: Final = 64 << 20
MOST_FACTS: Final = 50_000
# What is at hand whole waits until nothing else is under way: threads that PUT and a parser keep each other
# from Python, which doubles the CPU that reading takes. Most packages are below this as a whole.
HELD_BYTES: Final = 8 << 20
_CHUNK_BYTES: Final = 64 << 10  # what parsers and places to read again from are made for

# Now, so that a function's snapshot holds the parsers and no package waits for them.
for _platform in registry.PLATFORMS.values():
    _platform.load_reader()


class PackageReader:
    """Reads the files of one package, on any number of threads, and then says what they mean together."""

    def __init__(self, platform: Platform, files: Sequence[Selected], sizes: Sequence[int]) -> None:
        """`sizes` are the bytes of `files`: which of them are read is decided now, whichever comes first."""
        self._reader = platform.load_reader()
        self._files = files
        self._allowed = _shares(files, sizes, self._reader.parsers)
        self._facts: dict[int, FileFacts] = {}
        self._seeks: dict[int, Sequence[tuple[int, int]]] = {}
        self._problems: dict[int, Problem] = {}
        self._room = MOST_FACTS
        self._held: dict[int, bytes | bytearray] = {}
        self._may_hold = HELD_BYTES
        self._lock = threading.Lock()

    def take(self, file: Selected, content: bytes | bytearray) -> None:
        """Read a file that is at hand whole, now or in `conclude`."""
        if extension_of(file.path) not in self._reader.parsers:
            return
        with self._lock:
            holds = len(content) <= self._may_hold
            if holds:
                self._may_hold -= len(content)
        if holds:
            self._held[file.index] = content
        else:
            self.read(file, _chunks(content))

    def read(self, file: Selected, chunks: Iterable[bytes]) -> None:
        """Take from `chunks` what is to be read of `file`, which may be nothing, and remember what it says.

        Raises only what `chunks` raises.
        """
        parser = self._reader.parsers.get(extension_of(file.path))
        if parser is None:
            return
        passing = _Passing(chunks, self._allowed[file.index])
        with self._lock:
            room = self._room
        try:
            facts = parser(passing, room)
        except Exception:
            if passing.failed:
                raise
            logger.exception("a parser failed", extra={"member": file.path})
            self._problems[file.index] = _not_read(file.path)
            return
        with self._lock:
            self._room = max(0, self._room - facts.facts)
        if passing.cut or not facts.complete:
            self._problems[file.index] = _partly_read(file.path, passing)
        self._facts[file.index] = facts
        self._seeks[file.index] = passing.seeks

    def conclude(self) -> tuple[Contents, list[Problem]]:
        """Read what waits, and return what is to be stored of all that was read, and the notices."""
        for file in self._files:
            content = self._held.pop(file.index, None)
            if content is not None:
                self.read(file, _chunks(content))
        read = {file.path: self._facts[file.index] for file in self._files if file.index in self._facts}
        problems = [self._problems[index] for index in sorted(self._problems)]
        try:
            found = self._reader.conclude([file.path for file in self._files], read)
        except Exception:
            logger.exception("concluding from what was read failed")
            problems.append(_not_read(None))
            found = PackageFacts(section_count=sum(facts.section_count for facts in read.values()))
        contents = Contents(
            files=tuple(
                FileContents(file.filename, self._facts[file.index], self._seeks[file.index])
                for file in self._files
                if file.index in self._facts
            ),
            machine_type=found.machine_type,
            controller_type=found.controller_type,
            section_count=found.section_count,
            fingerprint=fingerprint(section for facts in read.values() for section in facts.sections),
        )
        return contents, [*problems, *found.notices]


def _chunks(content: bytes | bytearray) -> Iterator[bytes]:
    for start in range(0, len(content), _CHUNK_BYTES):
        yield bytes(content[start : start + _CHUNK_BYTES])


def _shares(
    files: Sequence[Selected], sizes: Sequence[int], parsers: Mapping[str, Parser]
) -> Mapping[int, int]:
    """Return how many bytes of each file may be read, by its index."""
    left = MOST_PACKAGE_BYTES
    shares = {}
    for file, size in zip(files, sizes, strict=True):
        if extension_of(file.path) in parsers:
            shares[file.index] = min(size, MOST_FILE_BYTES, left)
            left -= shares[file.index]
    return shares


class _Passing:
    """Chunks of a file on their way into a parser: bounded, and with their lines counted.

    `seeks` are places from which the file can be read again: (line, offset in bytes of its beginning),
    ascending, about one for each chunk. `cut`: there was more than is allowed. `failed`: the source of the
    chunks raised, not the parser.
    """

    def __init__(self, chunks: Iterable[bytes], allowed: int) -> None:
        self.cut = self.failed = False
        self.seeks = [(1, 0)]
        self._chunks = iter(chunks)
        self._left = allowed
        self._has_seeks = True  # UTF-16 can only be read from its mark on
        self._line, self._offset, self._after_cr = 1, 0, False  # where the next chunk to be counted begins

    def __iter__(self) -> Iterator[bytes]:
        previous: bytes | None = None
        while not self.cut:
            try:
                chunk = next(self._chunks, None)
            except BaseException:
                self.failed = True
                raise
            if chunk is None:
                return
            if len(chunk) > self._left:
                self.cut = True
                chunk = chunk[: self._left]
            if previous is None:
                self._has_seeks = not chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            elif self._has_seeks:  # the last chunk needs no counting, and most files are one
                self._count(previous)
            previous = chunk
            self._left -= len(chunk)
            yield chunk

    def _count(self, chunk: bytes) -> None:
        """Note where the last line in `chunk` begins. CRLF, LF and CR end a line, mixed as they come."""
        if self._after_cr and chunk.startswith(b"\n"):
            self._line -= 1  # the second half of an end that was counted
        begin = (chunk.rfind(b"\n") if b"\n" in chunk else chunk.rfind(b"\r", 0, -1)) + 1
        if begin:
            self._line += _line_ends(chunk, 0, begin)
            self.seeks.append((self._line, self._offset + begin))
        self._line += _line_ends(chunk, begin, len(chunk))
        self._offset += len(chunk)
        self._after_cr = chunk.endswith(b"\r")


def _line_ends(chunk: bytes, start: int, end: int) -> int:
    crlf = chunk.count(b"\r\n", start, end)
    return chunk.count(b"\n", start, end) + chunk.count(b"\r", start, end) - crlf


def _not_read(path: str | None) -> Problem:
    return Problem(
        ProblemCode.NOT_READ,
        Severity.NOTICE,
        path,
        f"VeriPost could not read what “{path}” says; it is stored as it is."
        if path
        else "VeriPost could not tell what the files say together; they are stored as they are.",
        detail="a mistake of ours, which is in the log",
        hint="Replay the package after the next update of VeriPost.",
    )


def _partly_read(path: str, passing: _Passing) -> Problem:
    bound = (
        f"{MOST_FILE_BYTES >> 20} MiB of a file and {MOST_PACKAGE_BYTES >> 20} MiB of a package are read"
        if passing.cut
        else f"{MOST_FACTS:,} facts of a package are kept"
    )
    return Problem(
        ProblemCode.PARTLY_READ,
        Severity.NOTICE,
        path,
        f"“{path}” holds more than VeriPost reads; the rest is stored, but cannot be searched.",
        detail=bound,
        hint="No real post processor is that large: check what the file is.",
    )
