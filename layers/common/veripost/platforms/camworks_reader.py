"""How VeriPost reads a CAMWorks package: which parser for which extension, and what that says of the whole.

The registry loads this module only where files are read: the API's functions start sooner without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from veripost.platforms import camworks, camworks_companions, camworks_notices
from veripost.platforms.camworks import ParseLimits, Source
from veripost.platforms.facts import Attribute, FileFacts, PackageFacts, Reader

_WARNINGS = 9  # with the line that counts the rest, as many as a notice lists


def read_source(chunks: Iterable[bytes], room: int) -> FileFacts:
    """Read a `.SRC` or `.LIB`. Its headers, defines, libraries and operations become attributes as well."""
    source = camworks.parse(chunks, ParseLimits(facts=room, warnings=_WARNINGS))
    return FileFacts(
        sections=source.sections,
        attributes=_stated(source),
        section_count=source.section_count,
        facts=source.facts,
        complete=source.complete,
        own=source,
    )


def read_attributes(chunks: Iterable[bytes], room: int) -> FileFacts:
    """Read an `.ATR`: what it holds besides attributes and headers does not belong there."""
    source = camworks.parse(chunks, ParseLimits(facts=room, warnings=_WARNINGS))
    return FileFacts(attributes=_stated(source), facts=source.facts, complete=source.complete)


def read_kinematics(chunks: Iterable[bytes], room: int) -> FileFacts:
    """Read a `.KIN`: each value by its description."""
    read = camworks_companions.parse_kinematics(chunks)
    return _rows(
        [
            _named("kinematics", value.description or f"line {value.line}", value.value, value.line)
            for value in read.values
        ],
        room,
    )


def read_information(chunks: Iterable[bytes], room: int) -> FileFacts:
    """Read a `.PINF`: each value by its key."""
    read = camworks_companions.parse_information(chunks)
    return _rows([_named("information", entry.key, entry.value, entry.line) for entry in read.entries], room)


def read_language(chunks: Iterable[bytes], room: int) -> FileFacts:
    """Read a `.LNG`: each text. Its number only counts within the file, as its line does."""
    read = camworks_companions.parse_language(chunks)
    return _rows([_named("message", text.text, None, text.line) for text in read.messages], room)


def conclude(paths: Sequence[str], files: Mapping[str, FileFacts]) -> PackageFacts:
    """Lift machine, controller and the number of sections; notice what is odd.

    Machine and controller are those of the first `.SRC`, by case-folded path, that states them.
    """
    sources = {path: facts.own for path, facts in files.items() if isinstance(facts.own, Source)}
    main = [
        source
        for path, source in sorted(sources.items(), key=lambda item: item[0].casefold())
        if path.casefold().endswith(".src")
    ]
    return PackageFacts(
        machine_type=next((source.machine for source in main if source.machine), None),
        controller_type=next((source.controller for source in main if source.controller), None),
        section_count=sum(source.section_count for source in sources.values()),
        notices=tuple(camworks_notices.notices(paths, sources)),
    )


READER = Reader(
    parsers={
        ".SRC": read_source,
        ".LIB": read_source,
        ".ATR": read_attributes,
        ".KIN": read_kinematics,
        ".PINF": read_information,
        ".LNG": read_language,
    },
    conclude=conclude,
)


def _stated(source: Source) -> tuple[Attribute, ...]:
    found = [_named("header", header.key, header.value, header.line) for header in source.headers]
    found += [
        _named("define", define.name, None if define.value is None else str(define.value), define.line)
        for define in source.defines
    ]
    found += [_named("library", library.basename, library.path, library.line) for library in source.libraries]
    found += [
        Attribute("attribute", entry.name, entry.default, entry.properties, entry.first_line, entry.last_line)
        for entry in source.attributes
    ]
    found += [
        Attribute(
            "operation",
            entry.name,
            entry.sub,
            tuple(("OPERLIST", listed) for listed in entry.lists),
            entry.first_line,
            entry.last_line,
        )
        for entry in source.operations
    ]
    return tuple(sorted(found, key=lambda attribute: attribute.first_line))


def _named(kind: str, name: str, value: str | None, line: int) -> Attribute:
    return Attribute(kind, name, value, (), line, line)


def _rows(found: Sequence[Attribute], room: int) -> FileFacts:
    kept = tuple(found[:room])
    return FileFacts(attributes=kept, facts=len(kept), complete=len(kept) == len(found))
