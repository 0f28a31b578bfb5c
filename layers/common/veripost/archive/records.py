"""The records of a ZIP archive, field by field: APPNOTE.TXT 6.3.10 without any policy.

Every number is little-endian (4.1). Nothing here decides whether an archive is acceptable; a record that
cannot be read at all is a RecordError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

LOCAL_SIGNATURE: Final = b"PK\x03\x04"  # 4.3.7
DESCRIPTOR_SIGNATURE: Final = b"PK\x07\x08"  # 4.3.9.3; also the marker of a split archive, 8.5.3
CENTRAL_SIGNATURE: Final = b"PK\x01\x02"  # 4.3.12
DIGITAL_SIGNATURE: Final = b"PK\x05\x05"  # 4.3.13
ZIP64_END_SIGNATURE: Final = b"PK\x06\x06"  # 4.3.14
ZIP64_LOCATOR_SIGNATURE: Final = b"PK\x06\x07"  # 4.3.15
END_SIGNATURE: Final = b"PK\x05\x06"  # 4.3.16
EXTRA_DATA_SIGNATURE: Final = b"PK\x06\x08"  # 4.3.11
SIGNATURES: Final = (
    LOCAL_SIGNATURE,
    DESCRIPTOR_SIGNATURE,
    CENTRAL_SIGNATURE,
    DIGITAL_SIGNATURE,
    ZIP64_END_SIGNATURE,
    ZIP64_LOCATOR_SIGNATURE,
    END_SIGNATURE,
    EXTRA_DATA_SIGNATURE,
)

STORED: Final = 0  # 4.4.5
DEFLATED: Final = 8

ENCRYPTED_FLAG: Final = 1 << 0  # 4.4.4
DESCRIPTOR_FLAG: Final = 1 << 3
PATCH_FLAG: Final = 1 << 5
STRONG_ENCRYPTION_FLAG: Final = 1 << 6
UTF8_FLAG: Final = 1 << 11
MASKED_FLAG: Final = 1 << 13

ZIP64_EXTRA: Final = 0x0001  # 4.5.3
UNICODE_PATH_EXTRA: Final = 0x7075  # 4.6.9

MAX_16: Final = 0xFFFF
MAX_32: Final = 0xFFFFFFFF

# signature, version needed, flags, method, time, date, CRC, sizes, lengths of name and extra (4.3.7)
LOCAL_HEADER: Final = Struct("<4sHHHHHIIIHH")
# signature, made by, needed, flags, method, time, date, CRC, compressed, plain, lengths of name, extra
# and comment, disk, internal and external attributes, offset (4.3.12)
CENTRAL_HEADER: Final = Struct("<4sHHHHHHIIIHHHHHII")
# signature, this disk, directory's disk, entries here, entries, directory's size and offset, comment (4.3.16)
END_RECORD: Final = Struct("<4sHHHHIIH")
# signature, size of the rest, made by, needed, this disk, directory's disk, entries here, entries,
# directory's size and offset (4.3.14)
ZIP64_END_RECORD: Final = Struct("<4sQHHIIQQQQ")
# signature, disk of the ZIP64 record, its offset, number of disks (4.3.15)
ZIP64_LOCATOR: Final = Struct("<4sIQI")

MAX_COMMENT: Final = MAX_16
# The end record, its comment, and what may stand in front of it: one read of this finds all of them.
TAIL_BYTES: Final = MAX_COMMENT + END_RECORD.size + ZIP64_LOCATOR.size + ZIP64_END_RECORD.size

_EXTRA_HEAD: Final = Struct("<HH")
_MEANINGFUL_EXTRAS: Final = frozenset(
    identifier.to_bytes(2, "little") for identifier in (ZIP64_EXTRA, UNICODE_PATH_EXTRA)
)
_UINT64: Final = Struct("<Q")
_UINT32: Final = Struct("<I")

# A data descriptor is CRC, compressed size and plain size (4.3.9), with 32- or 64-bit sizes (4.3.9.2) and
# with or without a signature (4.3.9.3). These four shapes differ in length, so the length tells the shape.
DESCRIPTOR_SHAPES: Final = {
    12: Struct("<III"),
    16: Struct("<4xIII"),
    20: Struct("<IQQ"),
    24: Struct("<4xIQQ"),
}
SIGNED_DESCRIPTORS: Final = (16, 24)
LONGEST_DESCRIPTOR: Final = max(DESCRIPTOR_SHAPES)


class RecordError(ValueError):
    """A record cannot be read; the text says why, in technical words."""


@dataclass(frozen=True, slots=True)
class EndRecord:
    """The end of central directory record, or its ZIP64 form (4.3.14 to 4.3.16)."""

    disk: int
    directory_disk: int
    entries_here: int
    entries: int
    directory_size: int
    directory_offset: int


class CentralHeader(NamedTuple):
    """One entry of the central directory (4.3.12), its variable fields unparsed.

    A tuple, because a directory has thousands and a frozen dataclass takes four times as long to make.
    """

    made_by: int
    version_needed: int
    flags: int
    method: int
    crc32: int
    compressed_size: int
    size: int
    disk: int
    external_attributes: int
    header_offset: int
    raw_name: bytes
    extra: bytes
    end: int


def find_end_records(tail: bytes) -> tuple[list[int], int]:
    """Return where in `tail`, the last bytes of a file, end records lie (4.3.16).

    First all those, last one first, whose comment ends exactly with the file; then the very last one,
    whatever its comment (-1 when there is none), so that the caller can tell what follows it.
    """
    fitting: list[int] = []
    last = -1
    position = tail.rfind(END_SIGNATURE)
    while position >= 0:
        if position + END_RECORD.size <= len(tail):
            last = max(last, position)
            if position + END_RECORD.size + comment_length(tail, position) == len(tail):
                fitting.append(position)
        position = tail.rfind(END_SIGNATURE, 0, position)
    return fitting, last


def comment_length(data: bytes, position: int) -> int:
    """Return the length in bytes of the comment after the end record at `position` (4.4.25)."""
    length: int = END_RECORD.unpack_from(data, position)[7]
    return length


def parse_end_record(data: bytes, position: int) -> EndRecord:
    """Read the end of central directory record at `position` (4.3.16)."""
    _, disk, directory_disk, here, entries, size, offset, _ = END_RECORD.unpack_from(data, position)
    return EndRecord(disk, directory_disk, here, entries, size, offset)


def parse_zip64_end_record(data: bytes) -> tuple[EndRecord, int]:
    """Read a ZIP64 end record (4.3.14): the record, and the size that it claims for itself, in bytes."""
    if len(data) < ZIP64_END_RECORD.size or not data.startswith(ZIP64_END_SIGNATURE):
        raise RecordError("no ZIP64 end of central directory record there")
    _, rest, _, _, disk, directory_disk, here, entries, size, offset = ZIP64_END_RECORD.unpack_from(data)
    # 4.3.14.1: the size does not count the signature and itself.
    return EndRecord(disk, directory_disk, here, entries, size, offset), rest + 12


def central_headers(data: bytes, limit: int) -> Iterator[CentralHeader]:
    """Yield the entries of the central directory `data` in order, at most `limit` of them.

    Stops where the signature of another known record stands. Raises RecordError where neither stands, and
    where an entry runs over the end.
    """
    position, count, size = 0, 0, len(data)
    unpack, fixed, make = CENTRAL_HEADER.unpack_from, CENTRAL_HEADER.size, CentralHeader._make
    while position < size and count < limit:
        name_at = position + fixed
        if name_at > size or data[position : position + 4] != CENTRAL_SIGNATURE:
            signature = data[position : position + 4]
            if signature in SIGNATURES and signature != CENTRAL_SIGNATURE:
                return
            raise RecordError(
                f"{size - position} bytes that start with {signature!r} at {position}: no entry"
            )
        (
            _, made_by, needed, flags, method, _, _, crc, compressed, plain,
            name_length, extra_length, comment_length, disk, _, attributes, offset,
        ) = unpack(data, position)  # fmt: skip
        extra_at = name_at + name_length
        comment_at = extra_at + extra_length
        end = comment_at + comment_length
        if end > size:
            raise RecordError(f"the entry at {position} of the directory runs over its end")
        yield make(
            (
                made_by, needed, flags, method, crc, compressed, plain, disk, attributes, offset,
                data[name_at:extra_at], data[extra_at:comment_at], end,
            )
        )  # fmt: skip
        position = end
        count += 1


def parse_extra(extra: bytes) -> list[tuple[int, bytes]]:
    """Split an extra field into (header ID, data) in order (4.5.1); RecordError where it does not fit."""
    fields = []
    position, size = 0, len(extra)
    while position < size:
        if position + 4 > size:
            raise RecordError(f"{size - position} bytes are left over in an extra field of {size}")
        identifier, length = _EXTRA_HEAD.unpack_from(extra, position)
        end = position + 4 + length
        if end > size:
            raise RecordError(
                f"extra field 0x{identifier:04x} claims {length} bytes, {size - position - 4} there"
            )
        fields.append((identifier, extra[position + 4 : end]))
        position = end
    return fields


def is_foreign_extra(extra: bytes) -> bool:
    """Tell whether an extra field is well formed and holds nothing that changes what a member is.

    Time stamps, user numbers and the like: most of what occurs, told apart without taking it to pieces.
    """
    position, size = 0, len(extra)
    while position + 4 <= size:
        if extra[position : position + 2] in _MEANINGFUL_EXTRAS:
            return False
        position += 4 + extra[position + 2] + 256 * extra[position + 3]
    return position == size


def repeated(fields: Sequence[tuple[int, bytes]]) -> list[int]:
    """Return the header IDs that the gate interprets and that occur more than once in `fields`."""
    identifiers = [identifier for identifier, _ in fields]
    return [known for known in (ZIP64_EXTRA, UNICODE_PATH_EXTRA) if identifiers.count(known) > 1]


def parse_zip64_extra(
    data: bytes, size: bool, compressed_size: bool, offset: bool = False, disk: bool = False
) -> tuple[int | None, int | None, int | None, int | None]:
    """Read a ZIP64 extra field that holds exactly the values asked for, in this order (4.5.3).

    Raises RecordError when it is shorter or longer: a surplus is read differently by different programs.
    """
    expected = 8 * (size + compressed_size + offset) + 4 * disk
    if len(data) != expected:
        raise RecordError(f"the ZIP64 extra field has {len(data)} bytes, the header calls for {expected}")
    position = 0
    values: list[int | None] = []
    for wanted, shape in ((size, _UINT64), (compressed_size, _UINT64), (offset, _UINT64), (disk, _UINT32)):
        values.append(shape.unpack_from(data, position)[0] if wanted else None)
        position += shape.size if wanted else 0
    return values[0], values[1], values[2], values[3]


def parse_unicode_path(data: bytes) -> tuple[int, str]:
    """Read an Info-ZIP Unicode Path extra field (4.6.9): the CRC of the plain name, and the Unicode name."""
    if len(data) < 5 or data[0] != 1:
        raise RecordError("the Unicode path has no version 1 header")
    try:
        return _UINT32.unpack_from(data, 1)[0], data[5:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"the Unicode path is not UTF-8: {error}") from error
