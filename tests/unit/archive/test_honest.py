"""Archives as real programs write them are accepted, and their members come out byte for byte."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest

from tests.unit.archive.builder import (
    FILE,
    FOLDER,
    TOP_16,
    TOP_32,
    Part,
    build,
    deflate,
    extra,
    like_go,
    like_macos,
    unicode_path,
    zip64_extra,
)
from veripost.archive import CHUNK_BYTES, BytesSource, Limits, MemberReader, inflate, inspect, read_directory

TEXT = b"N10 G00 X0 Y0\n" * 20
PACKED = deflate(TEXT)
BIG = bytes(range(256)) * 2000  # over several chunks
STAMPS_LOCAL = extra(0x5455, b"\3" + bytes(8)) + extra(0x7875, b"\1\4\xe8\3\0\0\4\xe8\3\0\0")
STAMPS_CENTRAL = extra(0x5455, b"\3" + bytes(4)) + extra(0x7875, b"\1\4\xe8\3\0\0\4\xe8\3\0\0")
NTFS = extra(0x000A, bytes(4) + struct.pack("<HH", 1, 24) + bytes(24))
BOTH_TOP = {"size": TOP_32, "packed": TOP_32}
BOTH = zip64_extra(len(TEXT), len(PACKED))

HONEST = {
    "empty archive": build(),
    "empty archive with a comment": build(comment=b"nothing to see"),
    "one member": build(Part()),
    "one stored member": build(Part(method=0)),
    "an empty file, stored": build(Part(data=b"", method=0)),
    "an empty file, deflated": build(Part(data=b"")),
    "a large member": build(Part(data=BIG)),
    "a large stored member": build(Part(data=BIG, method=0)),
    "a member that ends with a chunk": build(Part(data=bytes(range(256)) * 256)),
    "incompressible stored blocks": build(Part(data=BIG, packed=deflate(BIG, 0))),
    "many members": build(*[Part(f"posts/{number}.src") for number in range(500)]),
    "comment": build(Part(), comment="Größe".encode("cp437")),
    "comment of 1 KiB": build(Part(), comment=b"x" * 1024),
    "comment on a member": build(Part(comment=b"roughing")),
    "directory in another order": build(Part(), Part("b.src"), Part("c.src"), order=[2, 0, 1]),
    "folders": build(Part("posts/", b"", method=0, attributes=FOLDER), Part("posts/a.src")),
    "folder after its file": build(Part("posts/a.src"), Part("posts/", b"", method=0, attributes=FOLDER)),
    "deflated folder, as old jar writes it": build(Part("posts/", b"", attributes=0)),
    "attributes of Windows": build(Part(attributes=0x20, made_by=20)),
    "attributes of 7-Zip on Windows": build(Part(attributes=0o100666 << 16 | 0x8020, made_by=63)),
    "no attributes": build(Part(attributes=0, made_by=0)),
    "time stamps and owner": build(Part(local_extra=STAMPS_LOCAL, central_extra=STAMPS_CENTRAL)),
    "NTFS time stamps in the directory alone": build(Part(central_extra=NTFS)),
    "Java's marker in the local header alone": build(Part(local_extra=extra(0xCAFE, b""))),
    "padding as zipalign writes it": build(Part(method=0, local_extra=extra(0xD935, bytes(30)))),
    "same stamp field twice": build(Part(central_extra=extra(0x5455, bytes(5)) * 2)),
    "descriptor, 32 bit": build(Part(descriptor="32")),
    "descriptor, 32 bit, signature": build(Part(descriptor="32s")),
    "descriptor, 64 bit": build(Part(descriptor="64")),
    "descriptor, 64 bit, signature": build(Part(descriptor="64s")),
    "descriptors among others": build(Part(descriptor="32s"), Part("b.src"), Part("c.src", descriptor="32")),
    "descriptor, sizes filled in": build(
        Part(descriptor="32s", local={"crc": zlib.crc32(TEXT), "packed": len(PACKED), "size": len(TEXT)})
    ),
    "descriptor, CRC filled in": build(Part(descriptor="32s", local={"crc": zlib.crc32(TEXT)})),
    "descriptor of a stored member": build(Part(method=0, descriptor="32s")),
    "descriptor of an empty stored member": build(Part(data=b"", method=0, descriptor="32s")),
    "descriptor of a large member": build(Part(data=BIG, descriptor="32s")),
    "descriptor whose CRC looks like its signature": build(
        Part(data=b"\xfd\x8b\x26\xcf", method=0, descriptor="32")
    ),
    "ZIP64 in the local header, as Python's force_zip64": build(Part(local=BOTH_TOP, local_extra=BOTH)),
    "ZIP64 in both headers, as Info-ZIP from a pipe": build(
        Part(local=BOTH_TOP, local_extra=BOTH, central=BOTH_TOP, central_extra=BOTH)
    ),
    "ZIP64, streamed, as Info-ZIP": build(
        Part(descriptor="64s", local=BOTH_TOP, local_extra=zip64_extra(0, 0))
    ),
    "ZIP64, streamed, sizes zero": build(Part(descriptor="64s", local_extra=zip64_extra(0, 0))),
    "ZIP64, sizes written twice": build(Part(local_extra=BOTH)),
    "ZIP64, one size": build(Part(central={"size": TOP_32}, central_extra=zip64_extra(len(TEXT)))),
    "ZIP64, offset": build(Part(central={"offset": TOP_32}, central_extra=zip64_extra(0))),
    "ZIP64, disk": build(Part(central={"disk": TOP_16}, central_extra=extra(1, bytes(4)))),
    "ZIP64 end records": build(Part(), zip64=True),
    "ZIP64 end records, numbers written twice": build(
        Part(),
        zip64=True,
        end={
            "entries": 1,
            "entries_here": 1,
            "directory_size": 51,
            "directory_offset": 30 + 5 + len(PACKED),
        },
    ),
    "ZIP64 end records, disks at their maximum": build(
        Part(), zip64=True, end={"disk": TOP_16, "directory_disk": TOP_16}
    ),
    "ZIP64 end records of an empty archive": build(zip64=True),
    "an archive within, deflated": build(Part("inner.zip", build(Part()))),
    "an archive within, stored": build(Part("inner.zip", build(Part()), method=0)),
    "a compression level in the flags": build(Part(flags=0x0006)),
    "UTF-8 name": build(Part("Größe/Müller.src", flags=0x800)),
    "UTF-8 name without the flag, decomposed, as macOS": build(Part("Mu\u0308ller.src")),
    "code page 437": build(Part(b"M\x81ller.src")),
    "Unicode path that says the same": build(
        Part(b"M\x81ller.src", central_extra=unicode_path(b"M\x81ller.src", "Müller.src"))
    ),
    "Unicode path of a name in code page 852": build(
        Part(b"\x9d\xa2\xa7\xab.src", central_extra=unicode_path(b"\x9d\xa2\xa7\xab.src", "łóžź.src"))
    ),
    "Unicode path of a name in GBK": build(
        Part(b"\xd6\xd0\xce\xc4.src", central_extra=unicode_path(b"\xd6\xd0\xce\xc4.src", "中文.src"))
    ),
    "Unicode path of a character that the code page lacks": build(
        Part(b"_15.src", central_extra=unicode_path(b"_15.src", "€15.src"))
    ),
    "dots in a name": build(Part("a..b/...src/x..")),
    "hidden file": build(Part(".profile")),
    "colon later in a name": build(Part("posts: mill.src")),
    "emoji with a joiner": build(Part("👨\u200d🔧.src")),
    "longest part": build(Part("x" * 251 + ".src")),
    "longest name": build(Part("/".join(["x" * 204] * 5))),
    "deepest name": build(Part("x/" * 31 + "a.src")),
    "folder and name alike": build(Part("a/a"), Part("a/b/a")),
    "folders in two spellings": build(Part("Posts/a.src"), Part("posts/b.src")),
    "junk of operating systems": build(Part("__MACOSX/._a.src"), Part(".DS_Store"), Part("Thumbs.db")),
    "text that packs well": build(Part(data=b"".join(b"N%d G00 X0\n" % n for n in range(200_000)))),
    "1 MiB of zeros": build(Part(data=bytes(1 << 20))),
    "future version of the writer": build(Part(made_by=3 << 8 | 99)),
    "a stream of Go's": build(*like_go({"posts/": b"", "posts/ä.src": TEXT, "posts/empty.ctl": b""})),
    "macOS": build(*like_macos({"posts/": b"", "posts/ä.src": TEXT, "posts/empty.ctl": b""})),
    "an ordinary file's mode": build(Part(attributes=FILE | 0x20)),
}  # fmt: skip
ROWS = pytest.mark.parametrize("data", HONEST.values(), ids=HONEST.keys())
Decoder = Callable[[], inflate.Inflater]


@pytest.fixture(params=[inflate.new_inflater, inflate.ZlibInflater], ids=["isal", "zlib"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    monkeypatch.setattr(inflate, "new_inflater", request.param)
    chosen: Decoder = request.param
    return chosen


@ROWS
def test_is_accepted(data: bytes, decoder: Decoder) -> None:
    report = inspect(BytesSource(data), Limits())

    assert [problem.as_dict() for problem in report.problems] == []
    assert report.accepted
    assert report.directory.accepted
    assert len(report.members) == len(report.directory.members)


@ROWS
@pytest.mark.parametrize("step", [1, 7, 65_536, 1 << 30])
def test_content_is_what_the_standard_library_reads(data: bytes, step: int, decoder: Decoder) -> None:
    if len(data) > 50_000:
        step = max(step, 1000)
    directory = read_directory(BytesSource(data), Limits())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        expected = {info.header_offset: archive.read(info) for info in archive.infolist()}

    for member in directory.members:
        span = data[member.header_offset : member.end_offset]
        pieces = (memoryview(span)[at : at + step] for at in range(0, len(span), step))
        reader = MemberReader(member, pieces, Limits())
        chunks = list(reader)

        assert reader.problems == ()
        assert b"".join(chunks) == expected[member.header_offset]
        assert reader.sha256 == hashlib.sha256(expected[member.header_offset]).hexdigest()
        assert reader.size == member.size
        assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)
        assert all(isinstance(chunk, bytes) for chunk in chunks)


@ROWS
def test_spans_tile_the_archive(data: bytes) -> None:
    directory = read_directory(BytesSource(data), Limits())

    edges = [directory.entries_offset, *(member.end_offset for member in directory.members)]
    assert [member.header_offset for member in directory.members] == edges[:-1]
    assert [member.index for member in directory.members] == list(range(len(directory.members)))
    assert edges[-1] == directory.directory_offset


def test_names_are_decoded_as_their_flags_and_fields_say() -> None:
    names = {
        "UTF-8 name": "Größe/Müller.src",
        "UTF-8 name without the flag, decomposed, as macOS": "Mu\u0308ller.src",
        "code page 437": "Müller.src",
        "Unicode path of a name in code page 852": "łóžź.src",
        "Unicode path of a name in GBK": "中文.src",
        "Unicode path of a character that the code page lacks": "€15.src",
    }

    for row, name in names.items():
        assert [member.name for member in read_directory(BytesSource(HONEST[row]), Limits()).members] == [
            name
        ]
