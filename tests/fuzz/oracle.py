"""What must hold for any bytes at all, and what must hold for bytes that the gate accepts."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import time
import zipfile
import zlib
from unittest import mock

from veripost.archive import BytesSource, Limits, Member, MemberReader, Report, inflate, inspect
from veripost.errors import Problem

LIMITS = Limits(
    archive_bytes=4 << 20, entries=200, member_bytes=2 << 20, total_bytes=4 << 20, directory_bytes=1 << 20
)
SECONDS = 1.0


def check(data: bytes) -> Report:
    """Inspect `data` in every way there is; AssertionError where they disagree or the verdict is wrong."""
    start = time.process_time()
    report = inspect(BytesSource(data), LIMITS)
    seconds = time.process_time() - start
    assert seconds < SECONDS, f"{seconds:.1f} s for {len(data)} bytes"

    for problem in report.problems:
        _check_wording(problem)
    with mock.patch.object(inflate, "new_inflater", inflate.ZlibInflater):
        other = inspect(BytesSource(data), LIMITS)
    _check_decoders_agree(report, other)
    assert other.directory == report.directory
    _check_pieces(data, report)
    if report.accepted and other.accepted:
        _check_tiling(data, report)
        _check_against_zipfile(data, report)
        _check_forward(data, report)
    return report


def _check_decoders_agree(isal: Report, zlib: Report) -> None:
    """Compare verdicts, not codes: ISA-L decodes ahead, so it may see damage where zlib stopped at the size.

    ISA-L takes Huffman codes that leave combinations unused, zlib does not; the content is the same for all
    who take them, and the oracle knows them by zlib's message.
    """
    for one, other in zip(isal.members, zlib.members, strict=True):
        if one.sha256 != other.sha256:
            assert not other.sha256, "only zlib verifies it, or with other content"
            assert " set;" in (other.problems[0].detail or ""), other.problems


def _check_wording(problem: Problem) -> None:
    for text in (problem.message, problem.detail, problem.hint):
        assert text
        assert text.isprintable(), problem
    assert problem.member is None or problem.member.isprintable(), problem
    json.dumps(problem.as_dict()).encode()


def _check_pieces(data: bytes, report: Report) -> None:
    """The verdict must not depend on how the bytes arrive."""
    for verdict in report.members:
        member = verdict.member
        span = data[member.header_offset : member.end_offset]
        step = max(1, len(span) // 7)
        pieces = [span[at : at + step] for at in range(0, len(span), step)]
        reader = MemberReader(member, pieces, LIMITS)
        content = b"".join(reader)
        assert bool(reader.problems) == bool(verdict.problems)
        assert reader.sha256 == verdict.sha256
        assert len(content) == reader.size <= member.size
        if not reader.problems:
            assert hashlib.sha256(content).hexdigest() == reader.sha256
            assert zlib.crc32(content) == member.crc32


def _check_tiling(data: bytes, report: Report) -> None:
    position = 0
    for member in report.directory.members:
        assert member.header_offset == position
        position = member.end_offset
    assert position == report.directory.directory_offset < len(data)


def _check_against_zipfile(data: bytes, report: Report) -> None:
    """What is accepted must be read by the standard library, with the same content under the same name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = {info.header_offset: info for info in archive.infolist()}
        assert len(infos) == len(archive.infolist()) == len(report.members)
        for verdict in report.members:
            info = infos[verdict.member.header_offset]
            assert hashlib.sha256(archive.read(info)).hexdigest() == verdict.sha256
            if verdict.member.raw_name.isascii() and b"\x75\x70" not in info.extra:
                assert info.filename == verdict.member.name


def _check_forward(data: bytes, report: Report) -> None:
    """A reader that only goes forward, by local headers, must find the same members in the same places."""
    for member in report.directory.members:
        header = struct.unpack_from("<4sHHHHHIIIHH", data, member.header_offset)
        signature, _, flags, method, _, _, _, packed, _, name_length, extra_length = header
        assert signature == b"PK\3\4"
        assert (flags, method) == (member.flags, member.method)
        start = member.header_offset + 30 + name_length + extra_length
        assert data[start - extra_length - name_length : start - extra_length] == member.raw_name
        assert _data_end(data, start, member, packed) <= member.end_offset


def _data_end(data: bytes, start: int, member: Member, packed: int) -> int:
    end = start + member.compressed_size
    if not member.has_descriptor:
        assert packed in {member.compressed_size, 0xFFFFFFFF}
        assert end == member.end_offset
    elif member.method == 8:
        decoder = zlib.decompressobj(-15)
        decoder.decompress(data[start : member.end_offset])
        assert decoder.eof
        assert member.end_offset - len(decoder.unused_data) == end
    else:
        # By signature: the first one behind the start must be the descriptor's, or the next record's.
        found = min(at for s in (b"PK\7\x08", b"PK\3\4", b"PK\1\2") if (at := data.find(s, start)) >= 0)
        assert end <= found <= member.end_offset
    return end
