"""What the engine gets of a CAMWorks package: digests of sections, attributes of every kind, and the sum."""

from __future__ import annotations

import pytest

from localcloud import samples
from veripost.platforms import camworks, camworks_reader
from veripost.platforms.facts import FileFacts
from veripost.platforms.registry import PLATFORMS

DATA = samples.source("D", sections=60).data


def _digests(*chunks: bytes) -> list[str]:
    return [section.digest for section in camworks.parse(chunks).sections]


def _read(extension: str, data: bytes, room: int = 1_000) -> FileFacts:
    return camworks_reader.READER.parsers[extension]([data], room)


@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
def test_a_digest_does_not_depend_on_chunks_or_line_ends(size: int) -> None:
    whole = _digests(DATA)
    assert len(set(whole)) == 60
    assert _digests(*(DATA[at : at + size] for at in range(0, len(DATA), size))) == whole
    for end in (b"\n", b"\r"):
        assert _digests(DATA.replace(b"\r\n", end)) == whole


def test_a_digest_changes_with_any_line_of_its_section_and_with_no_other() -> None:
    lines = DATA.split(b"\r\n")
    sections = camworks.parse([DATA]).sections
    wanted = sections[17]
    for number in range(wanted.first_line, wanted.last_line + 1):
        edited = list(lines)
        edited[number - 1] += b" "
        changed = _digests(b"\r\n".join(edited))
        assert [place for place, section in enumerate(sections) if changed[place] != section.digest] == [17]


def test_a_section_that_spans_many_batches_has_the_digest_of_its_lines() -> None:
    body = b":T:" + b"x" * 1_000 + b"\n"
    long, short = b":SECTION=A\n" + body * 500, b":SECTION=A\n" + body
    assert _digests(long) == _digests(*(long[at : at + 999] for at in range(0, len(long), 999)))
    assert _digests(long) != _digests(short)


def test_each_file_gives_what_it_states() -> None:
    files = samples.post_processor("D", sections=10)
    kinds = {
        extension: {attribute.kind for attribute in _read(extension, files[f"D{extension}"]).attributes}
        for extension in camworks_reader.READER.parsers
    }
    assert kinds == {
        ".SRC": {"header", "define", "library", "attribute", "operation"},
        ".LIB": set(),
        ".ATR": {"header", "attribute"},
        ".KIN": {"kinematics"},
        ".PINF": {"information"},
        ".LNG": {"message"},
    }
    assert _read(".ATR", b":SECTION=A\n:IDHIGH=3\n").sections == ()


@pytest.mark.parametrize("extension", list(camworks_reader.READER.parsers))
def test_no_more_facts_are_kept_than_there_is_room_for(extension: str) -> None:
    data = samples.post_processor("D", sections=40)[f"D{extension}"]
    facts = _read(extension, data, room=2)
    assert (facts.facts, facts.complete) == (2, False)
    assert len(facts.sections) + len(facts.attributes) <= 2
    none = _read(extension, data, room=0)
    assert (none.sections, none.attributes) == ((), ())


def test_the_first_source_that_states_it_names_machine_and_controller() -> None:
    def source(machine: str) -> FileFacts:
        text = f":ATTRNAME=MACHINE NAME\n:ATTRDEFAULT={machine}\n:ATTREND\n:SECTION=A\n"
        return _read(".SRC", text.encode())

    files = {"x/b.SRC": source("B"), "a.src": source(""), "x/A.LIB": source("LIB"), "z.SRC": source("Z")}
    found = camworks_reader.conclude(list(files), files)
    assert (found.machine_type, found.controller_type, found.section_count) == ("B", None, 4)


def test_the_registry_reads_with_it() -> None:
    assert PLATFORMS["camworks"].load_reader() is camworks_reader.READER
    assert set(camworks_reader.READER.parsers) <= PLATFORMS["camworks"].extensions
