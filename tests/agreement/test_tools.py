"""What the gate accepts is, byte for byte, what `unzip` and `7z` extract, whichever tool wrote the archive.

Needs Info-ZIP's zip and unzip, 7z, bsdtar and jar (Debian: zip unzip p7zip-full libarchive-tools, any JDK); a
tool that is missing fails the tests that need it.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from tests.unit.archive.builder import Part, build, like_go, like_macos
from veripost.archive import FileSource, Limits, MemberReader, Report, inspect, read_directory

GENEROUS = Limits(
    archive_bytes=1 << 40,
    entries=1 << 20,
    directory_bytes=1 << 30,
    member_bytes=1 << 40,
    total_bytes=1 << 42,
    ratio=2000,
)
OVER_4_GIB = (4 << 30) + 12_345
PICK = random.Random(11)
FILES = {
    "post/Mill 5x.SRC": b"".join(b"N%d G01 X%.3f\n" % (n, PICK.uniform(-99, 99)) for n in range(40_000)),
    "post/lib/Größe.LIB": "; Maß in mm\n".encode() * 50,
    "post/lib/empty.CTL": b"",
    "post/random.KIN": PICK.randbytes(300_000),
    "post/one.ATR": b"x",
    "post/lib/deep/er/a.PINF": b"P" * 70_000,
}


def run(*command: str, cwd: Path, into: Path | None = None, feed: bytes | None = None) -> None:
    """Run a tool in `cwd`, its output piped into the file `into`; fail when it is missing or fails."""
    program = shutil.which(command[0])
    assert program, f"{command[0]} is not installed"
    done = subprocess.run(
        [program, *command[1:]],
        cwd=cwd,
        input=feed,
        stdin=subprocess.DEVNULL if feed is None else None,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()[-2000:]
    if into:
        into.write_bytes(done.stdout)


def tool(*command: str) -> Callable[[Path, Path], None]:
    """Return a writer that runs `command` in the folder of files, `OUT` standing for the archive."""
    return lambda folder, out: run(*[str(out) if word == "OUT" else word for word in command], cwd=folder)


def piped(*command: str) -> Callable[[Path, Path], None]:
    """Return a writer that runs `command` in the folder of files and takes the archive from its output."""
    return lambda folder, out: run(*command, cwd=folder, into=out)


class Unseekable(io.RawIOBase):
    """A file that can only be written forwards, as a socket is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._file.write(cast(bytes, data))


def python_streamed(folder: Path, out: Path) -> None:
    with out.open("wb") as file, zipfile.ZipFile(Unseekable(file), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))


def python_force_zip64(folder: Path, out: Path) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
            with archive.open(str(path.relative_to(folder)), "w", force_zip64=True) as member:
                member.write(path.read_bytes())


def python_make_archive(folder: Path, out: Path) -> None:
    shutil.make_archive(str(out.with_suffix("")), "zip", folder)


BSDTAR = ("bsdtar", "-cf", "OUT", "--format", "zip")
WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "zip": tool("zip", "-qr", "OUT", "post"),
    "zip, stored": tool("zip", "-qr0", "OUT", "post"),
    "zip, best": tool("zip", "-qr9", "OUT", "post"),
    "zip, without folders and extra fields": tool("zip", "-qrDX", "OUT", "post"),
    "zip, descriptors": tool("zip", "-qr", "-fd", "OUT", "post"),
    "zip, ZIP64 forced": tool("zip", "-qr", "-fz", "OUT", "post"),
    "zip, into a pipe": piped("zip", "-qr", "-", "post"),
    "zip, into a pipe, without ZIP64": piped("zip", "-qr", "-fz-", "-", "post"),
    "7z": tool("7z", "a", "-tzip", "-bso0", "OUT", "post"),
    "7z, stored": tool("7z", "a", "-tzip", "-bso0", "-mx=0", "OUT", "post"),
    "7z, best, UTF-8": tool("7z", "a", "-tzip", "-bso0", "-mx=9", "-mcu=on", "OUT", "post"),
    "7z, time stamps": tool("7z", "a", "-tzip", "-bso0", "-mtm=on", "-mtc=on", "OUT", "post"),
    "7z, into a pipe": piped("7z", "a", "-tzip", "-bso0", "-so", "unused.zip", "post"),
    "jar": tool("jar", "cf", "OUT", "post"),
    "jar, stored, without manifest": tool("jar", "cf0M", "OUT", "post"),
    "jar, into a pipe": piped("jar", "cM", "post"),
    "bsdtar": tool(*BSDTAR, "post"),
    "bsdtar, stored": tool(*BSDTAR, "--options", "zip:compression=store", "post"),
    "bsdtar, ZIP64": tool(*BSDTAR, "--options", "zip:zip64", "post"),
    "python -m zipfile": tool(sys.executable, "-m", "zipfile", "-c", "OUT", "post"),
    "python, into a stream": python_streamed,
    "python, ZIP64 forced": python_force_zip64,
    "python, shutil": python_make_archive,
    "Go-style": lambda _, out: cast(None, out.write_bytes(build(*like_go({"post/": b"", **FILES})))),
    "macOS-style": lambda _, out: cast(None, out.write_bytes(build(*like_macos({"post/": b"", **FILES})))),
    "Go-style, ZIP64 end records": lambda _, out: cast(
        None, out.write_bytes(build(*like_go(FILES), zip64=True))
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def gate(out: Path, limits: Limits = GENEROUS) -> dict[str, bytes]:
    """Return what the gate reads, every member verified."""
    data = out.read_bytes()
    with out.open("rb") as file:
        directory = read_directory(FileSource(file), limits)
    assert directory.problems == ()
    contents = {}
    for member in directory.members:
        reader = MemberReader(member, [data[member.header_offset : member.end_offset]], limits)
        content = b"".join(reader)
        assert reader.problems == ()
        if not member.is_dir:
            contents[member.name] = content
    return contents


def extracted(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def inspected(out: Path) -> Report:
    with out.open("rb") as file:
        return inspect(FileSource(file), GENEROUS)


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
def test_bytes_are_what_unzip_and_7z_extract(
    writer: Callable[[Path, Path], None], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zip"
    writer(folder, out)
    contents = gate(out, Limits())
    by_unzip, by_7z = tmp_path / "unzip", tmp_path / "7z"
    by_unzip.mkdir()

    run("unzip", "-q", str(out), cwd=by_unzip)
    run("7z", "x", "-bso0", f"-o{by_7z}", str(out), cwd=tmp_path)

    assert extracted(by_7z) == contents
    # unzip takes jar's UTF-8 names for a code page in spite of their flag: the bytes are what counts here.
    assert sorted(extracted(by_unzip).values()) == sorted(contents.values())
    assert set(FILES.values()) <= set(contents.values())


LARGE_WRITERS = {
    "zip": tool("zip", "-q1", "OUT", "zeros", "small"),
    "zip, into a pipe": piped("zip", "-q1", "-", "zeros", "small"),
    "7z": tool("7z", "a", "-tzip", "-bso0", "-mx=1", "OUT", "zeros", "small"),
    "bsdtar": tool(*BSDTAR, "--options", "compression-level=1", "zeros", "small"),
}  # fmt: skip


@pytest.mark.parametrize("writer", LARGE_WRITERS.values(), ids=LARGE_WRITERS.keys())
def test_members_over_4_gib(writer: Callable[[Path, Path], None], tmp_path: Path) -> None:
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(OVER_4_GIB)
    (tmp_path / "small").write_bytes(b"small")
    out = tmp_path / "out.zip"
    writer(tmp_path, out)
    (tmp_path / "zeros").unlink()

    report = inspected(out)

    assert report.problems == ()
    assert {v.member.name: (v.size, v.member.crc32) for v in report.members} == {
        "zeros": (OVER_4_GIB, crc_of_zeros(OVER_4_GIB)),
        "small": (5, zlib.crc32(b"small")),
    }


def crc_of_zeros(length: int) -> int:
    """Return the CRC-32 of `length` zero bytes, a MiB at a time."""
    crc, block = 0, bytes(1 << 20)
    for _ in range(length >> 20):
        crc = zlib.crc32(block, crc)
    return zlib.crc32(bytes(length & (1 << 20) - 1), crc)


def test_offsets_over_4_gib_in_a_sparse_archive(tmp_path: Path) -> None:
    """Stored zeros as a hole, and a member behind it: sizes, offset and directory all need ZIP64."""
    out = tmp_path / "sparse.zip"
    write_sparse(out)

    report = inspected(out)

    assert report.problems == ()
    assert [verdict.size for verdict in report.members] == [OVER_4_GIB, 5]
    assert out.stat().st_blocks * 512 < 1 << 20
    run("unzip", "-tq", str(out), cwd=tmp_path)
    run("7z", "t", "-bso0", str(out), cwd=tmp_path)


def write_sparse(out: Path) -> None:
    with out.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("zeros")
        info.file_size = OVER_4_GIB
        with archive.open(info, "w", force_zip64=True):
            pass
        # What `zipfile` wrote says that the member is empty; its data becomes a hole.
        header = info.header_offset + len(info.FileHeader(zip64=True))
        file.seek(header + OVER_4_GIB)
        info.file_size = info.compress_size = OVER_4_GIB
        info.CRC = crc_of_zeros(OVER_4_GIB)
        archive.start_dir = file.tell()
        file.seek(info.header_offset)
        file.write(info.FileHeader(zip64=True))
        file.seek(archive.start_dir)
        archive.writestr("small", b"small")


def test_more_entries_than_16_bits_count(tmp_path: Path) -> None:
    out = tmp_path / "many.zip"
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(70_000):
            archive.writestr(f"{number // 1000}/{number}.src", b"")

    report = inspected(out)

    assert report.problems == ()
    assert len(report.members) == 70_000
    run("7z", "t", "-bso0", str(out), cwd=tmp_path)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (tool("zip", "-qr", "-fz", "-fd", "OUT", "post"), "zip64_locator_missing"),
        (piped("bsdtar", "-c", "--format", "zip", "post"), "trailing_data"),
        (lambda folder, out: run("zip", "-q", str(out), "-", cwd=folder, feed=b"N10\n"), "special_file"),
        (lambda _, out: cast(None, out.write_bytes(build(Part(flags=1)))), "encrypted"),
    ],
    ids=["zip's broken ZIP64 records", "bsdtar's padded pipe", "zip of standard input", "encrypted"],
)
def test_known_refusals_of_real_tools(
    make: Callable[[Path, Path], None], code: str, folder: Path, tmp_path: Path
) -> None:
    """What real tools write and the gate refuses all the same: docs/archive-rules.md says why."""
    out = tmp_path / "out.zip"
    make(folder, out)

    assert {problem.code.value for problem in inspected(out).problems} == {code}
