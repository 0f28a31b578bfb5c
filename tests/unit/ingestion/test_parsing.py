"""What is read of files that pass: bounds, broken parsers, and places to read from again."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from tests.second_platform import NOTES
from veripost.ingestion import parsing
from veripost.ingestion.parsing import PackageReader
from veripost.platforms.facts import FileFacts, Reader
from veripost.platforms.registry import Platform
from veripost.platforms.rules import Selected


def _files(*names: str) -> list[Selected]:
    return [Selected(number, f"folder/{name}", name) for number, name in enumerate(names)]


def _with_parser(parser: object) -> Platform:
    reader = Reader(parsers={".NOTE": parser})  # type: ignore[dict-item]
    return replace(NOTES, load_reader=lambda: reader)


def _count(chunks: Iterable[bytes], _room: int) -> FileFacts:
    return FileFacts(section_count=sum(len(chunk) for chunk in chunks), own="counted")


def test_what_files_say_becomes_contents_and_notices() -> None:
    files = _files("a.note", "b.png", "c.note")
    reader = PackageReader(NOTES, files, [23, 11, 4])
    reader.read(files[0], [b"# one\nkey: val", b"ue\n# two\n"])
    reader.read(files[1], [b"never taken"])
    reader.read(files[2], [b"text"])
    contents, notices = reader.conclude()
    assert [file.filename for file in contents.files] == ["a.note", "c.note"]
    assert [section.name for section in contents.files[0].facts.sections] == ["one", "two"]
    assert (contents.machine_type, contents.section_count) == ("a desk", 2)
    assert contents.fingerprint is not None
    assert [(notice.member, notice.code) for notice in notices] == [("folder/c.note", "source_warnings")]


def test_a_parser_that_breaks_down_is_a_notice() -> None:
    def broken(chunks: Iterable[bytes], _room: int) -> FileFacts:
        next(iter(chunks))
        raise ZeroDivisionError

    files = _files("a.note")
    reader = PackageReader(_with_parser(broken), files, [6])
    chunks = iter([b"abc", b"def"])
    reader.read(files[0], chunks)
    assert next(chunks) == b"def"  # what it left is there for the store
    contents, notices = reader.conclude()
    assert contents.files == ()
    assert [(notice.member, notice.code) for notice in notices] == [("folder/a.note", "not_read")]


def test_a_conclusion_that_breaks_down_is_a_notice() -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    reader = Reader(parsers=NOTES.load_reader().parsers, conclude=broken)  # type: ignore[arg-type]
    files = _files("a.note")
    package = PackageReader(replace(NOTES, load_reader=lambda: reader), files, [6])
    package.read(files[0], [b"# one\n"])
    contents, notices = package.conclude()
    assert (contents.section_count, contents.machine_type) == (1, None)
    assert [(notice.member, notice.code) for notice in notices] == [(None, "not_read")]


def test_what_the_source_raises_is_not_the_parsers_fault() -> None:
    def torn() -> Iterator[bytes]:
        yield b"# one\n"
        raise ConnectionError("the store is down")

    files = _files("a.note")
    with pytest.raises(ConnectionError):
        PackageReader(NOTES, files, [9]).read(files[0], torn())


def test_the_bytes_of_a_file_and_of_a_package_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MOST_FILE_BYTES", 10)
    monkeypatch.setattr(parsing, "MOST_PACKAGE_BYTES", 25)
    files = _files("a.note", "b.note", "c.png", "d.note", "e.note")
    reader = PackageReader(_with_parser(_count), files, [10, 30, 99, 8, 1])
    for file, size in zip(reversed(files), [1, 8, 99, 30, 10], strict=True):  # the order makes no difference
        reader.read(file, [b"x" * (size // 2), b"x" * (size - size // 2)])
    contents, notices = reader.conclude()
    counted = {file.filename: file.facts.section_count for file in contents.files}
    assert counted == {"a.note": 10, "b.note": 10, "d.note": 5, "e.note": 0}
    cut = [notice.member for notice in notices if notice.code == "partly_read"]
    assert cut == ["folder/b.note", "folder/d.note", "folder/e.note"]


def test_the_facts_of_a_package_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MOST_FACTS", 5)
    rooms: list[int] = []

    def parser(_chunks: Iterable[bytes], room: int) -> FileFacts:
        rooms.append(room)
        return FileFacts(facts=min(room, 3), complete=room >= 3)

    files = _files("a.note", "b.note", "c.note")
    reader = PackageReader(_with_parser(parser), files, [1, 1, 1])
    for file in files:
        reader.read(file, [b"x"])
    assert rooms == [5, 2, 0]
    assert [notice.member for notice in reader.conclude()[1]] == ["folder/b.note", "folder/c.note"]


@pytest.mark.parametrize("seed", range(60))
def test_a_file_can_be_read_again_from_every_place_noted(seed: int) -> None:
    pick = random.Random(seed)
    ends = pick.choice([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r"], ["\r", "\n"]])
    text = "".join(pick.choice(["", "a", "bcd" * 9]) + pick.choice(ends) for _ in range(200)).encode()
    chunks, at = [], 0
    while at < len(text):
        size = pick.randrange(1, 60)
        chunks.append(text[at : at + size])
        at += size
    files = _files("a.note")
    reader = PackageReader(_with_parser(_count), files, [len(text)])
    reader.read(files[0], chunks)
    ((_, _, seeks),) = ((file.filename, file.facts, file.seeks) for file in reader.conclude()[0].files)
    assert len(seeks) > 20
    assert list(seeks) == sorted(seeks)
    lines = text.splitlines()
    for line, offset in seeks:
        assert text[offset:].splitlines() == lines[line - 1 :]


def test_utf_16_can_only_be_read_from_its_mark() -> None:
    text = "one\ntwo\nthree\n".encode("utf-16")
    files = _files("a.note")
    reader = PackageReader(_with_parser(_count), files, [len(text)])
    reader.read(files[0], [text[:10], text[10:20], text[20:]])
    assert list(reader.conclude()[0].files[0].seeks) == [(1, 0)]


def test_small_files_wait_until_all_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "HELD_BYTES", 10)
    read: list[int] = []

    def parser(chunks: Iterable[bytes], _room: int) -> FileFacts:
        read.append(sum(len(chunk) for chunk in chunks))
        return FileFacts()

    files = _files("a.note", "b.note", "c.note", "d.png", "e.note")
    sizes = [6, 5, 4, 1, 0]
    reader = PackageReader(_with_parser(parser), files, sizes)
    for file, size in zip(files, sizes, strict=True):
        reader.take(file, b"x" * size)
    assert read == [5]  # there was no room for it any more
    contents, _ = reader.conclude()
    assert read == [5, 6, 4, 0]
    assert [file.filename for file in contents.files] == ["a.note", "b.note", "c.note", "e.note"]
