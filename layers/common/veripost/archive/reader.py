"""Reads and verifies one member: its local header, data and data descriptor against the directory.

Section numbers are those of APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from veripost.archive import inflate
from veripost.archive.entries import Member, content_problems
from veripost.archive.findings import finding
from veripost.archive.limits import Limits
from veripost.archive.names import UnicodePathConflictError, unicode_path
from veripost.archive.records import (
    DESCRIPTOR_FLAG,
    DESCRIPTOR_SHAPES,
    DESCRIPTOR_SIGNATURE,
    LOCAL_HEADER,
    LOCAL_SIGNATURE,
    MAX_32,
    SIGNATURES,
    SIGNED_DESCRIPTORS,
    STORED,
    UNICODE_PATH_EXTRA,
    ZIP64_EXTRA,
    RecordError,
    is_foreign_extra,
    parse_extra,
    parse_zip64_extra,
    repeated,
)
from veripost.errors import Problem, ProblemCode

# Outputs of this size scale over threads; larger ones meet malloc's threshold for fresh mappings.
CHUNK_BYTES: Final = 64 * 1024
_NAME_AT: Final = LOCAL_HEADER.size


class MemberReader:
    """Verifies one member while handing out its content.

    `raw` gives the bytes of the member's span `[header_offset, end_offset)` in order, in pieces of any
    size. Iterate once: chunks of at most 64 KiB come out, and nothing that came out may be published
    before `problems` is empty. The reader stops taking from `raw` as soon as the content cannot be read
    on; what is left is not consumed. Hostile bytes never raise. A `raw` that is shorter than the span is
    the source's failure, not the archive's: EOFError.
    """

    __slots__ = ("_hash", "_limits", "_problems", "_raw", "member", "size")

    def __init__(self, member: Member, raw: Iterable[bytes | memoryview], limits: Limits) -> None:
        self.member = member
        self.size = 0
        self._raw = raw
        self._limits = limits
        self._hash = ""
        self._problems: tuple[Problem, ...] | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong with the member; empty: verified. RuntimeError before the last chunk."""
        if self._problems is None:
            raise RuntimeError("a member has no verdict before its last chunk was taken")
        return self._problems

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the verified content in hex; empty when it is not verified."""
        return self._hash

    def __iter__(self) -> Iterator[bytes]:
        """Yield the content in chunks of at most 64 KiB; afterwards the verdict stands."""
        pieces = iter(self._raw)
        first = next(pieces, b"")
        member = self.member
        if len(first) == member.end_offset - member.header_offset and member.size <= CHUNK_BYTES:
            content = self._read_at_once(first)
            if content is not None:
                if content:
                    yield content
                return
        yield from self._read_in_steps(_Feed(first, pieces))

    def _read_at_once(self, span: bytes | memoryview) -> bytes | None:
        """Return the content of a small member that is in perfect order, with the verdict set.

        None for anything unusual: `_read_in_steps` then says what it is. Nothing is accepted here that
        would not be there.
        """
        member = self.member
        signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = (
            LOCAL_HEADER.unpack_from(span)
        )
        extra_at = _NAME_AT + name_length
        start = extra_at + extra_length
        if (
            flags & DESCRIPTOR_FLAG
            or signature != LOCAL_SIGNATURE
            or flags != member.flags
            or method != member.method
            or crc != member.crc32
            or packed != member.compressed_size
            or size != member.size
            or start + packed != len(span)
            or span[_NAME_AT:extra_at] != member.raw_name
            or (extra_length and not is_foreign_extra(bytes(span[extra_at:start])))
            or content_problems(member, self._limits)
        ):
            return None
        content = bytes(span[start:]) if method == STORED else _inflate_at_once(span[start:], size)
        if content is None or len(content) != size or inflate.crc32(content, 0) != crc:
            return None
        self.size = size
        self._hash = hashlib.sha256(content).hexdigest()
        self._problems = ()
        return content

    def _read_in_steps(self, feed: _Feed) -> Iterator[bytes]:
        member = self.member
        found: list[Problem] = []
        trailing = _check_header(member, feed, found)
        refused = content_problems(member, self._limits)
        found.extend(refused)
        if trailing is not None and not refused:
            content = _Content(member, feed)
            for chunk in content:
                self.size += len(chunk)
                yield chunk
            found.extend(content.problems)
            if not content.stopped:
                found.extend(_trailing_problems(member, feed.take(trailing)))
            if not found:
                self._hash = content.sha256()
        self._problems = tuple(found)


def _inflate_at_once(packed: bytes | memoryview, size: int) -> bytes | None:
    """Return what `packed` unpacks to, at most one byte more than `size`; None if it is not one stream."""
    decoder = inflate.new_inflater()
    try:
        content = decoder.decompress(packed, size + 1)
    except inflate.CORRUPT_STREAM:
        return None
    return content if decoder.eof and not decoder.unused_data else None


class _Feed:
    """The span's bytes, taken in order in the sizes that the format has."""

    __slots__ = ("_pieces", "_rest")

    def __init__(self, first: bytes | memoryview, pieces: Iterator[bytes | memoryview]) -> None:
        self._rest = memoryview(first)
        self._pieces = pieces

    def _piece(self, at_most: int) -> memoryview:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._pieces))
            except StopIteration:
                raise EOFError("the source gave fewer bytes than the member's span has") from None
        piece = self._rest[:at_most]
        self._rest = self._rest[at_most:]
        return piece

    def take(self, length: int) -> bytes:
        """Return exactly `length` bytes."""
        taken = bytearray()
        while len(taken) < length:
            taken += self._piece(length - len(taken))
        return bytes(taken)

    def pieces(self, length: int) -> Iterator[memoryview]:
        """Yield the next `length` bytes in pieces of at most 64 KiB."""
        while length:
            piece = self._piece(min(length, CHUNK_BYTES))
            length -= len(piece)
            yield piece


class _Content:
    """A member's data (4.3.8): unpacked, counted and summed up, never beyond its declared size."""

    __slots__ = ("_crc", "_feed", "_hash", "_member", "_size", "problems", "stopped")

    def __init__(self, member: Member, feed: _Feed) -> None:
        self._member = member
        self._feed = feed
        self._hash = hashlib.sha256()
        self._crc = 0
        self._size = 0
        self.problems: list[Problem] = []
        self.stopped = False

    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        member = self._member
        chunks = self._stored() if member.method == STORED else self._inflated()
        crc32, update = inflate.crc32, self._hash.update
        for chunk in chunks:
            self._crc = crc32(chunk, self._crc)
            update(chunk)
            yield chunk
        if self.stopped:
            return
        if self._size < member.size:
            self._add(
                ProblemCode.SHORTER_THAN_DECLARED,
                f"4.4.9: {member.size} bytes declared, the content has {self._size}",
            )
        if self._crc != member.crc32:
            self._add(
                ProblemCode.CRC_MISMATCH,
                f"4.4.7: CRC {member.crc32:08x} declared, the content has {self._crc:08x}",
            )

    def _add(self, code: ProblemCode, detail: str) -> None:
        where = f"data of the entry at {self._member.header_offset}"
        self.problems.append(finding(code, f"{detail}; {where}", member=self._member.name))

    def _stored(self) -> Iterator[bytes]:
        member = self._member
        search = member.has_descriptor
        seam = b""
        for piece in self._feed.pieces(member.size):
            chunk = bytes(piece)
            if search:
                # 4.4.4 bit 3 with method 0: a reader without the directory finds the end by signature.
                text = seam + chunk
                found = [at for signature in SIGNATURES if (at := text.find(signature)) >= 0]
                if found:
                    self._add(
                        ProblemCode.DESCRIPTOR_AMBIGUOUS,
                        "4.3.9.3: stored data that a descriptor ends holds a signature, "
                        f"at its byte {self._size - len(seam) + min(found)}",
                    )
                    search = False
                seam = chunk[-3:] if len(chunk) >= 3 else text[-3:]
            self._size += len(chunk)
            yield chunk

    def _inflated(self) -> Iterator[bytes]:
        member = self._member
        decoder = inflate.new_inflater()
        # Room for one byte too many: the only way to see that a stream does not end where it should.
        room = member.size + 1
        left = member.compressed_size
        try:
            for piece in self._feed.pieces(member.compressed_size):
                if decoder.eof:
                    continue  # what follows the data must still be found in its place
                left -= len(piece)
                chunk = decoder.decompress(piece, min(CHUNK_BYTES, room))
                while chunk:
                    room -= len(chunk)
                    if room == 0:
                        self._stop(
                            ProblemCode.LONGER_THAN_DECLARED,
                            f"4.4.9: {member.size} bytes declared, the stream goes on",
                        )
                        return
                    self._size += len(chunk)
                    yield chunk
                    if decoder.eof or decoder.needs_input:
                        break
                    chunk = decoder.decompress(b"", min(CHUNK_BYTES, room))
        except inflate.CORRUPT_STREAM as error:
            self._stop(ProblemCode.DEFLATE_CORRUPT, f"4.4.5: {error}")
            return
        if not decoder.eof:
            self._stop(
                ProblemCode.DEFLATE_TRUNCATED,
                f"4.4.8: {member.compressed_size} bytes end within the deflate stream, "
                f"after {self._size} bytes of output",
            )
        elif left or decoder.unused_data:
            self._add(
                ProblemCode.DATA_AFTER_STREAM,
                f"4.3.8: {left + len(decoder.unused_data)} bytes behind the end of the deflate stream",
            )

    def _stop(self, code: ProblemCode, detail: str) -> None:
        self._add(code, detail)
        self.stopped = True


# -- what stands around the data


def _check_header(member: Member, feed: _Feed, found: list[Problem]) -> int | None:
    """Compare the local header (4.3.7) with the directory, leaving `feed` at the data.

    Returns the number of bytes behind the data; None where the header cannot be relied on.
    """

    def add(code: ProblemCode, detail: str) -> None:
        found.append(finding(code, f"{detail}; local header at {member.header_offset}", member=member.name))

    span = member.end_offset - member.header_offset
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = LOCAL_HEADER.unpack(
        feed.take(_NAME_AT)
    )
    if signature != LOCAL_SIGNATURE:
        add(ProblemCode.LOCAL_HEADER_MISSING, f"4.3.7: {signature!r} instead of {LOCAL_SIGNATURE!r}")
        return None
    trailing: int = span - _NAME_AT - name_length - extra_length - member.compressed_size
    if trailing < 0:
        add(
            ProblemCode.LOCAL_HEADER_OVERRUN,
            f"4.3.7: a name of {name_length}, an extra field of {extra_length} and data of "
            f"{member.compressed_size} bytes in a place of {span}",
        )
        return None
    raw_name, extra = feed.take(name_length), feed.take(extra_length)
    if raw_name != member.raw_name:
        add(ProblemCode.LOCAL_NAME_MISMATCH, f"4.4.17: directory {member.raw_name!r}, local {raw_name!r}")
    if method != member.method:
        add(ProblemCode.LOCAL_METHOD_MISMATCH, f"4.4.5: directory {member.method}, local {method}")
    if flags != member.flags:
        add(ProblemCode.LOCAL_FLAGS_MISMATCH, f"4.4.4: directory 0x{member.flags:04x}, local 0x{flags:04x}")
    # 4.4.4 bit 3: CRC and sizes are zero, and follow the data; some writers fill them in all the same.
    if crc != member.crc32 and not (member.has_descriptor and crc == 0):
        add(ProblemCode.LOCAL_CRC_MISMATCH, f"4.4.7: directory {member.crc32:08x}, local {crc:08x}")
    _check_extra(member, raw_name, extra, (size, packed), add)
    return trailing


def _check_extra(
    member: Member,
    raw_name: bytes,
    extra: bytes,
    sizes: tuple[int, int],
    add: Callable[[ProblemCode, str], None],
) -> None:
    """Check the local extra field (4.5), and the plain and compressed size, which it may hold (4.5.3)."""
    try:
        fields = parse_extra(extra)
    except RecordError as error:
        add(ProblemCode.EXTRA_MALFORMED, f"4.5.1: {error}")
        fields = []
    for identifier in repeated(fields):
        add(ProblemCode.EXTRA_DUPLICATE, f"4.5.1: extra field 0x{identifier:04x} twice")
    values = dict(reversed(fields))
    if ZIP64_EXTRA in values:
        try:
            # 4.5.3: in a local header it holds both sizes.
            large = parse_zip64_extra(values[ZIP64_EXTRA], size=True, compressed_size=True)
        except RecordError as error:
            add(ProblemCode.ZIP64_EXTRA_INVALID, f"4.5.3: {error}")
        else:
            _check_sizes(member, (large[0], large[1]), add)
            # A size at its maximum only points to the ZIP64 field; any other must be right by itself.
            sizes = (
                member.size if sizes[0] == MAX_32 else sizes[0],
                member.compressed_size if sizes[1] == MAX_32 else sizes[1],
            )
    _check_sizes(member, sizes, add)
    if UNICODE_PATH_EXTRA in values and raw_name == member.raw_name:
        try:
            path = unicode_path(raw_name, member.flags, values[UNICODE_PATH_EXTRA])
        except RecordError as error:
            add(ProblemCode.UNICODE_PATH_INVALID, f"4.6.9: {error}")
        except UnicodePathConflictError as error:
            add(ProblemCode.UNICODE_PATH_CONFLICT, f"4.6.9: {error}")
        else:
            if path != member.name:
                add(ProblemCode.UNICODE_PATH_CONFLICT, f"4.6.9: directory {member.name!r}, local {path!r}")


def _check_sizes(
    member: Member, sizes: tuple[int | None, int | None], add: Callable[[ProblemCode, str], None]
) -> None:
    for claimed, declared in zip(sizes, (member.size, member.compressed_size), strict=True):
        if claimed != declared and not (member.has_descriptor and claimed == 0):
            add(
                ProblemCode.LOCAL_SIZE_MISMATCH,
                f"4.4.8, 4.4.9: directory {member.size} plain and {member.compressed_size} compressed, "
                f"local {sizes[0]} and {sizes[1]}",
            )
            return


def _trailing_problems(member: Member, trailing: bytes) -> Iterator[Problem]:
    """Check what follows the data: the data descriptor (4.3.9) if there is to be one, and nothing else."""
    where = f"{len(trailing)} bytes behind the data of the entry at {member.header_offset}"
    if not member.has_descriptor:
        if trailing:
            yield finding(ProblemCode.UNCLAIMED_BYTES, f"4.3.6: {where}", member=member.name)
        return
    shape = DESCRIPTOR_SHAPES.get(len(trailing))
    if shape is None:
        code = (
            ProblemCode.UNCLAIMED_BYTES
            if len(trailing) > min(DESCRIPTOR_SHAPES)
            else ProblemCode.DESCRIPTOR_MISSING
        )
        yield finding(code, f"4.3.9: {where}, a descriptor has 12, 16, 20 or 24", member=member.name)
        return
    values = shape.unpack(trailing)
    declared = (member.crc32, member.compressed_size, member.size)
    signed = len(trailing) not in SIGNED_DESCRIPTORS or trailing.startswith(DESCRIPTOR_SIGNATURE)
    if values != declared or not signed:
        yield finding(
            ProblemCode.DESCRIPTOR_MISMATCH,
            f"4.3.9: directory CRC {declared[0]:08x}, {declared[1]} compressed, {declared[2]} plain; "
            f"{where}: {trailing.hex(' ')}",
            member=member.name,
        )
