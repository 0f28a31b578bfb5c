"""Writes ZIP archives, honest ones by default, with any field of any record set to anything.

A `Part` is one member: what its local header, its data, its descriptor and its directory entry say is derived
from its content, unless `local`, `central`, `packed` or `descriptor` say otherwise. `build` lays parts out.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

LOCAL = Struct("<4sHHHHHIIIHH")
LOCAL_FIELDS = (
    "signature", "needed", "flags", "method", "time", "date", "crc", "packed", "size", "name_length",
    "extra_length",
)  # fmt: skip
CENTRAL = Struct("<4sHHHHHHIIIHHHHHII")
CENTRAL_FIELDS = (
    "signature", "made_by", "needed", "flags", "method", "time", "date", "crc", "packed", "size",
    "name_length", "extra_length", "comment_length", "disk", "internal", "attributes", "offset",
)  # fmt: skip
END = Struct("<4sHHHHIIH")
END_FIELDS = (
    "signature", "disk", "directory_disk", "entries_here", "entries", "directory_size", "directory_offset",
    "comment_length",
)  # fmt: skip
END64 = Struct("<4sQHHIIQQQQ")
END64_FIELDS = (
    "signature", "rest", "made_by", "needed", "disk", "directory_disk", "entries_here", "entries",
    "directory_size", "directory_offset",
)  # fmt: skip
LOCATOR = Struct("<4sIQI")
LOCATOR_FIELDS = ("signature", "disk", "offset", "disks")

UNIX = 3 << 8 | 30
FILE = 0o100644 << 16
FOLDER = 0o40755 << 16 | 0x10
TOP_16 = 0xFFFF
TOP_32 = 0xFFFFFFFF

Fields = Mapping[str, Any]


def deflate(data: bytes, level: int = 6) -> bytes:
    """Return `data` as a raw deflate stream."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def extra(identifier: int, data: bytes) -> bytes:
    """Return one extra field."""
    return struct.pack("<HH", identifier, len(data)) + data


def zip64_extra(*values: int) -> bytes:
    """Return a ZIP64 extra field of 64-bit values."""
    return extra(0x0001, struct.pack(f"<{len(values)}Q", *values))


def unicode_path(raw: bytes, name: str, *, crc: int | None = None, version: int = 1) -> bytes:
    """Return an Info-ZIP Unicode path field for a member whose header says `raw`."""
    checksum = zlib.crc32(raw) if crc is None else crc
    return extra(0x7075, struct.pack("<BI", version, checksum) + name.encode())


@dataclass(frozen=True)
class Part:
    """One member and everything about it that can be told wrong."""

    name: bytes | str = b"a.src"
    data: bytes = b"N10 G00 X0 Y0\n" * 20
    method: int = 8
    flags: int = 0
    packed: bytes | None = None  # in place of the data as `method` packs it
    descriptor: str | bytes | None = None  # "32", "32s", "64", "64s" (s: with signature), or its bytes
    local_extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    attributes: int = FILE
    made_by: int = UNIX
    before: bytes = b""  # in front of the local header
    after: bytes = b""  # behind data and descriptor
    local: Fields = field(default_factory=dict)
    central: Fields = field(default_factory=dict)
    hidden: bool = False  # no directory entry
    local_name: bytes | None = None
    ghost: bool = False  # no local header: the directory entry says where through `central`

    @property
    def raw_name(self) -> bytes:
        """Return the name's bytes as the directory has them."""
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def content(self) -> bytes:
        """Return the bytes between local header and descriptor."""
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == 8 else self.data


def like_go(files: Mapping[str, bytes]) -> list[Part]:
    """Return members as Go's archive/zip writes them to a stream: signed descriptors, one time stamp."""
    stamp = extra(0x5455, b"\1" + bytes(4))
    return [
        Part(
            name,
            data,
            8 if data else 0,
            flags=0 if name.isascii() else 0x800,
            descriptor=None if name.endswith("/") else "32s",
            local_extra=stamp,
            central_extra=stamp,
            attributes=0,
            made_by=20,
        )
        for name, data in files.items()
    ]


def like_macos(files: Mapping[str, bytes]) -> list[Part]:
    """Return members as the macOS Finder writes them: decomposed names without the UTF-8 flag, signed
    descriptors, owner fields of different length in both headers, and a resource fork beside each file.
    """
    parts = []
    for name, data in files.items():
        plain = unicodedata.normalize("NFD", name)
        folder, _, file = plain.rpartition("/")
        forked = (
            [] if plain.endswith("/") else [(f"__MACOSX/{folder}{'/' if folder else ''}._{file}", bytes(120))]
        )
        parts += [
            Part(
                path,
                content,
                0 if path.endswith("/") else 8,
                descriptor=None if path.endswith("/") else "32s",
                local_extra=extra(0x5855, bytes(12)),
                central_extra=extra(0x5855, bytes(8)),
                attributes=FOLDER if path.endswith("/") else FILE | 0x4000,
                made_by=3 << 8 | 21,
            )
            for path, content in [(plain, data), *forked]
        ]
    return parts


def _pack(shape: Struct, names: Sequence[str], values: dict[str, Any], overrides: Fields) -> bytes:
    unknown = set(overrides) - set(names)
    if unknown:
        raise KeyError(f"no such field: {unknown}")
    return shape.pack(*({**values, **overrides}[name] for name in names))


def _local(part: Part) -> bytes:
    flags = part.flags | (8 if part.descriptor is not None else 0)
    streamed = part.descriptor is not None
    name = part.raw_name if part.local_name is None else part.local_name
    head = _pack(
        LOCAL,
        LOCAL_FIELDS,
        {
            "signature": b"PK\3\4", "needed": 20, "flags": flags, "method": part.method, "time": 0,
            "date": 33, "crc": 0 if streamed else zlib.crc32(part.data),
            "packed": 0 if streamed else len(part.content),
            "size": 0 if streamed else len(part.data),
            "name_length": len(name), "extra_length": len(part.local_extra),
        },
        part.local,
    )  # fmt: skip
    return head + name + part.local_extra


def _descriptor(part: Part) -> bytes:
    if part.descriptor is None or isinstance(part.descriptor, bytes):
        return part.descriptor or b""
    numbers = (zlib.crc32(part.data), len(part.content), len(part.data))
    plain = struct.pack("<IQQ" if part.descriptor.startswith("64") else "<III", *numbers)
    return (b"PK\7\x08" if part.descriptor.endswith("s") else b"") + plain


def _central(part: Part, offset: int) -> bytes:
    flags = part.flags | (8 if part.descriptor is not None else 0)
    head = _pack(
        CENTRAL,
        CENTRAL_FIELDS,
        {
            "signature": b"PK\1\2", "made_by": part.made_by, "needed": 20, "flags": flags,
            "method": part.method, "time": 0, "date": 33, "crc": zlib.crc32(part.data),
            "packed": len(part.content), "size": len(part.data), "name_length": len(part.raw_name),
            "extra_length": len(part.central_extra), "comment_length": len(part.comment), "disk": 0,
            "internal": 0, "attributes": part.attributes, "offset": offset,
        },
        part.central,
    )  # fmt: skip
    return head + part.raw_name + part.central_extra + part.comment


def build(
    *parts: Part,
    prefix: bytes = b"",
    comment: bytes = b"",
    before_directory: bytes = b"",
    after_entries: bytes = b"",
    before_end: bytes = b"",
    suffix: bytes = b"",
    zip64: bool = False,
    end: Fields | None = None,
    end64: Fields | None = None,
    locator: Fields | None = None,
    extensible: bytes = b"",
    with_locator: bool = True,
    order: Sequence[int] | None = None,
) -> bytes:
    """Return an archive of `parts`; the other arguments put bytes or field values where they do not belong.

    `order` is that of the directory's entries. With `zip64` both ZIP64 end records are written, and the end
    record's entries, size and offset are at their maxima.
    """
    body = bytearray(prefix)
    entries = []
    for part in parts:
        body += part.before
        offset = len(body)
        if not part.ghost:
            body += _local(part) + part.content + _descriptor(part) + part.after
        if not part.hidden:
            entries.append(_central(part, offset))
    body += before_directory
    start = len(body)
    body += b"".join(entries[index] for index in order or range(len(entries))) + after_entries
    size = len(body) - start
    body += before_end
    top = {"entries_here": TOP_16, "entries": TOP_16, "directory_size": TOP_32, "directory_offset": TOP_32}
    if zip64:
        record_at = len(body)
        body += _pack(
            END64,
            END64_FIELDS,
            {
                "signature": b"PK\6\6", "rest": END64.size - 12 + len(extensible), "made_by": UNIX,
                "needed": 45, "disk": 0, "directory_disk": 0, "entries_here": len(entries),
                "entries": len(entries), "directory_size": size, "directory_offset": start,
            },
            end64 or {},
        )  # fmt: skip
        body += extensible
        if with_locator:
            body += _pack(
                LOCATOR,
                LOCATOR_FIELDS,
                {"signature": b"PK\6\7", "disk": 0, "offset": record_at, "disks": 1},
                locator or {},
            )
    body += _pack(
        END,
        END_FIELDS,
        {
            "signature": b"PK\5\6", "disk": 0, "directory_disk": 0, "entries_here": len(entries),
            "entries": len(entries), "directory_size": size, "directory_offset": start,
            "comment_length": len(comment),
        } | (top if zip64 else {}),
        end or {},
    )  # fmt: skip
    return bytes(body + comment + suffix)
