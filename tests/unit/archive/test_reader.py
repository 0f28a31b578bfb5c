"""The member reader's contract towards its caller: verdict last, source failures out loud."""

from __future__ import annotations

import random
import sys
import zlib
from importlib import reload

import pytest

from tests.unit.archive.builder import Part, build, deflate
from veripost.archive import BytesSource, Limits, Member, MemberReader, inflate, read_directory

BIG = random.Random(7).randbytes(300_000)


def member_of(data: bytes) -> Member:
    (member,) = read_directory(BytesSource(data), Limits()).members
    return member


def test_there_is_no_verdict_before_the_last_chunk() -> None:
    data = build(Part(data=BIG))
    member = member_of(data)
    reader = MemberReader(member, [data[: member.end_offset]], Limits())

    assert next(iter(reader))
    with pytest.raises(RuntimeError, match="no verdict"):
        _ = reader.problems
    assert reader.sha256 == ""


@pytest.mark.parametrize("part", [Part(data=BIG), Part(data=BIG, method=0), Part(), Part(descriptor="32s")])
@pytest.mark.parametrize("missing", [1, 100, 1 << 30])
def test_a_source_that_ends_early_is_no_fault_of_the_archive(part: Part, missing: int) -> None:
    data = build(part)
    member = member_of(data)
    span = data[: member.end_offset]
    reader = MemberReader(member, [span[: max(0, len(span) - missing)]], Limits())

    with pytest.raises(EOFError, match="fewer bytes"):
        list(reader)
    with pytest.raises(RuntimeError, match="no verdict"):
        _ = reader.problems


def test_pieces_may_be_empty() -> None:
    data = build(Part(data=BIG))
    member = member_of(data)
    span = data[: member.end_offset]
    reader = MemberReader(member, [b"", span[:50], b"", memoryview(b""), span[50:]], Limits())

    assert b"".join(reader) == BIG
    assert reader.problems == ()


def test_reading_stops_where_the_content_cannot_be_read_on() -> None:
    data = build(Part(packed=b"\xff" * 200_000))
    member = member_of(data)
    span = data[: member.end_offset]
    pieces = iter([span[at : at + 1000] for at in range(0, len(span), 1000)])

    assert list(MemberReader(member, pieces, Limits())) == []
    assert sum(1 for _ in pieces) > 195


def test_without_isal_the_standard_library_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    try:
        fallback = reload(inflate)
        assert fallback.new_inflater is fallback.ZlibInflater
        assert fallback.crc32 is zlib.crc32
        assert set(fallback.CORRUPT_STREAM) == {zlib.error}
    finally:
        monkeypatch.undo()
        reload(inflate)
    assert inflate.new_inflater is not inflate.ZlibInflater


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("room", [1, 100, 65_536])
@pytest.mark.parametrize("data", [b"", b"x", BIG, bytes(100_000)], ids=["empty", "one", "random", "zeros"])
def test_both_decoders_go_the_same_way(data: bytes, step: int, room: int) -> None:
    """Output, end of stream and what is left over, whatever the sizes of the steps."""
    if 1 in {room, step}:
        data = data[:2000]
    packed = deflate(data) + b"left over"
    ways = []
    for decoder in (inflate.new_inflater(), inflate.ZlibInflater()):
        out, fed = b"", 0
        while not decoder.eof:
            piece = b""
            if decoder.needs_input:
                piece = packed[fed : fed + step]
                fed += len(piece)
            chunk = decoder.decompress(piece, room)
            assert len(chunk) <= room
            out += chunk
        ways.append((out, decoder.eof, (decoder.unused_data + packed[fed:])))

    assert ways == [(data, True, b"left over")] * 2


# Dynamic blocks with Huffman codes that no correct encoder makes; found by comparing both decoders.
INCOMPLETE = bytes.fromhex(
    "05c1411100400802c03f29a8e038385a8237fd93dcae25a62458ccdcc0d7cc6cc35d4c15ac637a1f3e"
)
# A last dynamic block (RFC 1951, 3.2.7) with 257 literal codes, 1 distance code and 19 code lengths, all 1.
OVERSUBSCRIBED = (1 | 2 << 1 | 15 << 13 | sum(1 << 17 + 3 * at for at in range(19))).to_bytes(60, "little")


def decoded(decoder: inflate.Inflater, packed: bytes) -> bytes | None:
    try:
        out = decoder.decompress(packed, 1000)
    except inflate.CORRUPT_STREAM:
        return None
    return out if decoder.eof else None


def test_codes_that_could_be_read_in_two_ways_are_refused_by_both_decoders() -> None:
    assert decoded(inflate.new_inflater(), OVERSUBSCRIBED) is None
    assert decoded(inflate.ZlibInflater(), OVERSUBSCRIBED) is None


def test_isal_takes_codes_that_leave_combinations_unused() -> None:
    """A known difference, argued in docs/archive-rules.md: such a stream has one reading, zlib refuses it."""
    assert decoded(inflate.new_inflater(), INCOMPLETE)
    assert decoded(inflate.ZlibInflater(), INCOMPLETE) is None
