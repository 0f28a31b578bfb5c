"""Hypothesis strategies for archives that are nearly right: records with wrong fields, bytes moved about."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from tests.unit.archive.builder import (
    CENTRAL_FIELDS,
    END64_FIELDS,
    END_FIELDS,
    LOCAL_FIELDS,
    LOCATOR_FIELDS,
    Part,
    build,
    deflate,
    extra,
    unicode_path,
    zip64_extra,
)
from tests.unit.archive.hazards import HAZARDS
from tests.unit.archive.test_honest import HONEST

NUMBERS = st.sampled_from(
    [0, 1, 2, 8, 20, 22, 30, 45, 46, 56, 99, 255, 0x7FFF, 0xFFFE, 0xFFFF]
) | st.integers(0, 400)
LARGE = NUMBERS | st.sampled_from([0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
HUGE = LARGE | st.sampled_from([1 << 32, 1 << 62, (1 << 63) - 1, (1 << 64) - 1])
SIGNATURES = st.sampled_from(
    [b"PK\1\2", b"PK\3\4", b"PK\5\5", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\6\x08", b"PK\7\x08"]
)
NAMES = st.sampled_from(
    ["a.src", "A.SRC", "b.lib", "a", "a/", "a/b.src", "../a", "/a", "a\\b", "a\0b", "ä.src", "a\u0308.src",
     ".", "..", "C:a", "a//b", "\u202ea", "x" * 300, ""]
)  # fmt: skip
RAW_NAMES = NAMES.map(str.encode) | st.binary(max_size=12) | st.sampled_from([b"\x81.src", b"\xff", b"_.src"])
CONTENT = (
    st.binary(max_size=200)
    | st.sampled_from([b"", b"N10 G00 X0 Y0\n" * 20, bytes(5000), bytes(range(256)) * 300, build(Part())])
)  # fmt: skip
EXTRAS = (
    st.just(b"")
    | st.binary(max_size=12)
    | st.lists(HUGE, max_size=4).map(lambda values: zip64_extra(*values))
    | st.builds(extra, st.sampled_from([1, 0x5455, 0x7075, 0xCAFE, 0x7875]), st.binary(max_size=24))
    | st.builds(unicode_path, RAW_NAMES, NAMES)
)
BIG_FIELDS = {"crc", "packed", "size", "attributes", "offset", "directory_size", "directory_offset"}
HUGE_IN = {"rest", "entries_here", "entries", "directory_size", "directory_offset", "offset"}
WIDE_IN = {"disk", "directory_disk", "disks"}


def _fields(names: tuple[str, ...], *, zip64: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    def of(name: str) -> st.SearchStrategy[Any]:
        if name == "signature":
            return SIGNATURES
        if zip64 and name in HUGE_IN:
            return HUGE
        return LARGE if name in BIG_FIELDS or (zip64 and name in WIDE_IN) else NUMBERS

    chosen = st.lists(st.sampled_from(names), max_size=2, unique=True)
    return st.just({}) | chosen.flatmap(lambda some: st.fixed_dictionaries({name: of(name) for name in some}))


@st.composite
def parts(draw: st.DrawFn) -> Part:
    """Draw a member in which mostly little is wrong."""
    data = draw(CONTENT)
    packed = draw(
        st.none()
        | st.just(deflate(data, 0))
        | st.just(deflate(data) + b"\0")
        | st.just(deflate(data)[:-1])
        | st.binary(max_size=40)
    )
    honest = draw(st.booleans())
    return Part(
        name=draw(RAW_NAMES),
        data=data,
        method=draw(st.sampled_from([8, 8, 8, 0, 0, 9, 99])),
        flags=draw(st.sampled_from([0, 0, 0, 2, 0x800, 1, 8, 0x20, 0x2000])),
        packed=None if honest else packed,
        descriptor=draw(st.sampled_from([None, None, "32", "32s", "64", "64s", b"", bytes(16)])),
        local_extra=draw(EXTRAS),
        central_extra=draw(EXTRAS),
        comment=draw(st.sampled_from([b"", b"", b"comment", b"PK\5\6"])),
        local={} if honest else draw(_fields(LOCAL_FIELDS)),
        central={} if honest else draw(_fields(CENTRAL_FIELDS)),
        hidden=draw(st.sampled_from([False] * 9 + [True])),
        after=draw(st.sampled_from([b""] * 9 + [b"hidden", b"PK\7\x08" + bytes(12)])),
    )


@st.composite
def built(draw: st.DrawFn) -> bytes:
    """Draw an archive out of the builder."""
    zip64 = draw(st.booleans())
    honest = draw(st.booleans())
    return build(
        *draw(st.lists(parts(), max_size=4)),
        prefix=draw(st.sampled_from([b""] * 9 + [b"x"])),
        comment=draw(st.sampled_from([b"", b"", b"comment"]) | st.binary(max_size=40)),
        before_directory=draw(st.sampled_from([b""] * 9 + [b"x"])),
        before_end=draw(st.sampled_from([b""] * 9 + [b"x"])),
        suffix=draw(st.sampled_from([b""] * 9 + [b"x"])),
        zip64=zip64,
        end={} if honest else draw(_fields(END_FIELDS)),
        end64={} if honest else draw(_fields(END64_FIELDS, zip64=True)),
        locator={} if honest else draw(_fields(LOCATOR_FIELDS, zip64=True)),
        extensible=draw(st.sampled_from([b""] * 9 + [b"x" * 8])),
    )


KNOWN = st.sampled_from(
    [row.data for row in HAZARDS if len(row.data) < 5_000] + [d for d in HONEST.values() if len(d) < 5_000]
)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Draw an archive, built or known, with up to four changes at any place."""
    data = bytearray(draw(built() | KNOWN))
    other = draw(KNOWN)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["byte", "number", "cut", "repeat", "splice", "insert", "end"])):
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                shape, value = draw(st.sampled_from(["<H", "<I", "<Q"])), draw(HUGE)
                width = struct.calcsize(shape)
                data[at : at + width] = struct.pack(shape, value % (1 << 8 * width))
            case "cut":
                del data[at : at + draw(st.integers(1, 60))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 60))]
            case "splice":
                start = draw(st.integers(0, len(other)))
                data[at:at] = other[start : start + draw(st.integers(1, 200))]
            case "insert":
                data[at:at] = draw(SIGNATURES | st.binary(max_size=8))
            case "end":
                del data[at:]
                data += other
    return bytes(data)
