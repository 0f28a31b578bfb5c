"""No bytes raise, chunks may be cut anywhere, and what a generator writes the parser reads back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from veripost.platforms.camworks import Attribute, Define, Header, Operation, Source, parse
from veripost.platforms.camworks_companions import parse_information, parse_kinematics, parse_language
from veripost.platforms.camworks_notices import notices

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What the grammar is made of, so that noise gets past its first line.
_FRAGMENTS = [
    *(b":SECTION=", b":SECTION:", b":T:", b":C:", b":C1:", b":C", b"CALL(", b"CALC_", b"{", b"}", b"(", b")"),
    *(b":ATTRNAME=", b":ATTRTYPE=", b":ATTREND", b":OPERID=", b":OPERSUB=", b":OPERLIST=", b":OPEREND"),
    *(b":DEFINE ", b":LIBRARY=", b":INCLUDE=", b":SYSTEM=", b"MILL", b"*", b":", b"=", b" ", b"\t", b","),
    *(b"\r", b"\n", b"\r\n", b"\r\n", b"\n", b"\x00", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\x1a", b"\x81", b"9" * 20),
]  # fmt: skip
NOISE = st.one_of(
    st.binary(max_size=400),
    st.lists(st.one_of(st.sampled_from(_FRAGMENTS), st.binary(max_size=6)), max_size=60).map(b"".join),
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, start = [], 0
    for size in sizes:
        chunks.append(data[start : start + size])
        start += size
    return [*chunks, data[start:]]


@QUICK
@given(NOISE, st.lists(st.integers(0, 40), max_size=30))
def test_no_bytes_raise_and_chunks_do_not_matter(data: bytes, sizes: list[int]) -> None:
    source = parse([data])

    assert parse(cut(data, sizes)) == source
    assert source.section_count == len(source.sections)
    for section in source.sections:
        assert 1 <= section.first_line <= section.last_line <= source.lines
    for before, after in zip(source.sections, source.sections[1:], strict=False):
        assert before.last_line + 1 == after.first_line
    assert notices(["A.SRC"], {"A.SRC": source}) is not None


@QUICK
@given(NOISE, st.lists(st.integers(0, 40), max_size=30))
def test_no_bytes_of_the_other_files_raise(data: bytes, sizes: list[int]) -> None:
    readers: list[Callable[[list[bytes]], object]] = [parse_kinematics, parse_information, parse_language]
    for reader in readers:
        assert reader([data]) == reader(cut(data, sizes))


@QUICK
@given(NOISE)
def test_lines_are_counted_as_python_counts_them(data: bytes) -> None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    assert parse([data]).lines == len(data.removeprefix(b"\xef\xbb\xbf").splitlines())


# -- the generator


@dataclass(frozen=True)
class Written:
    """A section to write: its name, parameters and body; each line is (kind, what it calls)."""

    name: str
    parameters: list[str]
    body: list[tuple[str, str]]


WORD = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcxyz0123456789_ÄÖé", min_size=1, max_size=12)
WORDS = st.lists(WORD, min_size=1, max_size=3).map(" ".join)
SECTION = st.builds(
    Written,
    name=st.builds("{}{}".format, st.sampled_from(["", "CALC_", "5AXIS_"]), WORD),
    parameters=st.lists(WORD, max_size=3),
    body=st.lists(
        st.tuples(st.sampled_from(["T", "C", "C7", "call", "string", "comment", "blank", "stray"]), WORD),
        max_size=8,
    ),
)
ENDS = st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=5)
_BODY = {
    "T": ":T:<N>{}<EOL>",
    "C": ":C: X = {}",
    "C7": ":C7: RETURN",
    "call": ":C: IF X THEN CALL({}) ENDIF",
    "string": ":C: X = {{CALL({})}}",
    "comment": "*:SECTION={}",
    "blank": "  ",
    "stray": "{}",
}


@QUICK
@given(
    headers=st.lists(st.tuples(WORD.filter(str.isascii), WORDS), max_size=4),
    defines=st.lists(st.tuples(WORD, st.integers(-(10**17), 10**17)), max_size=4),
    attributes=st.lists(st.tuples(WORDS, WORDS, st.booleans()), max_size=4),
    operations=st.lists(st.tuples(WORDS, st.none() | WORDS, st.lists(WORDS, max_size=3)), max_size=4),
    sections=st.lists(SECTION, max_size=6),
    ends=ENDS,
    indent=st.sampled_from(["", " ", "\t "]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_what_is_written_is_read_back(
    *,
    headers: list[tuple[str, str]],
    defines: list[tuple[str, int]],
    attributes: list[tuple[str, str, bool]],
    operations: list[tuple[str, str | None, list[str]]],
    sections: list[Written],
    ends: list[str],
    indent: str,
    mark: bytes,
) -> None:
    text: list[str] = []
    keys = [(f"X{key}".upper(), value) for key, value in headers]
    text += [f":{key}={value}" for key, value in keys]
    text += [f":DEFINE {name}={value}" for name, value in defines]
    for name, default, flag in attributes:
        text += [f":ATTRNAME={name}", "*:ATTREND", f":ATTRDEFAULT={default}"]
        text += [":CANNOT_BE_SIGNED"] * flag + [":ATTREND"]
    for name, sub, lists in operations:
        text += [f":OPERID={name}"] + ([f":OPERSUB={sub}"] if sub is not None else [])
        text += [f":OPERLIST={entry}" for entry in lists] + [":OPEREND"]
    for section in sections:
        text.append(f":SECTION={section.name}({', '.join(section.parameters)})")
        text += [_BODY[kind].format(word) for kind, word in section.body]
    data = "".join(f"{indent}{line}{ends[at % len(ends)]}" for at, line in enumerate(text))

    source = parse([mark + data.encode("cp1252")])

    assert source.lines == len(text)
    assert [(header.key, header.value) for header in source.headers] == keys
    assert [_plain(define) for define in source.defines] == defines
    assert [_plain(attribute) for attribute in source.attributes] == attributes
    assert [_plain(operation) for operation in source.operations] == operations
    _compare(source, sections)


def _plain(fact: Header | Define | Attribute | Operation) -> object:
    match fact:
        case Define():
            return fact.name, fact.value
        case Attribute():
            return fact.name, fact.default, fact.flags == ("CANNOT_BE_SIGNED",)
        case Operation():
            return fact.name, fact.sub, list(fact.lists)
        case Header():
            return fact.key, fact.value


def _compare(source: Source, written: list[Written]) -> None:
    assert [(section.name, list(section.parameters)) for section in source.sections] == [
        (section.name, section.parameters) for section in written
    ]
    stray = 0
    for read, section in zip(source.sections, written, strict=True):
        kinds = [kind for kind, _ in section.body]
        assert read.template_lines == kinds.count("T")
        assert read.calculation_lines == sum(kind in {"C", "C7", "call", "string"} for kind in kinds)
        assert read.calls == tuple(dict.fromkeys(word for kind, word in section.body if kind == "call"))
        assert read.last_line - read.first_line == len(section.body)
        stray += kinds.count("stray")
    assert [warning.code.value for warning in source.warnings].count("stray_line") == stray
