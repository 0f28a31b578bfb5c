"""The grammar of UPG sources, one row a fact; then what surrounds it: limits, libraries, the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from veripost.platforms import camworks
from veripost.platforms.camworks import (
    ATTRIBUTE_TYPES,
    SYSTEMS,
    VALUE_TYPES,
    Attribute,
    Define,
    Header,
    ParseLimits,
    SectionKind,
    Source,
    WarningCode,
    by_basename,
    parse,
    visible_sections,
)
from veripost.platforms.lines import LONGEST_LINE

EXAMPLE = rb"""*MY POST
:SYSTEM=MILL
:LIBRARY=..\LIB\MYPOST.LIB
:DEFINE MAXTOOL=24
:ATTRNAME=MACHINE NAME
:ATTRTYPE=POST
:ATTRVTYPE=CHARACTER
:ATTRDEFAULT=Example Mill 3X
:ATTREND
:SECTION=START_OF_TAPE
:T:%<EOL>
:T:<N><G:90><G:17><EOL>
*:SECTION=DISABLED_ONE
:SECTION=CALC_RADIUS(RVAL,MACH)
:C: IF RVAL > 0 THEN
:C: CALL(OTHER)
:C1: RETURN
:C: ENDIF
"""


def read(text: str | bytes, limits: ParseLimits | None = None) -> Source:
    return parse([text if isinstance(text, bytes) else text.encode("cp1252")], limits)


def names(source: Source) -> list[str]:
    return [section.name for section in source.sections]


def kinds(source: Source) -> str:
    return "".join("C" if section.kind is SectionKind.CALCULATION else "T" for section in source.sections)


def bodies(source: Source) -> list[tuple[int, int]]:
    return [(section.template_lines, section.calculation_lines) for section in source.sections]


def extents(source: Source) -> list[tuple[int, int]]:
    return [(section.first_line, section.last_line) for section in source.sections]


def calls(source: Source) -> tuple[str, ...]:
    return source.sections[0].calls


def odd(source: Source) -> list[tuple[int, str]]:
    return [(warning.line, warning.code.value) for warning in source.warnings]


def blocks(source: Source) -> list[tuple[str, int, int]]:
    return [(block.name, block.first_line, block.last_line) for block in source.attributes]


def first(source: Source) -> Attribute:
    return source.attributes[0]


def typed(source: Source) -> tuple[str | None, list[tuple[int, str]]]:
    return first(source).type, odd(source)


def valued(source: Source) -> tuple[str | None, list[tuple[int, str]]]:
    return first(source).value_type, odd(source)


def operations(source: Source) -> list[tuple[str, str | None, tuple[str, ...]]]:
    return [(operation.name, operation.sub, operation.lists) for operation in source.operations]


def calculation(line: str) -> str:
    return f":SECTION=CALC_A\n:C: {line}"


Look = Callable[[Source], Any]
GRAMMAR: list[tuple[str, str | bytes, Look, Any]] = [
    # -- encoding
    ("CRLF", ":SECTION=A\r\n:T:1\r\n", bodies, [(1, 0)]),
    ("LF", ":SECTION=A\n:T:1\n", bodies, [(1, 0)]),
    ("both in one file", ":SECTION=A\r\n:T:1\n:T:2\r\n", extents, [(1, 3)]),
    ("CR alone", ":SECTION=A\r:T:1\r", bodies, [(1, 0)]),
    ("no end of the last line", ":SECTION=A\n:T:1", bodies, [(1, 0)]),
    ("an empty file has no line", b"", lambda source: source.lines, 0),
    ("the last line end begins no line", b"*\n", lambda source: source.lines, 1),
    ("a byte order mark", b"\xef\xbb\xbf:SECTION=A", names, ["A"]),
    ("cp1252", b":SECTION=FR\xc4SEN", names, ["FRÄSEN"]),
    ("bytes that cp1252 has not", b":SECTION=A\x81B", names, ["A�B"]),
    ("what does not print is spelled out", b":SECTION=A\x00B", names, ["A\\x00B"]),
    ("UTF-16 with its mark", ":SECTION=Ä\r\n:T:1".encode("utf-16"), names, ["Ä"]),
    ("the end mark of DOS", b":SECTION=A\r\n\x1a", odd, []),
    # -- comment
    ("a star in front", "*:SECTION=A\n:SECTION=B", names, ["B"]),
    ("blanks before the star", " \t*:SECTION=A\n  *:T:x\n:SECTION=B\n * :T:1", bodies, [(0, 0)]),
    ("a disabled section ends nothing", ":SECTION=A\n*:SECTION=B\n:T:1", bodies, [(1, 0)]),
    ("disabled lines", ":SECTION=A\n:T:1\n*:T:2\n*:C:CALL(X)", bodies, [(1, 0)]),
    ("a disabled call", ":SECTION=CALC_A\n*:C: CALL(X)", calls, ()),
    ("disabled blocks", "*:ATTRNAME=A\n*:ATTREND\n*:OPERID=B\n*:DEFINE C=1\n*:LIBRARY=D", odd, []),
    ("a comment in a block", ":ATTRNAME=A\n*:ATTRTYPE=LIST\n:ATTREND", lambda s: first(s).type, None),
    ("no comment behind a statement", ":SECTION=A *B", names, ["A *B"]),
    ("the first comment is no name", "*MY POST", lambda source: source.machine, None),
    # -- section
    ("up to the next or the end", ":SECTION=A\n:T:1\n\n:SECTION=B\n:T:2\n\n", extents, [(1, 3), (4, 6)]),
    ("starts with a digit", ":SECTION=5AXIS_MOVE", names, ["5AXIS_MOVE"]),
    ("in lower case", ":SECTION=start_of_tape", names, ["start_of_tape"]),
    ("parameters", ":SECTION=CALC_R(RVAL, MACH,REGISTER)", names, ["CALC_R"]),
    ("their names", ":SECTION=X(RVAL, MACH )", lambda s: s.sections[0].parameters, ("RVAL", "MACH")),
    ("none between parentheses", ":SECTION=X()", lambda s: s.sections[0].parameters, ()),
    ("a parenthesis that stays open", ":SECTION=X(A,B", lambda s: s.sections[0].parameters, ("A", "B")),
    ("a colon for the equals sign", ":SECTION: NAME\n:T:1", names, ["NAME"]),
    ("which is worth a warning", "*\n:SECTION: NAME", odd, [(2, "section_separator")]),
    ("blanks around the name", "  :SECTION = A B  ", names, ["A B"]),
    ("no name", ":SECTION=\n:T:1", odd, [(1, "missing_name")]),
    # -- section kind
    ("CALC makes a calculation", ":SECTION=CALC_X\n:SECTION=CALCX", kinds, "CC"),
    ("only in front", ":SECTION=CAL\n:SECTION=X_CALC", kinds, "TT"),
    ("in lower case too", ":SECTION=calc_x", kinds, "C"),
    ("a mixed body", "*\n:SECTION=A\n:T:1\n:C: X = 1", odd, [(2, "mixed_section")]),
    # -- body
    ("template and calculation lines", EXAMPLE, bodies, [(2, 0), (0, 4)]),
    ("labels count as calculation", ":SECTION=CALC_A\n:C1: RETURN\n:C27: RETURN", bodies, [(0, 2)]),
    ("indented", ":SECTION=A\n  :T:1\n\t:C: X\n  :C3: X", bodies, [(1, 2)]),
    ("no other letter", ":SECTION=A\n:X:1\n:T1:1", odd, [(2, "unknown_directive"), (3, "unknown_directive")]),
    ("nothing before the first section", ":T:1\n:SECTION=A", odd, [(1, "outside_section")]),
    # -- include
    ("a library", ":LIBRARY=C:\\CAM\\POSTS\\MY.LIB", lambda s: s.libraries[0].basename, "MY.LIB"),
    ("relative", ":LIBRARY=..\\LIB\\MY.LIB", lambda s: s.libraries[0].path, "..\\LIB\\MY.LIB"),
    ("slashes", ":LIBRARY=../LIB/MY.LIB", lambda s: s.libraries[0].basename, "MY.LIB"),
    ("an include", ":INCLUDE=MY.LIB", lambda s: s.libraries[0].path, "MY.LIB"),
    ("several, in order", ":LIBRARY=A\n:INCLUDE=B", lambda s: [x.path for x in s.libraries], ["A", "B"]),
    ("without a path", ":LIBRARY=", odd, [(1, "missing_name")]),
    # -- header
    ("key and value", "*\n:UNITS=METRIC", lambda s: s.headers, (Header("UNITS", "METRIC", 2),)),
    ("a key alone", ":METRIC", lambda s: s.headers, (Header("METRIC", None, 1),)),
    ("an empty value", ":UNITS=", lambda s: s.headers, (Header("UNITS", "", 1),)),
    ("only before the sections", ":SECTION=A\n:UNITS=METRIC", odd, [(2, "unknown_directive")]),
    ("nor a system", ":SECTION=A\n:SYSTEM=MILL", odd, [(2, "unknown_directive")]),
    *((f"system {system}", f":SYSTEM={system}", lambda s: s.system, system) for system in sorted(SYSTEMS)),
    ("another system", ":SYSTEM=ROUTER", odd, [(1, "unexpected_value")]),
    # -- define
    ("a space behind the keyword", ":DEFINE MAXTOOL=24", lambda s: s.defines, (Define("MAXTOOL", 24, 1),)),
    ("negative", ":DEFINE LOW = -1", lambda s: s.defines, (Define("LOW", -1, 1),)),
    ("no integer", ":DEFINE A=2.5", lambda s: s.defines, (Define("A", None, 1),)),
    ("which is worth a warning", ":DEFINE A=2.5", odd, [(1, "unexpected_value")]),
    ("too large an integer", f":DEFINE A={'9' * 5000}", lambda s: s.defines[0].value, None),
    ("no name", ":DEFINE", odd, [(1, "missing_name")]),
    # -- attribute block
    ("from name to end", EXAMPLE, blocks, [("MACHINE NAME", 5, 9)]),
    ("a flag", ":ATTRNAME=A\n:CANNOT_BE_SIGNED\n:ATTREND", lambda s: first(s).flags, ("CANNOT_BE_SIGNED",)),
    ("any other key", ":ATTRNAME=A\n:ATTRMIN=3\n:ATTREND", lambda s: first(s).value("ATTRMIN"), "3"),
    *(
        (f"type {kind}", f":ATTRNAME=A\n:ATTRTYPE={kind}\n:ATTREND", typed, (kind, []))
        for kind in sorted(ATTRIBUTE_TYPES)
    ),
    *(
        (f"of {kind}", f":ATTRNAME=A\n:ATTRVTYPE={kind}\n:ATTREND", valued, (kind, []))
        for kind in sorted(VALUE_TYPES)
    ),
    ("another type", ":ATTRNAME=A\n:ATTRTYPE=INTEGER\n:ATTREND", odd, [(2, "unexpected_value")]),
    ("of another", ":ATTRNAME=A\n:ATTRVTYPE=LIST\n:ATTREND", odd, [(2, "unexpected_value")]),
    ("a block without an end", ":ATTRNAME=A\n:ATTRTYPE=POST\n\n:SECTION=B", blocks, [("A", 1, 3)]),
    ("ends with the file", ":ATTRNAME=A\n:ATTRTYPE=POST", blocks, [("A", 1, 2)]),
    ("or with the next", ":ATTRNAME=A\n:ATTRNAME=B\n:ATTREND", blocks, [("A", 1, 1), ("B", 2, 3)]),
    ("which is worth a warning", ":ATTRNAME=A\n:SYSTEM=MILL", odd, [(1, "block_not_ended")]),
    ("an end without a beginning", "*\n:ATTREND", odd, [(2, "end_without_block")]),
    ("the wrong end", ":ATTRNAME=A\n:OPEREND\n:ATTREND", odd, [(2, "end_without_block")]),
    ("no name", ":ATTRNAME=\n:ATTREND", odd, [(1, "missing_name")]),
    ("the number in an .ATR", ":IDHIGH=7\n:ATTRNAME=A\n:ATTRID=7\n:ATTREND", lambda s: first(s).id, "7"),
    ("an .ATR's first line", ":IDHIGH=7", lambda s: s.headers, (Header("IDHIGH", "7", 1),)),
    # -- operation block
    ("names hold spaces", ":OPERID=Rough Mill\n:OPEREND", operations, [("Rough Mill", None, ())]),
    ("sub", ":OPERID=A\n:OPERSUB=B\n:OPEREND", operations, [("A", "B", ())]),
    ("lists", ":OPERID=A\n:OPERLIST=B 1\n:OPERLIST=C\n:OPEREND", operations, [("A", None, ("B 1", "C"))]),
    ("names repeat", ":OPERID=A\n:OPEREND\n:OPERID=A\n:OPEREND", operations, [("A", None, ())] * 2),
    ("nothing else in it", ":OPERID=A\n:COLOUR=1\n:OPEREND", odd, [(2, "unknown_directive")]),
    # -- template tokens: text for the machine, in which nothing is looked for
    ("tokens", ':SECTION=A\n:T:<N><G!:90><X!><%:F><"#3.3N":V><BLANK><EOL>', odd, []),
    ("inline IF", ":SECTION=A\n:T:IF <X> THEN CALL(B) ENDIF", lambda s: (odd(s), calls(s)), ([], ())),
    # -- calculation
    ("a call", calculation("CALL(OTHER)"), calls, ("OTHER",)),
    ("behind a label", ":SECTION=CALC_A\n:C12: CALL(B)", calls, ("B",)),
    ("each once, in order", calculation("CALL(Z)\n:C: CALL(A)\n:C: CALL(Z)"), calls, ("Z", "A")),
    ("several on a line", calculation("IF X THEN CALL(A) ELSE CALL(B) ENDIF"), calls, ("A", "B")),
    ("with arguments", calculation("CALL(CALC_R(1,2))\n:C: CALL(CALC_S,3)"), calls, ("CALC_R", "CALC_S")),
    ("blanks", calculation("CALL ( OTHER )"), calls, ("OTHER",)),
    ("in lower case", calculation("call(other)"), calls, ("other",)),
    ("not part of a word", calculation("RECALL(A)\n:C: MY_CALL(B)\n:C: CALLS(C)"), calls, ()),
    ("SECTIONEXIST is no call", calculation("IF SECTIONEXIST(A) THEN"), calls, ()),
    ("nor is GOTO or SETON", calculation("GOTO1\n:C: SETON(<G>)\n:C: RETURN"), calls, ()),
    ("nor a string", calculation("X = {CALL(A)} CALL(B)"), calls, ("B",)),
    ("nor an open string", calculation("X = {CALL(A)"), calls, ()),
    ("nor one without a name", calculation("CALL()"), calls, ()),
    # -- machine, controller
    ("machine", EXAMPLE, lambda source: source.machine, "Example Mill 3X"),
    (
        "controller",
        ":ATTRNAME=Controller Type\n:ATTRDEFAULT=18i\n:ATTREND",
        lambda source: source.controller,
        "18i",
    ),
    ("neither", ":ATTRNAME=MACHINE NAME\n:ATTRDEFAULT=\n:ATTREND", lambda source: source.machine, None),
    # -- garbage
    ("a stray line", ":SECTION=A\n:T:1\nG0 X0\n:T:2", odd, [(3, "stray_line")]),
    ("ends nothing", ":SECTION=A\n:T:1\nG0 X0\n:T:2", bodies, [(2, 0)]),
    ("a colon and nothing else", ":\n::\n:=", odd, [(1, "stray_line"), (2, "stray_line"), (3, "stray_line")]),
    ("blank lines are fine", "\n \n\t\n:SECTION=A\n\n", odd, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "look", "expected"),
    [row[1:] for row in GRAMMAR],
    ids=[f"{number}-{row[0]}" for number, row in enumerate(GRAMMAR)],
)
def test_the_grammar(text: str | bytes, look: Look, expected: Any) -> None:
    assert look(read(text)) == expected


def test_a_warning_quotes_its_line() -> None:
    assert read("G0 X0").warnings[0].message == "neither a comment nor a statement: “G0 X0”"


def test_every_warning_has_words() -> None:
    assert set(camworks._MESSAGES) | {WarningCode.MORE_WARNINGS} == set(WarningCode)


# -- where chunks are cut makes no difference


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    "data",
    [
        EXAMPLE.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + EXAMPLE,
        b"a\r\r\n\n\rb\r",
        EXAMPLE.decode().encode("utf-16"),
    ],
)
def test_chunks_may_be_cut_anywhere(data: bytes, size: int) -> None:
    assert parse(data[at : at + size] for at in range(0, len(data), size)) == read(data)


@pytest.mark.parametrize("size", [1_000, LONGEST_LINE // 2, 10**9])
@pytest.mark.parametrize("extra", [0, 1, 100_000])
def test_a_long_line_is_read_up_to_its_limit(size: int, extra: int) -> None:
    begin = b":SECTION=CALC_A\r\n"
    call = b":C: CALL(B)"
    data = begin + call.ljust(LONGEST_LINE + extra) + b"\r\n:C: CALL(C)"
    source = parse(data[at : at + size] for at in range(0, len(data), size))

    assert odd(source) == ([(2, "line_too_long")] if extra else [])
    assert (calls(source), source.lines) == (("B", "C"), 3)


def test_what_lies_behind_the_limit_is_not_read() -> None:
    line = b":C: ".ljust(LONGEST_LINE) + b"CALL(B)"
    assert calls(read(b":SECTION=CALC_A\n" + line)) == ()


# -- limits


def test_a_hundred_thousand_lines() -> None:
    source = read(b":SECTION=A\n:T:1\n:T:2\n:T:3\n" * 25_000)
    assert (source.lines, source.section_count, len(source.sections)) == (100_000, 25_000, 25_000)
    assert source.complete


def test_sections_are_counted_beyond_what_is_kept() -> None:
    source = read(":SECTION=CALC_A\n:SECTION=B\n" * 10, ParseLimits(facts=3))

    assert (len(source.sections), source.section_count, source.calculation_count) == (3, 20, 10)
    assert (source.complete, source.facts) == (False, 3)
    assert odd(source) == [(4, "too_many_facts")]


@pytest.mark.parametrize(
    "text",
    [
        ":KEY=1\n" * 9,
        ":DEFINE A=1\n" * 9,
        ":LIBRARY=A\n" * 9,
        ":OPERID=A\n:OPEREND\n" * 9,
        ":ATTRNAME=A\n" + ":KEY=1\n" * 9 + ":ATTREND",
        f":SECTION=A({','.join('BCDEFGHIJ')})",
        ":SECTION=CALC_A\n" + "".join(f":C: CALL({name})\n" for name in "BCDEFGHIJ"),
    ],
)
def test_every_kind_of_fact_is_limited(text: str) -> None:
    source = read(text, ParseLimits(facts=5))
    assert (source.facts, source.complete) == (5, False)
    assert [code for _, code in odd(source)] == ["too_many_facts"]


def test_warnings_are_counted_beyond_what_is_kept() -> None:
    source = read("stray\n" * 10, ParseLimits(warnings=3))
    assert odd(source) == [(1, "stray_line"), (2, "stray_line"), (3, "stray_line"), (10, "more_warnings")]
    assert source.warnings[-1].message == "7 more warnings than are listed here"


def test_a_long_name_is_cut() -> None:
    source = read(f":SECTION={'A' * 300}", ParseLimits(text_bytes=10))
    assert names(source) == ["A" * 10]
    assert odd(source) == [(1, "text_too_long")]


# -- libraries


@pytest.mark.parametrize("path", ["C:\\CAM\\MY.LIB", "..\\my.lib", "/cam/My.Lib", "my.LIB"])
def test_a_library_is_found_by_its_name_whatever_its_case(path: str) -> None:
    library = read(f":LIBRARY={path}").libraries[0]
    assert library.resolve(by_basename(["post/My.lib", "other/MY.LIB"])) == "post/My.lib"
    assert library.resolve(by_basename(["post/MY.SRC"])) is None


def test_a_source_overrides_its_libraries_and_the_first_library_wins() -> None:
    sources = {
        "A.SRC": read(":LIBRARY=B.LIB\n:LIBRARY=C.LIB\n:LIBRARY=GONE.LIB\n:SECTION=ONE"),
        "B.LIB": read(":INCLUDE=D.LIB\n:SECTION=ONE\n:SECTION=TWO"),
        "C.LIB": read(":SECTION=TWO\n:SECTION=THREE\n:SECTION=FOUR"),
        "D.LIB": read(":LIBRARY=A.SRC\n:LIBRARY=D.LIB\n:SECTION=THREE"),
        "E.LIB": read(":SECTION=FIVE"),
    }
    visible = {name: place for name, (place, _) in visible_sections("A.SRC", sources).items()}
    assert visible == {"ONE": "A.SRC", "TWO": "B.LIB", "THREE": "D.LIB", "FOUR": "C.LIB"}


# -- the command line


def test_the_command_line_prints_one_object(tmp_path: Path) -> None:
    file, output = tmp_path / "A.SRC", io.StringIO()
    file.write_bytes(EXAMPLE + b"stray\n")

    assert camworks.main([str(file)], output) == 0
    assert json.loads(output.getvalue()) == {
        "lines": 19,
        "sections": 2,
        "calc": 1,
        "template": 1,
        "operations": 0,
        "attributes": 1,
        "machine": "Example Mill 3X",
        "controller": None,
        "system": "MILL",
        "libraries": ["..\\LIB\\MYPOST.LIB"],
        "warnings": [
            {"line": 19, "code": "stray_line", "message": "neither a comment nor a statement: “stray”"}
        ],
    }


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert camworks.main([str(tmp_path / "no.SRC")]) == 2
    assert "no.SRC: No such file" in capsys.readouterr().err
