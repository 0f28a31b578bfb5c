"""Reads the source of CAMWorks post processors: bytes in, facts out, whatever the bytes are.

`.SRC`, `.LIB` and `.ATR` share one line-oriented language, that of the Universal Post Generator (UPG). Rules
are cited as “UPG, <construct>”: the row of `docs/camworks.md` that says it, which rests on the vendor's
“Post Processor Writer's Reference” (CAMWorks 2021) and on real files.

`python -m veripost.platforms.camworks FILE` prints what a source says as one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import ntpath
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from veripost.platforms import lines
from veripost.platforms.facts import Section
from veripost.platforms.lines import bare

SYSTEMS: Final = frozenset(
    {"MILL", "LATHE", "LATHE/MILL", "LATHE4AX", "LATHE4AX/MILL", "EDM", "LASER", "PUNCH", "PLASMA"}
    | {"PLASMA/PUNCH"}
)
"""What `:SYSTEM=` may be. UPG, “header”."""
ATTRIBUTE_TYPES: Final = frozenset({"POST", "DESCRIPTOR", "VALUE", "DISPLAY", "SELECT", "LIST"})
"""What `:ATTRTYPE=` may be. UPG, “attribute block”."""
VALUE_TYPES: Final = frozenset({"INTEGER", "DECIMAL", "CHARACTER", "FEET"})
"""What `:ATTRVTYPE=` may be. UPG, “attribute block”."""

# Every quantifier is possessive: none of these expressions ever tries a byte twice.
_DIRECTIVE: Final = re.compile(rb":([A-Za-z0-9_]++)[ \t]*+([=:]?+)(.*+)", re.DOTALL)
_CALL: Final = re.compile(  # a string in braces is skipped as a whole
    rb"\{[^}]*+|(?<![A-Za-z0-9_])CALL[ \t]*+\(([^(),{}]*+)", re.IGNORECASE
)
_CALCULATIONS: Final = (b":C:", *(b":C%d:" % label for label in range(1, 10)))
_PARENTHESIS: Final = ord("(")  # looking for one byte is cheaper than for a word
_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,18}")  # 18 digits: what a 64-bit column holds
_READ_BYTES: Final = 1 << 20


class SectionKind(StrEnum):
    """What a section is for, by its name: UPG, “section kind”."""

    TEMPLATE = "template"
    CALCULATION = "calculation"


class WarningCode(StrEnum):
    """Stable names of what a reader may stumble over in a source."""

    STRAY_LINE = "stray_line"
    OUTSIDE_SECTION = "outside_section"
    UNKNOWN_DIRECTIVE = "unknown_directive"
    MISSING_NAME = "missing_name"
    SECTION_SEPARATOR = "section_separator"
    MIXED_SECTION = "mixed_section"
    BLOCK_NOT_ENDED = "block_not_ended"
    END_WITHOUT_BLOCK = "end_without_block"
    UNEXPECTED_VALUE = "unexpected_value"
    LINE_TOO_LONG = "line_too_long"
    TEXT_TOO_LONG = "text_too_long"
    TOO_MANY_FACTS = "too_many_facts"
    MORE_WARNINGS = "more_warnings"


_MESSAGES: Final[Mapping[WarningCode, str]] = {
    WarningCode.STRAY_LINE: "neither a comment nor a statement: “{}”",
    WarningCode.OUTSIDE_SECTION: "stands before the first section: “{}”",
    WarningCode.UNKNOWN_DIRECTIVE: "not a statement that has a meaning here: “{}”",
    WarningCode.MISSING_NAME: "has no name: “{}”",
    WarningCode.SECTION_SEPARATOR: "written without an equals sign, and read as if it had one: “{}”",
    WarningCode.MIXED_SECTION: "the section holds template lines and calculation lines: “{}”",
    WarningCode.BLOCK_NOT_ENDED: "the block has no end: “{}”",
    WarningCode.END_WITHOUT_BLOCK: "ends a block that was not begun: “{}”",
    WarningCode.UNEXPECTED_VALUE: "not a value that is allowed here: “{}”",
    WarningCode.LINE_TOO_LONG: f"longer than {lines.LONGEST_LINE:,} bytes; the rest of the line was not read",
    WarningCode.TEXT_TOO_LONG: "too long a text, which was cut: “{}”",
    WarningCode.TOO_MANY_FACTS: "more than can be listed from here on; sections are still counted",
}
_EXCERPT: Final = 60


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """How much of a source is kept: `facts` (whatever has a line below, and each parameter, property and
    call), `warnings`, and the bytes of one name or value.

    The largest source seen has 750 sections; a fact takes some 200 bytes, and with texts as long as
    allowed 600.
    """

    facts: int = 200_000
    warnings: int = 200
    text_bytes: int = 240


@dataclass(frozen=True, slots=True)
class ParseWarning:
    """Something odd at `line` (counted from 1), which did not keep the rest from being read."""

    line: int
    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class Header:
    """`:KEY=VALUE` before the sections; the key in upper case, None for a key without a value."""

    key: str
    value: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Define:
    """`:DEFINE NAME=int`; None where the value is no integer of 18 digits at most."""

    name: str
    value: int | None
    line: int


@dataclass(frozen=True, slots=True)
class Library:
    """`:LIBRARY=path` or `:INCLUDE=path`, as written: a Windows path, absolute or relative."""

    path: str
    line: int

    @property
    def basename(self) -> str:
        """The file's name without its folders."""
        return ntpath.basename(self.path)

    def resolve(self, places: Mapping[str, str]) -> str | None:
        """Return the file of this package that is meant, or None; `places` comes from `by_basename`.

        UPG, “include”: the path is one of another machine, so the file's name decides, whatever its case.
        """
        return places.get(self.basename.casefold())


@dataclass(frozen=True, slots=True)
class Attribute:
    """`:ATTRNAME=` to `:ATTREND`. `properties` are the other lines in order; a flag's value is None."""

    name: str
    properties: tuple[tuple[str, str | None], ...]
    first_line: int
    last_line: int

    def value(self, key: str) -> str | None:
        """Return the first value of the property `key` (upper case), or None."""
        return next((value for name, value in self.properties if name == key), None)

    @property
    def type(self) -> str | None:
        """POST, DESCRIPTOR, VALUE, DISPLAY, SELECT or LIST, if the file keeps to the rules."""
        return self.value("ATTRTYPE")

    @property
    def value_type(self) -> str | None:
        """INTEGER, DECIMAL, CHARACTER or FEET, if the file keeps to the rules."""
        return self.value("ATTRVTYPE")

    @property
    def default(self) -> str | None:
        """What the attribute is unless the machinist says otherwise."""
        return self.value("ATTRDEFAULT")

    @property
    def id(self) -> str | None:
        """The number that `.ATR` files give it."""
        return self.value("ATTRID")

    @property
    def flags(self) -> tuple[str, ...]:
        """The properties that have no value, such as CANNOT_BE_SIGNED."""
        return tuple(name for name, value in self.properties if value is None)


@dataclass(frozen=True, slots=True)
class Operation:
    """`:OPERID=` to `:OPEREND`: an operation of the CAM system and what it lists. Names repeat."""

    name: str
    sub: str | None
    lists: tuple[str, ...]
    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class Source:
    """What a `.SRC`, `.LIB` or `.ATR` says.

    The tuples hold what the limits let through (`complete` tells whether that is everything); `section_count`
    and `calculation_count` count all. `facts` is how much of `ParseLimits.facts` was used.
    """

    lines: int
    headers: tuple[Header, ...]
    defines: tuple[Define, ...]
    libraries: tuple[Library, ...]
    attributes: tuple[Attribute, ...]
    operations: tuple[Operation, ...]
    sections: tuple[Section, ...]
    section_count: int
    calculation_count: int
    warnings: tuple[ParseWarning, ...]
    facts: int
    complete: bool

    @property
    def template_count(self) -> int:
        """How many sections are templates."""
        return self.section_count - self.calculation_count

    @property
    def system(self) -> str | None:
        """The first `:SYSTEM=`, in upper case."""
        found = next((header.value for header in self.headers if header.key == "SYSTEM"), None)
        return found.upper() if found else None

    @property
    def machine(self) -> str | None:
        """The default of the attribute MACHINE NAME. UPG, “machine, controller”."""
        return self._default("MACHINE NAME")

    @property
    def controller(self) -> str | None:
        """The default of the attribute CONTROLLER TYPE. UPG, “machine, controller”."""
        return self._default("CONTROLLER TYPE")

    def _default(self, name: str) -> str | None:
        defaults = (entry.default for entry in self.attributes if entry.name.upper() == name)
        return next((default for default in defaults if default), None)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary in the JSON form of the command line: `docs/camworks.md` shows it."""
        return {
            "lines": self.lines,
            "sections": self.section_count,
            "calc": self.calculation_count,
            "template": self.template_count,
            "operations": len(self.operations),
            "attributes": len(self.attributes),
            "machine": self.machine,
            "controller": self.controller,
            "system": self.system,
            "libraries": [library.path for library in self.libraries],
            "warnings": [
                {"line": warning.line, "code": warning.code, "message": warning.message}
                for warning in self.warnings
            ],
        }


def parse(chunks: Iterable[bytes], limits: ParseLimits | None = None) -> Source:
    """Return what the source says whose bytes are `chunks`, cut anywhere.

    Takes time in proportion to the bytes, and memory for one chunk and what `limits` allows. Raises nothing
    of its own, whatever the bytes are: what makes no sense becomes a warning with its line number.
    """
    reader = _Reader(limits or ParseLimits())
    for batch in lines.batches(chunks):
        reader.read(batch)
    return reader.finish()


def by_basename(paths: Iterable[str]) -> dict[str, str]:
    """Return `paths` by their file names in lower case: what `Library.resolve` looks into. The first wins."""
    places: dict[str, str] = {}
    for path in paths:
        places.setdefault(ntpath.basename(path).casefold(), path)
    return places


def visible_sections(path: str, sources: Mapping[str, Source]) -> dict[str, tuple[str, Section]]:
    """Return the sections that the source at `path` works with: by name, where each is and what it is.

    UPG, “include”: a source's own section overrides a library's, and a library listed first wins. Libraries
    of libraries count as listed where the outer one is; one that includes itself is read once. Raises
    KeyError when `path` is not among `sources`.
    """
    places = by_basename(sources)
    found: dict[str, tuple[str, Section]] = {}
    waiting, seen = [path], set[str]()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        for section in sources[place].sections:
            found.setdefault(section.name, (place, section))
        targets = [library.resolve(places) for library in sources[place].libraries]
        waiting.extend(target for target in reversed(targets) if target is not None)
    return found


class _Block:
    """An attribute or operation block whose end is still to come."""

    __slots__ = ("keyword", "line", "name", "properties")

    def __init__(self, keyword: bytes, name: str, line: int) -> None:
        self.keyword, self.name, self.line = keyword, name, line
        self.properties: list[tuple[str, str | None]] = []


class _OpenSection:
    """A section whose end is still to come; `digest` has the lines of earlier batches."""

    __slots__ = ("calls", "digest", "line", "name", "parameters")

    def __init__(self, name: str, line: int) -> None:
        self.name, self.line = name, line
        self.parameters: list[str] = []
        self.calls: dict[bytes, str] = {}
        self.digest = hashlib.sha256(usedforsecurity=False)


class _Reader:
    """Takes batches of lines and gathers what they say."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._room = limits.facts
        self._line = 0  # how many came before the batch at hand
        self._lines: list[bytes] = []  # the batch at hand
        self._block: _Block | None = None
        self._section: _OpenSection | None = None
        self._templates = self._calculations = 0
        self._headers: list[Header] = []
        self._defines: list[Define] = []
        self._libraries: list[Library] = []
        self._attributes: list[Attribute] = []
        self._operations: list[Operation] = []
        self._sections: list[Section] = []
        self._section_count = self._calculation_count = 0
        self._warnings: list[ParseWarning] = []
        self._more_warnings = 0
        self._complete = True

    def read(self, batch: lines.Batch) -> None:
        """Read some lines: those of section bodies here and fast, all others one by one."""
        if batch.cut:
            self._warn(self._line + 1, WarningCode.LINE_TOO_LONG)
        number = self._line
        self._lines = batch.lines
        inside = self._section is not None
        templates = calculations = 0
        for line in batch.lines:
            number += 1
            if inside and line.startswith(b":T:"):
                templates += 1
            elif not line or line.startswith(b"*"):
                continue
            elif inside and line.startswith(_CALCULATIONS):
                calculations += 1
                if _PARENTHESIS in line:
                    self._on_calls(number, line)
            else:
                self._templates += templates
                self._calculations += calculations
                templates = calculations = 0
                if line.startswith(b":SECTION="):
                    self._on_section(number, b"SECTION", line[9:], line)
                else:
                    self._read_line(number, line)
                inside = self._section is not None
        self._templates += templates
        self._calculations += calculations
        if self._section:
            self._digest_lines(self._section, number)
        self._line = number
        self._lines = []

    def finish(self) -> Source:
        """Return everything, now that the file has ended."""
        self._leave_block(self._line + 1)
        if self._section:
            self._leave_section(self._section, self._line)
        warnings = sorted(self._warnings, key=lambda warning: warning.line)
        if self._more_warnings:
            more = f"{self._more_warnings:,} more warnings than are listed here"
            warnings.append(ParseWarning(self._line, WarningCode.MORE_WARNINGS, more))
        return Source(
            lines=self._line,
            headers=tuple(self._headers),
            defines=tuple(self._defines),
            libraries=tuple(self._libraries),
            attributes=tuple(self._attributes),
            operations=tuple(self._operations),
            sections=tuple(self._sections),
            section_count=self._section_count,
            calculation_count=self._calculation_count,
            warnings=tuple(warnings),
            facts=self._limits.facts - self._room,
            complete=self._complete,
        )

    def _read_line(self, number: int, line: bytes) -> None:
        line = bare(line)
        if not line or line.startswith(b"*"):
            return
        statement = _DIRECTIVE.fullmatch(line)
        if not statement:
            self._warn(number, WarningCode.STRAY_LINE, line)
            return
        keyword, separator, rest = statement[1].upper(), statement[2], bare(statement[3])
        handler = _STATEMENTS.get(keyword)
        if separator == b":" and (keyword in (b"T", b"C") or (keyword[:1] == b"C" and keyword[1:].isdigit())):
            self._on_body(number, keyword, line)
        elif handler:
            if keyword == b"SECTION" and separator != b"=":
                self._warn(number, WarningCode.SECTION_SEPARATOR, line)
            handler(self, number, keyword, rest, line)
        elif self._block:
            self._on_property(number, keyword, rest if separator or rest else None, line)
        elif self._section is None:
            self._on_header(number, keyword, rest if separator or rest else None)
        else:
            self._warn(number, WarningCode.UNKNOWN_DIRECTIVE, line)

    def _on_body(self, number: int, keyword: bytes, line: bytes) -> None:
        if self._section is None:
            self._warn(number, WarningCode.OUTSIDE_SECTION, line)
        elif keyword == b"T":
            self._templates += 1
        else:
            self._calculations += 1
            self._on_calls(number, line)

    def _on_calls(self, number: int, line: bytes) -> None:
        section = self._section
        if not section or b"CALL" not in line.upper():
            return
        for call in _CALL.finditer(line):
            name = bare(call[1] or b"")
            if name and name not in section.calls and self._keep(number):
                section.calls[name] = self._text(number, name)

    def _on_section(self, number: int, _keyword: bytes, rest: bytes, line: bytes) -> None:
        self._leave_block(number)
        if self._section:
            self._leave_section(self._section, number - 1)
        title, parenthesis, listed = rest.partition(b"(")
        name = self._text(number, title)
        if not name:
            self._warn(number, WarningCode.MISSING_NAME, line)
        self._section = _OpenSection(name, number)
        if parenthesis:
            for parameter in listed.partition(b")")[0].split(b","):
                if bare(parameter) and self._keep(number):
                    self._section.parameters.append(self._text(number, parameter))

    def _leave_section(self, opened: _OpenSection, last_line: int) -> None:
        templates, calculations = self._templates, self._calculations
        self._templates = self._calculations = 0
        self._section_count += 1
        kind = SectionKind.TEMPLATE
        if opened.name[:4].upper() == "CALC":
            kind = SectionKind.CALCULATION
            self._calculation_count += 1
        if templates and calculations:
            self._warn(opened.line, WarningCode.MIXED_SECTION, opened.name.encode())
        if self._keep(opened.line):
            self._digest_lines(opened, last_line)
            section = Section(
                name=opened.name,
                kind=kind,
                parameters=tuple(opened.parameters),
                first_line=opened.line,
                last_line=last_line,
                template_lines=templates,
                calculation_lines=calculations,
                calls=tuple(opened.calls.values()),
                digest=opened.digest.hexdigest()[:32],
            )
            self._sections.append(section)

    def _digest_lines(self, opened: _OpenSection, last_line: int) -> None:
        """Add those lines of the batch at hand to the section's digest that belong to it."""
        own = self._lines[max(opened.line - 1 - self._line, 0) : max(last_line - self._line, 0)]
        if own:
            opened.digest.update(b"\n".join([*own, b""]))

    def _on_library(self, number: int, _keyword: bytes, rest: bytes, line: bytes) -> None:
        self._leave_block(number)
        if not rest:
            self._warn(number, WarningCode.MISSING_NAME, line)
        elif self._keep(number):
            self._libraries.append(Library(self._text(number, rest), number))

    def _on_define(self, number: int, _keyword: bytes, rest: bytes, line: bytes) -> None:
        self._leave_block(number)
        name, _, value = (bare(part) for part in rest.partition(b"="))
        if not name:
            self._warn(number, WarningCode.MISSING_NAME, line)
        elif self._keep(number):
            is_integer = _INTEGER.fullmatch(value)
            if not is_integer:
                self._warn(number, WarningCode.UNEXPECTED_VALUE, line)
            self._defines.append(Define(self._text(number, name), int(value) if is_integer else None, number))

    def _on_system(self, number: int, _keyword: bytes, rest: bytes, line: bytes) -> None:
        self._leave_block(number)
        if self._section:
            self._warn(number, WarningCode.UNKNOWN_DIRECTIVE, line)
            return
        if lines.text(rest).upper() not in SYSTEMS:
            self._warn(number, WarningCode.UNEXPECTED_VALUE, line)
        self._on_header(number, b"SYSTEM", rest)

    def _on_header(self, number: int, key: bytes, value: bytes | None) -> None:
        if self._keep(number):
            known = None if value is None else self._text(number, value)
            self._headers.append(Header(self._text(number, key), known, number))

    def _on_begin(self, number: int, keyword: bytes, rest: bytes, line: bytes) -> None:
        self._leave_block(number)
        if not rest:
            self._warn(number, WarningCode.MISSING_NAME, line)
        self._block = _Block(keyword, self._text(number, rest), number)

    def _on_end(self, number: int, keyword: bytes, _rest: bytes, line: bytes) -> None:
        if self._block and self._block.keyword == _BEGINS[keyword]:
            self._store_block(self._block, number)
        else:
            self._warn(number, WarningCode.END_WITHOUT_BLOCK, line)

    def _on_property(self, number: int, key: bytes, value: bytes | None, line: bytes) -> None:
        block = self._block
        if not block or not self._keep(number):
            return
        allowed = {b"ATTRTYPE": ATTRIBUTE_TYPES, b"ATTRVTYPE": VALUE_TYPES}.get(key)
        if block.keyword == b"OPERID" and key not in (b"OPERSUB", b"OPERLIST"):
            self._warn(number, WarningCode.UNKNOWN_DIRECTIVE, line)
            return
        if allowed and lines.text(value or b"").upper() not in allowed:
            self._warn(number, WarningCode.UNEXPECTED_VALUE, line)
        block.properties.append(
            (self._text(number, key), None if value is None else self._text(number, value))
        )

    def _leave_block(self, number: int) -> None:
        """Store the block, if one is open, that ends with the line before for want of an end of its own."""
        if self._block:
            self._warn(self._block.line, WarningCode.BLOCK_NOT_ENDED, self._block.name.encode())
            self._store_block(self._block, number - 1)

    def _store_block(self, block: _Block, last_line: int) -> None:
        self._block = None
        if not self._keep(block.line):
            return
        if block.keyword == b"ATTRNAME":
            attribute = Attribute(block.name, tuple(block.properties), block.line, last_line)
            self._attributes.append(attribute)
            return
        values = [(key, value or "") for key, value in block.properties]
        operation = Operation(
            name=block.name,
            sub=next((value for key, value in values if key == "OPERSUB"), None),
            lists=tuple(value for key, value in values if key == "OPERLIST"),
            first_line=block.line,
            last_line=last_line,
        )
        self._operations.append(operation)

    def _keep(self, number: int) -> bool:
        """Tell whether there is room for one more fact, and take it."""
        if self._room:
            self._room -= 1
            return True
        if self._complete:
            self._warn(number, WarningCode.TOO_MANY_FACTS)
        self._complete = False
        return False

    def _text(self, number: int, raw: bytes) -> str:
        longest = self._limits.text_bytes
        if len(raw) > longest:
            self._warn(number, WarningCode.TEXT_TOO_LONG, raw)
        return lines.text(raw[:longest])

    def _warn(self, line: int, code: WarningCode, raw: bytes = b"") -> None:
        if len(self._warnings) < self._limits.warnings:
            excerpt = lines.text(raw[:_EXCERPT])
            self._warnings.append(ParseWarning(line, code, _MESSAGES[code].format(excerpt)))
        else:
            self._more_warnings += 1


_Handler = Callable[[_Reader, int, bytes, bytes, bytes], None]  # line number, keyword, value, whole line
_BEGINS: Final = {b"ATTREND": b"ATTRNAME", b"OPEREND": b"OPERID"}
_STATEMENTS: Final[Mapping[bytes, _Handler]] = {
    b"SECTION": _Reader._on_section,
    b"LIBRARY": _Reader._on_library,
    b"INCLUDE": _Reader._on_library,
    b"DEFINE": _Reader._on_define,
    b"SYSTEM": _Reader._on_system,
    b"ATTRNAME": _Reader._on_begin,
    b"ATTREND": _Reader._on_end,
    b"OPERID": _Reader._on_begin,
    b"OPEREND": _Reader._on_end,
}


def main(arguments: Sequence[str] | None = None, output: IO[str] | None = None) -> int:
    """Print what the source named in `arguments` says; the exit status is 2 when it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m veripost.platforms.camworks",
        description="Print what a CAMWorks source (.SRC, .LIB, .ATR) says, as one JSON object.",
    )
    parser.add_argument("file", metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        with Path(options.file).open("rb") as file:
            source = parse(iter(partial(file.read, _READ_BYTES), b""))
    except OSError as error:
        print(f"{parser.prog}: {options.file}: {error.strerror or error}", file=sys.stderr)
        return 2
    print(json.dumps(source.as_dict(), indent=2), file=output or sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
