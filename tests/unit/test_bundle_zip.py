"""The ZIP writer of bundles: one stream, in constant memory, ZIP64 where it must be."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
import zipfile
from typing import Any, cast

import pytest

from veripost.archive import BytesSource, Limits, inspect
from veripost.bundles.building import BundledFile, write_zip
from veripost.errors import BundleFailed
from veripost.storage import ObjectReader


class _Reader:
    """An object of so many equal bytes, of which none is kept."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.longest = 0

    def read_at(self, _offset: int, length: int) -> bytes:
        self.longest = max(self.longest, length)
        return b"x" * length


class _Sink:
    """Write-only: no position, no way back. Keeps what it is told to keep."""

    def __init__(self, *, keep: bool) -> None:
        self.kept = io.BytesIO()
        self._keep = keep

    def write(self, data: bytes, /) -> int:
        if self._keep:
            self.kept.write(data)
        return len(data)

    def flush(self) -> None: ...


def _file(name: str, size: int) -> BundledFile:
    digest = hashlib.sha256()
    for start in range(0, size, 1 << 20):
        digest.update(b"x" * min(1 << 20, size - start))
    return BundledFile(name, name, size, digest.hexdigest())


def _write(files: list[BundledFile], sink: _Sink, **changed: int) -> None:
    sizes = {file.key: file.size for file in files} | changed
    write_zip(files, lambda key: cast("ObjectReader", _Reader(sizes[key])), sink)


def test_memory_does_not_grow_with_the_package() -> None:
    peaks = []
    for size in (32 << 20, 256 << 20):
        file = _file("BIG.CTL", size)
        tracemalloc.start()
        _write([file], _Sink(keep=False))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 16 << 20
    assert peaks[1] < peaks[0] * 1.2


@pytest.mark.parametrize("limit", [zipfile.ZIP64_LIMIT, 10_000])
def test_large_entries_are_zip64(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    sink = _Sink(keep=True)
    files = [_file("A.SRC", 9_000), _file("B.LIB", 11_000), _file("C.LIB", 0)]
    _write(files, sink)
    data = sink.kept.getvalue()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {name: len(archive.read(name)) for name in archive.namelist()} == {
            file.filename: file.size for file in files
        }
    if limit == zipfile.ZIP64_LIMIT:
        assert inspect(BytesSource(data), Limits()).accepted


def test_many_files_keep_their_order() -> None:
    sink = _Sink(keep=True)
    files = [_file(f"F{number:04}.LIB", number) for number in range(300)]
    _write(files, sink)
    with zipfile.ZipFile(sink.kept) as archive:
        assert archive.namelist() == [file.filename for file in files]


@pytest.mark.parametrize("changed", [{"B": 5}, {"B": 0}])
def test_another_size_is_found_before_a_byte_is_read(changed: dict[str, int]) -> None:
    with pytest.raises(BundleFailed, match="were recorded"):
        _write([_file("A", 3), _file("B", 4)], _Sink(keep=False), **changed)


def test_other_bytes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(_reader: Any, _offset: int, length: int) -> bytes:
        return b"y" * length

    monkeypatch.setattr(_Reader, "read_at", other)
    with pytest.raises(BundleFailed, match="SHA-256"):
        _write([_file("A", 3)], _Sink(keep=False))
