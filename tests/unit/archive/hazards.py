"""Every hazard that the gate knows: an archive built in code, and exactly what is to be said of it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from tests.unit.archive.builder import (
    END,
    FILE,
    FOLDER,
    TOP_16,
    TOP_32,
    Part,
    build,
    deflate,
    extra,
    unicode_path,
    zip64_extra,
)
from veripost.errors import ProblemCode as P

TEXT = b"N10 G00 X0 Y0\n" * 20
PACKED = deflate(TEXT)
INNER = build(Part("inner.src"))
WINDOWS = 0 << 8 | 20  # made by FAT, version 2.0
BOMB = deflate(bytes(4 << 20))


@dataclass(frozen=True)
class Hazard:
    """An archive, and every error that it must be refused for: code and member."""

    name: str
    data: bytes
    found: tuple[tuple[P, str | None], ...]


def hazard(name: str, data: bytes, *found: P | tuple[P, str | None], member: str | None = "a.src") -> Hazard:
    """Return a row; a code alone is about `member`."""
    return Hazard(name, data, tuple(f if isinstance(f, tuple) else (f, member) for f in found))


def whole(name: str, data: bytes, *found: P) -> Hazard:
    """Return a row about the archive as a whole."""
    return hazard(name, data, *found, member=None)


def local(name: str, *found: P, **values: object) -> Hazard:
    """Return a row in which the local header says something else than the directory."""
    return hazard(f"local header: {name}", build(Part(local=values)), *found)


def named(name: str, written: bytes | str, *found: P, shown: str | None = None, flags: int = 0) -> Hazard:
    """Return a row about a member's name."""
    raw = written.encode() if isinstance(written, str) else written
    text = shown if shown is not None else raw.decode()
    return hazard(f"name: {name}", build(Part(raw, flags=flags)), *found, member=text)


def two(name: str, first: bytes | str, second: bytes | str, code: P, member: str) -> Hazard:
    """Return a row about two names that clash."""
    parts = (Part(n, b"" if n[-1:] in {"/", b"/"} else TEXT) for n in (first, second))
    return hazard(f"names: {name}", build(*parts), code, member=member)


def cut(data: bytes, length: int) -> bytes:
    """Return `data` without its last `length` bytes."""
    return data[: len(data) - length]


def spliced(data: bytes, offset: int, new: bytes) -> bytes:
    """Return `data` with `new` over what was at `offset`."""
    return data[:offset] + new + data[offset + len(new) :]


ONE = build(Part())
TAR = b"a.src".ljust(100, b"\0") + b"0000644\0".ljust(157, b"\0") + b"ustar\x0000" + bytes(300)

NO_ZIP = [
    whole("empty file", b"", P.NOT_A_ZIP),
    whole("one byte", b"P", P.NOT_A_ZIP),
    whole("zeros", bytes(4096), P.NOT_A_ZIP),
    whole("text", b"N10 G00 X0\r\n" * 50, P.NOT_A_ZIP),
    whole("RAR 4", b"Rar!\x1a\x07\x00" + bytes(range(200)), P.NOT_A_ZIP),
    whole("RAR 5", b"Rar!\x1a\x07\x01\x00" + bytes(range(200)), P.NOT_A_ZIP),
    whole("7z", b"7z\xbc\xaf\x27\x1c" + bytes(range(200)), P.NOT_A_ZIP),
    whole("gzip", b"\x1f\x8b\x08" + bytes(range(200)), P.NOT_A_ZIP),
    whole("tar", TAR, P.NOT_A_ZIP),
    whole("HTML error page", b"\n<!DOCTYPE html><title>404</title>", P.NOT_A_ZIP),
    whole("XML error answer", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', P.NOT_A_ZIP),
    whole("PDF", b"%PDF-1.7\n" + bytes(range(200)), P.NOT_A_ZIP),
    whole("unknown binary", bytes(range(256)) * 4, P.NOT_A_ZIP),
    whole("Windows program without a ZIP", b"MZ\x90\0" + bytes(500), P.NOT_A_ZIP),
]

TRUNCATED = [
    whole("end record missing", cut(ONE, 22), P.TRUNCATED_ARCHIVE),
    whole("last byte missing", cut(ONE, 1), P.TRUNCATED_ARCHIVE),
    whole("cut within the data", ONE[:60], P.TRUNCATED_ARCHIVE),
    whole("only a signature", b"PK\3\4", P.TRUNCATED_ARCHIVE),
    whole("cut within the comment", cut(build(Part(), comment=b"made on a Monday"), 4), P.TRUNCATED_ARCHIVE),
    whole("first bytes missing", ONE[10:], P.DIRECTORY_OUT_OF_BOUNDS),
    whole("middle missing", ONE[:40] + ONE[50:], P.DIRECTORY_OUT_OF_BOUNDS),
]

AROUND = [
    whole("program in front", build(Part(), prefix=b"MZ" + bytes(100)), P.PREFIX_DATA),
    whole("program in front, offsets not moved", b"MZ" + bytes(100) + ONE, P.PREFIX_DATA),
    whole("data in front of an empty archive", build(prefix=b"hidden"), P.PREFIX_DATA),
    whole("data behind", ONE + b"\0", P.TRAILING_DATA),
    whole("text behind", ONE + b"\r\n", P.TRAILING_DATA),
    whole("two archives joined", ONE + build(Part("b.src"), Part("c.src")), P.PREFIX_DATA),
    whole("data behind an empty archive", build() + b"x", P.TRAILING_DATA),
    whole("comment too long", build(Part(), comment=b"x" * 1025), P.COMMENT_TOO_LONG),
    whole("local signature in the comment", build(Part(), comment=b"x PK\3\4 y"), P.COMMENT_SIGNATURE),
    whole("directory signature in the comment", build(Part(), comment=b"PK\1\2"), P.COMMENT_SIGNATURE),
    whole(
        "end record in the comment, reaching the end",
        build(Part(), comment=END.pack(b"PK\5\6", 0, 0, 1, 1, 51, 0, 0)),
        P.COMMENT_SIGNATURE,
        P.DIRECTORY_MISPLACED,
    ),
    whole(
        "end record in the comment, not reaching the end",
        build(Part(), comment=END.pack(b"PK\5\6", 0, 0, 0, 0, 0, 0, 0) + b"tail"),
        P.COMMENT_SIGNATURE,
    ),
]

END_RECORDS = [
    whole("this disk is 1", build(Part(), end={"disk": 1}), P.MULTI_DISK),
    whole("directory on disk 1", build(Part(), end={"directory_disk": 1}), P.MULTI_DISK),
    whole("fewer entries on this disk", build(Part(), end={"entries_here": 0}), P.MULTI_DISK),
    whole("split archive's first part", b"PK\7\x08" + ONE[:60], P.MULTI_DISK),
    whole(
        "one entry too few declared",
        build(Part(), end={"entries": 0, "entries_here": 0}),
        P.ENTRY_COUNT_MISMATCH,
    ),
    whole(
        "one entry too many declared",
        build(Part(), end={"entries": 2, "entries_here": 2}),
        P.ENTRY_COUNT_MISMATCH,
    ),
    whole("no directory", build(Part(), end={"directory_size": 0}), P.DIRECTORY_MISPLACED),
    whole("directory size too small", build(Part(), end={"directory_size": 40}), P.DIRECTORY_MISPLACED),
    whole("directory size too large", build(Part(), end={"directory_size": 400}), P.DIRECTORY_OUT_OF_BOUNDS),
    whole("directory offset too small", build(Part(), end={"directory_offset": 0}), P.PREFIX_DATA),
    whole(
        "directory offset beyond the file",
        build(Part(), end={"directory_offset": 1 << 20}),
        P.DIRECTORY_OUT_OF_BOUNDS,
    ),
    whole(
        "directory offset and size shifted",
        build(Part(), end={"directory_offset": 1, "directory_size": 9}),
        P.DIRECTORY_MISPLACED,
    ),
    whole(
        "data between directory and end record", build(Part(), before_end=b"hidden"), P.DIRECTORY_MISPLACED
    ),
    whole("directory's signature wrong", build(Part(central={"signature": b"PK\1\3"})), P.DIRECTORY_CORRUPT),
    whole(
        "entry runs over the directory's end", build(Part(central={"comment_length": 5})), P.DIRECTORY_CORRUPT
    ),
    whole(
        "name runs over the directory's end", build(Part(central={"name_length": 6000})), P.DIRECTORY_CORRUPT
    ),
    whole(
        "half an entry at the end", build(Part(), after_entries=b"PK\1\2" + bytes(20)), P.DIRECTORY_CORRUPT
    ),
    whole("data behind the last entry", build(Part(), after_entries=b"hidden"), P.DIRECTORY_CORRUPT),
    whole("digital signature", build(Part(), after_entries=b"PK\5\5\x04\0sign"), P.DIRECTORY_SIGNED),
    whole("too many entries", build(*[Part(f"{n}.src", b"") for n in range(10_001)]), P.TOO_MANY_ENTRIES),
    whole(
        "entries without end",
        build(Part(), end={"entries": 60_000, "entries_here": 60_000}),
        P.TOO_MANY_ENTRIES,
    ),
    whole(
        "directory too large",
        build(*[Part(f"{n}.src", b"", comment=bytes(60_000)) for n in range(300)]),
        P.DIRECTORY_TOO_LARGE,
    ),
    whole("ZIP64: no locator", build(Part(), zip64=True, with_locator=False), P.ZIP64_LOCATOR_MISSING),
    whole(
        "ZIP64: sizes at their maximum, no record",
        build(Part(), end={"directory_offset": TOP_32}),
        P.ZIP64_LOCATOR_MISSING,
    ),
    whole(
        "ZIP64: entries at their maximum, no record",
        build(Part(), end={"entries": TOP_16}),
        P.ZIP64_LOCATOR_MISSING,
    ),
    whole(
        "ZIP64: record that nothing points to",
        build(
            Part(),
            zip64=True,
            with_locator=False,
            end={
                "entries": 1,
                "entries_here": 1,
                "directory_size": 51,
                "directory_offset": 30 + 5 + len(PACKED),
            },
        ),
        P.ZIP64_LOCATOR_MISSING,
    ),
    whole(
        "ZIP64: locator points elsewhere",
        build(Part(), zip64=True, locator={"offset": 0}),
        P.ZIP64_RECORD_MISPLACED,
    ),
    whole(
        "ZIP64: locator points beyond the file",
        build(Part(), zip64=True, locator={"offset": 1 << 60}),
        P.ZIP64_RECORD_MISPLACED,
    ),
    whole(
        "ZIP64: record's signature wrong",
        build(Part(), zip64=True, end64={"signature": b"PK\6\5"}),
        P.ZIP64_RECORD_MISPLACED,
    ),
    whole(
        "ZIP64: record claims to be shorter",
        build(Part(), zip64=True, end64={"rest": 43}),
        P.ZIP64_RECORD_MISPLACED,
    ),
    whole(
        "ZIP64: record claims to be longer",
        build(Part(), zip64=True, end64={"rest": 2**64 - 1}),
        P.ZIP64_RECORD_MISPLACED,
    ),
    whole(
        "ZIP64: data behind the record",
        build(Part(), zip64=True, extensible=b"hidden", end64={"rest": 44}),
        P.ZIP64_RECORD_MISPLACED,
    ),
    whole("ZIP64: extensible data", build(Part(), zip64=True, extensible=b"hidden"), P.ZIP64_RECORD_EXTENDED),
    whole("ZIP64: locator on disk 1", build(Part(), zip64=True, locator={"disk": 1}), P.MULTI_DISK),
    whole("ZIP64: two disks", build(Part(), zip64=True, locator={"disks": 2}), P.MULTI_DISK),
    whole(
        "ZIP64: record on disk 1",
        build(Part(), zip64=True, end64={"disk": 1}, end={"disk": TOP_16}),
        P.MULTI_DISK,
    ),
    whole(
        "ZIP64: records disagree on the disk",
        build(Part(), zip64=True, end64={"disk": 1}),
        P.ZIP64_RECORD_MISMATCH,
    ),
    whole(
        "ZIP64: records disagree on the entries",
        build(Part(), zip64=True, end={"entries": 2}),
        P.ZIP64_RECORD_MISMATCH,
    ),
    whole(
        "ZIP64: records disagree on the size",
        build(Part(), zip64=True, end={"directory_size": 50}),
        P.ZIP64_RECORD_MISMATCH,
    ),
    whole(
        "ZIP64: records disagree on the offset",
        build(Part(), zip64=True, end={"directory_offset": 0}),
        P.ZIP64_RECORD_MISMATCH,
    ),
    whole(
        "ZIP64: entries without end",
        build(Part(), zip64=True, end64={"entries": 2**63, "entries_here": 2**63}),
        P.TOO_MANY_ENTRIES,
    ),
    whole(
        "ZIP64: directory offset without end",
        build(Part(), zip64=True, end64={"directory_offset": 2**64 - 1}),
        P.DIRECTORY_OUT_OF_BOUNDS,
    ),
    whole(
        "ZIP64: directory size without end",
        build(Part(), zip64=True, end64={"directory_size": 2**64 - 1}),
        P.DIRECTORY_TOO_LARGE,
    ),
]

AT = {"offset": 0}
PLACES = [
    hazard(
        "two entries share one local header",
        build(Part(), Part("b.src", ghost=True, central=AT)),
        P.ENTRIES_OVERLAP,
    ),
    hazard(
        "an entry lies within another's data",
        build(Part(data=ONE * 3, method=0), Part("b.src", ghost=True, central={"offset": 35})),
        P.ENTRIES_OVERLAP,
    ),
    hazard(
        "Fifield's bomb: each entry holds the next",
        build(
            Part(packed=PACKED, central={"packed": 500}),
            Part("b.src"),
            Part("c.src"),
            Part("d.src"),
            Part("e.src"),
            Part("f.src"),
            Part("g.src"),
            Part("h.src"),
            Part("i.src"),
            Part("j.src"),
            Part("k.src"),
        ),
        P.ENTRIES_OVERLAP,
    ),
    hazard(
        "entry beyond the directory",
        build(Part(), Part("b.src", ghost=True, central={"offset": 1 << 20})),
        P.ENTRY_OUT_OF_BOUNDS,
        member="b.src",
    ),
    hazard(
        "entry in the directory",
        build(Part(), Part("b.src", ghost=True)),
        P.ENTRY_OUT_OF_BOUNDS,
        member="b.src",
    ),
    hazard(
        "data runs into the directory",
        build(Part(central={"packed": 5000, "size": 5000})),
        P.ENTRY_OUT_OF_BOUNDS,
    ),
    hazard("data behind a member", build(Part(after=b"hidden")), P.UNCLAIMED_BYTES),
    hazard("data between two members", build(Part(), Part("b.src", before=b"hidden")), P.UNCLAIMED_BYTES),
    hazard(
        "data in front of the directory", build(Part(), before_directory=b"hidden things"), P.UNCLAIMED_BYTES
    ),
    hazard(
        "a lot of data between two members",
        build(Part(), Part("b.src", before=bytes(70_000))),
        P.UNCLAIMED_BYTES,
        P.UNCLAIMED_BYTES,
    ),
    hazard(
        "a member that the directory does not name",
        build(Part(), Part("b.src", hidden=True)),
        P.UNCLAIMED_BYTES,
    ),
    whole(
        "a first member that the directory does not name",
        build(Part(hidden=True), Part("b.src")),
        P.PREFIX_DATA,
    ),
    hazard(
        "descriptor and data behind it", build(Part(descriptor="32s", after=b"hidden")), P.UNCLAIMED_BYTES
    ),
    hazard(
        "archive decryption header in front of the directory",
        build(Part(), before_directory=b"PK\6\x08\0\0\0\0"),
        P.UNCLAIMED_BYTES,
    ),
    hazard("entry on another disk", build(Part(central={"disk": 1})), P.MULTI_DISK),
    hazard("local signature wrong", build(Part(local={"signature": b"PK\3\5"})), P.LOCAL_HEADER_MISSING),
    hazard("zeros instead of the member", spliced(ONE, 0, bytes(40)), P.LOCAL_HEADER_MISSING),
    hazard(
        "local name longer than its place", build(Part(local={"name_length": 60_000})), P.LOCAL_HEADER_OVERRUN
    ),
    hazard(
        "local extra field longer than its place",
        build(Part(local={"extra_length": 999})),
        P.LOCAL_HEADER_OVERRUN,
    ),
]

LOCALS = [
    local("method stored", P.LOCAL_METHOD_MISMATCH, method=0),
    local("encrypted", P.LOCAL_FLAGS_MISMATCH, flags=1),
    local("UTF-8 flag", P.LOCAL_FLAGS_MISMATCH, flags=0x800),
    local("descriptor flag", P.LOCAL_FLAGS_MISMATCH, flags=8),
    local("CRC", P.LOCAL_CRC_MISMATCH, crc=1),
    local("CRC zero without a descriptor", P.LOCAL_CRC_MISMATCH, crc=0),
    local("plain size", P.LOCAL_SIZE_MISMATCH, size=len(TEXT) - 1),
    local("packed size", P.LOCAL_SIZE_MISMATCH, packed=len(PACKED) + 1),
    local("sizes zero without a descriptor", P.LOCAL_SIZE_MISMATCH, size=0, packed=0),
    local("sizes at their maximum without ZIP64", P.LOCAL_SIZE_MISMATCH, size=TOP_32, packed=TOP_32),
    hazard("local name is another", build(Part(local_name=b"b.src")), P.LOCAL_NAME_MISMATCH),
    hazard("local name in another case", build(Part(local_name=b"A.SRC")), P.LOCAL_NAME_MISMATCH),
    hazard("local name longer", build(Part(local_name=b"a.src.exe")), P.LOCAL_NAME_MISMATCH),
    hazard("local name points outwards", build(Part(local_name=b"../../a.src")), P.LOCAL_NAME_MISMATCH),
    hazard(
        "everything at once",
        build(Part(local_name=b"b.src", local={"crc": 1, "size": 2, "method": 0, "flags": 1})),
        P.LOCAL_NAME_MISMATCH,
        P.LOCAL_METHOD_MISMATCH,
        P.LOCAL_FLAGS_MISMATCH,
        P.LOCAL_CRC_MISMATCH,
        P.LOCAL_SIZE_MISMATCH,
    ),
    hazard(
        "streamed, local CRC wrong", build(Part(descriptor="32s", local={"crc": 1})), P.LOCAL_CRC_MISMATCH
    ),
    hazard(
        "streamed, local size wrong", build(Part(descriptor="32s", local={"size": 1})), P.LOCAL_SIZE_MISMATCH
    ),
]

EXTRAS = [
    hazard("extra field: 3 bytes", build(Part(central_extra=b"abc")), P.EXTRA_MALFORMED),
    hazard(
        "extra field: claims too much",
        build(Part(central_extra=struct.pack("<HH", 0x5455, 9) + b"1234")),
        P.EXTRA_MALFORMED,
    ),
    hazard(
        "extra field: bytes left over",
        build(Part(central_extra=extra(0x5455, b"12345") + b"x")),
        P.EXTRA_MALFORMED,
    ),
    hazard("local extra field: 3 bytes", build(Part(local_extra=b"abc")), P.EXTRA_MALFORMED),
    hazard(
        "local extra field: claims too much",
        build(Part(local_extra=struct.pack("<HH", 1, 99) + b"1234")),
        P.EXTRA_MALFORMED,
    ),
    hazard(
        "ZIP64: extra field not called for",
        build(Part(central_extra=zip64_extra(len(TEXT)))),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard(
        "ZIP64: extra field empty but present is called for",
        build(Part(central={"size": TOP_32}, central_extra=extra(1, b""))),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard("ZIP64: extra field missing", build(Part(central={"size": TOP_32})), P.ZIP64_EXTRA_INVALID),
    hazard(
        "ZIP64: packed size without extra field",
        build(Part(central={"packed": TOP_32})),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard(
        "ZIP64: offset without extra field", build(Part(central={"offset": TOP_32})), P.ZIP64_EXTRA_INVALID
    ),
    hazard(
        "ZIP64: extra field too long",
        build(Part(central={"size": TOP_32}, central_extra=zip64_extra(len(TEXT), 0))),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard(
        "ZIP64: extra field too short",
        build(Part(central={"size": TOP_32, "packed": TOP_32}, central_extra=zip64_extra(len(TEXT)))),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard(
        "ZIP64: extra field of 7 bytes",
        build(Part(central={"size": TOP_32}, central_extra=extra(1, bytes(7)))),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard(
        "ZIP64: extra field twice",
        build(Part(central={"size": TOP_32}, central_extra=zip64_extra(len(TEXT)) + zip64_extra(1))),
        P.EXTRA_DUPLICATE,
    ),
    hazard(
        "ZIP64: entry on disk 1",
        build(Part(central={"disk": TOP_16}, central_extra=extra(1, struct.pack("<I", 1)))),
        P.MULTI_DISK,
    ),
    hazard(
        "ZIP64: local extra field of one size",
        build(Part(local_extra=zip64_extra(len(TEXT)))),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard(
        "ZIP64: local extra field with an offset",
        build(Part(local_extra=zip64_extra(len(TEXT), len(PACKED), 0))),
        P.ZIP64_EXTRA_INVALID,
    ),
    hazard(
        "ZIP64: local plain size wrong",
        build(Part(local={"size": TOP_32, "packed": TOP_32}, local_extra=zip64_extra(1, len(PACKED)))),
        P.LOCAL_SIZE_MISMATCH,
    ),
    hazard(
        "ZIP64: local packed size wrong",
        build(Part(local={"size": TOP_32, "packed": TOP_32}, local_extra=zip64_extra(len(TEXT), 1))),
        P.LOCAL_SIZE_MISMATCH,
    ),
    hazard(
        "ZIP64: local sizes contradict the extra field",
        build(Part(local={"size": 7}, local_extra=zip64_extra(len(TEXT), len(PACKED)))),
        P.LOCAL_SIZE_MISMATCH,
    ),
    hazard(
        "ZIP64: local extra field twice",
        build(Part(local_extra=zip64_extra(len(TEXT), len(PACKED)) * 2)),
        P.EXTRA_DUPLICATE,
    ),
    hazard(
        "ZIP64: local sizes zero without a descriptor",
        build(Part(local={"size": TOP_32, "packed": TOP_32}, local_extra=zip64_extra(0, 0))),
        P.LOCAL_SIZE_MISMATCH,
    ),
    hazard(
        "Unicode path: another name",
        build(Part(central_extra=unicode_path(b"a.src", "b.src"))),
        P.UNICODE_PATH_CONFLICT,
    ),
    hazard(
        "Unicode path: another extension",
        build(Part(b"\x81.src", central_extra=unicode_path(b"\x81.src", "ü.exe"))),
        P.UNICODE_PATH_CONFLICT,
        member="ü.src",
    ),
    hazard(
        "Unicode path: points outwards",
        build(Part(central_extra=unicode_path(b"a.src", "../a.src"))),
        P.UNICODE_PATH_CONFLICT,
    ),
    hazard(
        "Unicode path: against a UTF-8 name",
        build(Part("ä.src", flags=0x800, central_extra=unicode_path("ä.src".encode(), "ö.src"))),
        P.UNICODE_PATH_CONFLICT,
        member="ä.src",
    ),
    hazard(
        "Unicode path: against an ASCII name that is said to be UTF-8",
        build(Part("_.src", flags=0x800, central_extra=unicode_path(b"_.src", "ö.src"))),
        P.UNICODE_PATH_CONFLICT,
        member="_.src",
    ),
    hazard(
        "Unicode path: against an unmarked UTF-8 name",
        build(Part("ä.src", central_extra=unicode_path("ä.src".encode(), "ö.src"))),
        P.UNICODE_PATH_CONFLICT,
        member="ä.src",
    ),
    hazard(
        "Unicode path: CRC of another name",
        build(Part(central_extra=unicode_path(b"a.src", "a.src", crc=7))),
        P.UNICODE_PATH_INVALID,
    ),
    hazard(
        "Unicode path: version 2",
        build(Part(central_extra=unicode_path(b"a.src", "a.src", version=2))),
        P.UNICODE_PATH_INVALID,
    ),
    hazard(
        "Unicode path: 3 bytes", build(Part(central_extra=extra(0x7075, b"\1ab"))), P.UNICODE_PATH_INVALID
    ),
    hazard(
        "Unicode path: not UTF-8",
        build(Part(central_extra=extra(0x7075, struct.pack("<BI", 1, zlib.crc32(b"a.src")) + b"\xff.src"))),
        P.UNICODE_PATH_INVALID,
    ),
    hazard(
        "Unicode path: twice",
        build(Part(central_extra=unicode_path(b"a.src", "a.src") * 2)),
        P.EXTRA_DUPLICATE,
    ),
    hazard(
        "Unicode path: only the local one is another",
        build(Part(local_extra=unicode_path(b"a.src", "b.src"))),
        P.UNICODE_PATH_CONFLICT,
    ),
    hazard(
        "Unicode path: local and directory differ",
        build(
            Part(
                b"_.src",
                central_extra=unicode_path(b"_.src", "ä.src"),
                local_extra=unicode_path(b"_.src", "ö.src"),
            )
        ),
        P.UNICODE_PATH_CONFLICT,
        member="ä.src",
    ),
    hazard(
        "Unicode path: local one is invalid",
        build(Part(local_extra=extra(0x7075, b""))),
        P.UNICODE_PATH_INVALID,
    ),
]

KINDS = [
    hazard("encrypted", build(Part(flags=1)), P.ENCRYPTED),
    hazard("strong encryption", build(Part(flags=0x41)), P.STRONG_ENCRYPTION),
    hazard("AES", build(Part(method=99, flags=1)), P.STRONG_ENCRYPTION),
    hazard("masked headers", build(Part(flags=0x2000)), P.DIRECTORY_ENCRYPTED),
    hazard("patch", build(Part(flags=0x20)), P.PATCHED_DATA),
    *[
        hazard(f"method {method}", build(Part(method=method)), P.UNSUPPORTED_METHOD)
        for method in (1, 6, 9, 12, 14, 93, 95, 98, 1000)
    ],
    hazard("version 25.5", build(Part(central={"needed": 255})), P.VERSION_TOO_NEW),
    hazard("symlink", build(Part(data=b"/etc/passwd", attributes=0o120777 << 16)), P.SYMLINK),
    hazard(
        "symlink, said to be made by Windows",
        build(Part(attributes=0o120777 << 16, made_by=WINDOWS)),
        P.SYMLINK,
    ),
    hazard("reparse point", build(Part(attributes=0x400, made_by=WINDOWS)), P.SYMLINK),
    hazard("FIFO", build(Part(attributes=0o010644 << 16)), P.SPECIAL_FILE),
    hazard("character device", build(Part(attributes=0o020666 << 16)), P.SPECIAL_FILE),
    hazard("block device", build(Part(attributes=0o060660 << 16)), P.SPECIAL_FILE),
    hazard("socket", build(Part(attributes=0o140777 << 16)), P.SPECIAL_FILE),
    hazard("unknown file type", build(Part(attributes=0o170777 << 16)), P.SPECIAL_FILE),
    hazard("folder with data", build(Part("a/", attributes=FOLDER)), P.FOLDER_WITH_DATA, member="a/"),
    hazard(
        "folder with stored data",
        build(Part("a/", method=0, attributes=FILE)),
        P.FOLDER_WITH_DATA,
        member="a/",
    ),
    hazard(
        "folder with a CRC",
        build(Part("a/", b"", method=0, attributes=FOLDER, central={"crc": 1}, local={"crc": 1})),
        P.FOLDER_WITH_DATA,
        P.CRC_MISMATCH,
        member="a/",
    ),
    hazard(
        "Unix folder with a file's name",
        build(Part("a", b"", attributes=FOLDER)),
        P.FOLDER_MISMATCH,
        member="a",
    ),
    hazard(
        "DOS folder with a file's name",
        build(Part("a", b"", attributes=0x10, made_by=WINDOWS)),
        P.FOLDER_MISMATCH,
        member="a",
    ),
    hazard(
        "stored with two sizes",
        build(Part(method=0, central={"size": 7})),
        P.STORED_SIZE_MISMATCH,
        P.LOCAL_SIZE_MISMATCH,
    ),
    hazard(
        "member too large",
        build(Part(central={"size": (256 << 20) + 1}, local={"size": (256 << 20) + 1})),
        P.MEMBER_TOO_LARGE,
        P.RATIO_TOO_HIGH,
    ),
    hazard("ratio too high", build(Part(data=bytes(4 << 20), packed=BOMB)), P.RATIO_TOO_HIGH),
    hazard(
        "ratio too high on paper",
        build(Part(central={"size": 10 << 20}, local={"size": 10 << 20})),
        P.RATIO_TOO_HIGH,
    ),
]

NAMES = [
    named("empty", b"", P.NAME_EMPTY),
    named("NUL", b"a.src\0.exe", P.NAME_NUL, shown="a.src\\x00.exe"),
    named("NUL at the end", b"a.src\0", P.NAME_NUL, shown="a.src\\x00"),
    named("NUL in code page 437", b"\x81\0", P.NAME_NUL, shown="ü\\x00"),
    named("line break", b"a\nb.src", P.NAME_CONTROL, shown="a\\nb.src"),
    named("escape sequence", b"\x1b[31ma.src", P.NAME_CONTROL, shown="\\x1b[31ma.src"),
    named("DEL", b"a\x7f.src", P.NAME_CONTROL, shown="a\\x7f.src"),
    named("C1 control", "a\x9b.src", P.NAME_CONTROL, shown="a\\x9b.src"),
    named("line separator", "a\u2028.src", P.NAME_CONTROL, shown="a\\u2028.src"),
    named("right-to-left override", "a\u202ecrs.exe", P.NAME_BIDI, shown="a\\u202ecrs.exe"),
    named("isolate", "a\u2066.src", P.NAME_BIDI, shown="a\\u2066.src"),
    named("left-to-right mark", "a\u200e.src", P.NAME_BIDI, shown="a\\u200e.src"),
    named("unassigned", "a\u0378.src", P.NAME_UNASSIGNED, shown="a\\u0378.src"),
    named("noncharacter", "a\uffff.src", P.NAME_UNASSIGNED, shown="a\\uffff.src"),
    named("not UTF-8 in spite of the flag", b"\xff.src", P.NAME_ENCODING, shown="�.src", flags=0x800),
    named("overlong UTF-8", b"\xc0\xae\xc0\xae/a.src", P.NAME_ENCODING, shown="����/a.src", flags=0x800),
    hazard(
        "name: not UTF-8 in spite of the flag, with a Unicode path",
        build(Part(b"\x80", flags=0x800, central_extra=unicode_path(b"\x80", "a.src"))),
        P.NAME_ENCODING,
        P.UNICODE_PATH_CONFLICT,
        member="�",
    ),
    named("surrogate in UTF-8", b"\xed\xa0\x80.src", P.NAME_ENCODING, shown="���.src", flags=0x800),
    named("absolute", b"/etc/passwd", P.NAME_ABSOLUTE),
    named("network share", b"//server/share/a.src", P.NAME_ABSOLUTE, P.NAME_EMPTY_SEGMENT),
    named("root", b"/", P.NAME_ABSOLUTE, P.NAME_EMPTY_SEGMENT, P.FOLDER_WITH_DATA),
    named("drive", b"C:/a.src", P.NAME_DRIVE),
    named("relative to a drive", b"c:a.src", P.NAME_DRIVE),
    named("backslash", b"posts\\a.src", P.NAME_BACKSLASH),
    named("absolute with a backslash", b"\\a.src", P.NAME_BACKSLASH, P.NAME_ABSOLUTE),
    named("Windows network share", b"\\\\server\\a.src", P.NAME_BACKSLASH, P.NAME_ABSOLUTE),
    named("parent", b"../a.src", P.NAME_TRAVERSAL),
    named("parent in the middle", b"posts/../../a.src", P.NAME_TRAVERSAL),
    named("only the parent", b"..", P.NAME_TRAVERSAL),
    named("parent as a folder", b"posts/../", P.NAME_TRAVERSAL, P.FOLDER_WITH_DATA),
    named("parent with a backslash", b"..\\a.src", P.NAME_BACKSLASH, P.NAME_TRAVERSAL),
    named("dot", b"./a.src", P.NAME_DOT_SEGMENT),
    named("dot in the middle", b"posts/./a.src", P.NAME_DOT_SEGMENT),
    named("empty part", b"posts//a.src", P.NAME_EMPTY_SEGMENT),
    named("empty part at the end", b"posts//", P.NAME_EMPTY_SEGMENT, P.FOLDER_WITH_DATA),
    named(
        "too long",
        b"/".join([b"x" * 100] * 11),
        P.NAME_TOO_LONG,
        shown="/".join(["x" * 100] * 11)[:200] + "…",
    ),
    named("part too long", b"x" * 256, P.NAME_PART_TOO_LONG, shown="x" * 200 + "…"),
    named("part too long in UTF-8 only", "ü" * 128, P.NAME_PART_TOO_LONG),
    named("too deep", b"x/" * 32 + b"a.src", P.NAME_TOO_DEEP),
    two("twice", "a.src", "a.src", P.DUPLICATE_NAME, "a.src"),
    two("one letter, twice", "a", "a", P.DUPLICATE_NAME, "a"),
    two("folder twice", "a/", "a/", P.DUPLICATE_NAME, "a/"),
    two("case", "a.src", "A.SRC", P.LOOKALIKE_NAME, "A.SRC"),
    two("case in a folder", "posts/a.src", "Posts/a.src", P.LOOKALIKE_NAME, "Posts/a.src"),
    two("sharp s", "straße.src", "STRASSE.src", P.LOOKALIKE_NAME, "STRASSE.src"),
    two("NFC and NFD", "\xfc.src", "u\u0308.src", P.LOOKALIKE_NAME, "u\u0308.src"),
    two("NFKC", "a.src", "\uff41.src", P.LOOKALIKE_NAME, "\uff41.src"),
    two("invisible character", "a.src", "a\u200d.src", P.LOOKALIKE_NAME, "a\\u200d.src"),
    two("trailing dot", "a.src", "a.src.", P.LOOKALIKE_NAME, "a.src."),
    two("trailing space", "a.src", "a.src ", P.LOOKALIKE_NAME, "a.src "),
    two("trailing dot of a folder", "x/a.src", "x./a.src", P.LOOKALIKE_NAME, "x./a.src"),
    two("file and folder", "a", "a/", P.FILE_AND_FOLDER, "a/"),
    two("file that others lie in", "a", "a/b.src", P.FILE_AND_FOLDER, "a/b.src"),
    two("file that others lie in, later", "a/b/c.src", "a", P.FILE_AND_FOLDER, "a/b/c.src"),
    two("file that others lie in, in another case", "A", "a/b.src", P.FILE_AND_FOLDER, "a/b.src"),
    hazard(
        "names: twice in code page 437",
        build(
            Part(
                b"_.src",
                central_extra=unicode_path(b"_.src", "ä.src"),
                local_extra=unicode_path(b"_.src", "ä.src"),
            ),
            Part(
                b"_.src",
                central_extra=unicode_path(b"_.src", "ö.src"),
                local_extra=unicode_path(b"_.src", "ö.src"),
            ),
        ),
        P.LOOKALIKE_NAME,
        member="ö.src",
    ),
]

DATA = [
    hazard("CRC wrong in both headers", build(Part(local={"crc": 7}, central={"crc": 7})), P.CRC_MISMATCH),
    hazard("stored data changed", build(Part(method=0, packed=TEXT[:-1] + b"x")), P.CRC_MISMATCH),
    hazard(
        "longer than declared, CRC of the part",
        build(Part(data=TEXT[:50], packed=PACKED)),
        P.LONGER_THAN_DECLARED,
    ),
    hazard(
        "one byte longer than declared", build(Part(data=TEXT[:-1], packed=PACKED)), P.LONGER_THAN_DECLARED
    ),
    hazard("declared empty, is not", build(Part(data=b"", packed=PACKED)), P.LONGER_THAN_DECLARED),
    hazard(
        "shorter than declared",
        build(Part(packed=deflate(TEXT[:-1]))),
        P.SHORTER_THAN_DECLARED,
        P.CRC_MISMATCH,
    ),
    hazard(
        "shorter than declared, CRC of the part",
        build(Part(local={"size": 999}, central={"size": 999})),
        P.SHORTER_THAN_DECLARED,
    ),
    hazard("bytes behind the stream", build(Part(packed=PACKED + b"hidden")), P.DATA_AFTER_STREAM),
    hazard("one byte behind the stream", build(Part(packed=PACKED + b"\0")), P.DATA_AFTER_STREAM),
    hazard("a second stream behind the first", build(Part(packed=PACKED * 2)), P.DATA_AFTER_STREAM),
    hazard("100 KB behind the stream", build(Part(packed=PACKED + bytes(100_000))), P.DATA_AFTER_STREAM),
    hazard("stream cut", build(Part(packed=PACKED[:-1])), P.DEFLATE_TRUNCATED),
    hazard("no stream at all", build(Part(packed=b"")), P.DEFLATE_TRUNCATED),
    hazard("no stream for an empty file", build(Part(data=b"", packed=b"")), P.DEFLATE_TRUNCATED),
    hazard(
        "stream without its last block",
        build(Part(packed=b"\x00" + struct.pack("<HH", len(TEXT), len(TEXT) ^ 0xFFFF) + TEXT)),
        P.DEFLATE_TRUNCATED,
    ),
    hazard("not a stream", build(Part(packed=b"\xff" * 20)), P.DEFLATE_CORRUPT),
    hazard("block type 3", build(Part(packed=b"\x07" + bytes(20))), P.DEFLATE_CORRUPT),
    hazard(
        "stored block whose lengths disagree",
        build(Part(packed=b"\x01\x05\x00\x00\x00hello")),
        P.DEFLATE_CORRUPT,
    ),
    hazard("distance in front of the beginning", build(Part(packed=b"\x03\x02\x00\x00")), P.DEFLATE_CORRUPT),
    hazard("zlib header in front", build(Part(packed=b"\x78\x9c" + PACKED)), P.DEFLATE_CORRUPT),
    hazard(
        "two members damaged",
        build(Part(packed=PACKED[:-1]), Part("b.src", packed=PACKED + b"\0")),
        (P.DEFLATE_TRUNCATED, "a.src"),
        (P.DATA_AFTER_STREAM, "b.src"),
    ),
    hazard(
        "a member that unpacks to 4 MB where 100 bytes are declared",
        build(Part(data=bytes(100), packed=BOMB)),
        P.LONGER_THAN_DECLARED,
    ),
]

DESCRIPTORS = [
    hazard("descriptor missing", build(Part(descriptor=b"")), P.DESCRIPTOR_MISSING),
    hazard("descriptor of 11 bytes", build(Part(descriptor=bytes(11))), P.DESCRIPTOR_MISSING),
    hazard("descriptor of 13 bytes", build(Part(descriptor=bytes(13))), P.UNCLAIMED_BYTES),
    hazard("descriptor of zeros", build(Part(descriptor=bytes(12))), P.DESCRIPTOR_MISMATCH),
    hazard(
        "descriptor: signature wrong",
        build(Part(descriptor=b"PK\7\x09" + struct.pack("<III", 0, 0, 0))),
        P.DESCRIPTOR_MISMATCH,
    ),
    hazard(
        "descriptor: no signature, four bytes too many",
        build(Part(descriptor=b"junk" + struct.pack("<III", 0x5DCCD1AF, len(PACKED), len(TEXT)))),
        P.DESCRIPTOR_MISMATCH,
    ),
    hazard(
        "descriptor: CRC wrong",
        build(Part(descriptor=struct.pack("<III", 7, len(PACKED), len(TEXT)))),
        P.DESCRIPTOR_MISMATCH,
    ),
    hazard(
        "descriptor: 64 bit, packed size wrong",
        build(Part(descriptor=b"PK\7\x08" + struct.pack("<IQQ", 7, 1, len(TEXT)))),
        P.DESCRIPTOR_MISMATCH,
    ),
    hazard(
        "stored, descriptor, an archive within",
        build(Part(data=INNER, method=0, descriptor="32s")),
        P.DESCRIPTOR_AMBIGUOUS,
    ),
    hazard(
        "stored, descriptor, a descriptor's signature within",
        build(Part(data=b"xxPK\7\x08" + bytes(12), method=0, descriptor="32s")),
        P.DESCRIPTOR_AMBIGUOUS,
    ),
    hazard(
        "stored, descriptor, a signature over a seam of 64 KiB",
        build(Part(data=bytes(65_534) + b"PK\3\4" + bytes(50), method=0, descriptor="32s")),
        P.DESCRIPTOR_AMBIGUOUS,
    ),
    hazard(
        "no descriptor flag, but a descriptor",
        build(Part(after=struct.pack("<III", 0, len(PACKED), len(TEXT)))),
        P.UNCLAIMED_BYTES,
    ),
]

HAZARDS = [
    *NO_ZIP, *TRUNCATED, *AROUND, *END_RECORDS, *PLACES, *LOCALS, *EXTRAS, *KINDS, *NAMES, *DATA,
    *DESCRIPTORS,
]  # fmt: skip
