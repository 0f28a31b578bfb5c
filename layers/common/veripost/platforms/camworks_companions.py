"""Reads what else a CAMWorks package holds: `.KIN`, `.PINF`, `.LNG`. Bytes in, facts out, never an exception.

A `.CTL` is a compiled binary and is never read; `.ATR` speaks the language of `veripost.platforms.camworks`.
Rules are cited as “UPG, <file>”: the row of `docs/camworks.md` that says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from veripost.platforms import lines
from veripost.platforms.lines import bare

MOST_ROWS: Final = 20_000
"""How many rows of one file are kept; what is beyond is only counted."""
_LONGEST_TEXT: Final = 1_024
_NUMBER: Final = re.compile(rb"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)")
# The number comes last and in colons; some files lack the second one.
_MESSAGE: Final = re.compile(rb":([0-9]{1,9}):?+")


@dataclass(frozen=True, slots=True)
class KinematicValue:
    """One line `value * description`; `number` is the value where it is one."""

    value: str
    number: float | None
    description: str
    line: int


@dataclass(frozen=True, slots=True)
class Kinematics:
    """What a `.KIN` says. `lines` counts all; files have 19, or 22 since CAMWorks 2020 SP3. UPG, “.KIN”."""

    lines: int
    values: tuple[KinematicValue, ...]

    @property
    def axis_type(self) -> int | None:
        """What the first line says: 0 to 5, or None."""
        number = self._number(1)
        return int(number) if number is not None and number in range(6) else None

    @property
    def coordinates(self) -> str | None:
        """What the second line says: `part` or `machine` coordinates, or None."""
        number = self._number(2)
        return None if number is None else {0.0: "part", 1.0: "machine"}.get(number)

    def _number(self, line: int) -> float | None:
        return next((value.number for value in self.values if value.line == line), None)


@dataclass(frozen=True, slots=True)
class Entry:
    """One `Key = Value`, as written."""

    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Information:
    """What a `.PINF` says. UPG, “.PINF”."""

    lines: int
    entries: tuple[Entry, ...]

    @property
    def post_name(self) -> str | None:
        """What the post processor is called."""
        return self.value("PostName")

    @property
    def post_extension(self) -> str | None:
        """What the programs end in that it writes, such as `.nc`."""
        return self.value("PostExtension")

    @property
    def notes(self) -> tuple[str, ...]:
        """The `.RTF` files that ShortInfo and LongInfo name."""
        named = (self.value("ShortInfo"), self.value("LongInfo"))
        return tuple(name for name in named if name)

    def value(self, key: str) -> str | None:
        """Return the first value of `key`, whatever its case, or None."""
        wanted = key.casefold()
        return next((entry.value for entry in self.entries if entry.key.casefold() == wanted), None)


@dataclass(frozen=True, slots=True)
class Message:
    """One text and its number, which counts within its file and means nothing elsewhere."""

    number: int
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Language:
    """What a `.LNG` says. UPG, “.LNG”."""

    lines: int
    messages: tuple[Message, ...]


def parse_kinematics(chunks: Iterable[bytes]) -> Kinematics:
    """Return what the `.KIN` says whose bytes are `chunks`, cut anywhere. Raises nothing of its own.

    UPG, “.KIN”: a value, a star, a description; the blanks around the star may be missing.
    """
    count, values = 0, list[KinematicValue]()
    for count, line in _numbered(chunks):
        raw, _, description = line.partition(b"*")
        value = bare(raw)
        if not value or len(values) == MOST_ROWS:
            continue
        number = float(value) if len(value) <= 32 and _NUMBER.fullmatch(value) else None
        values.append(KinematicValue(_text(value), number, _text(description), count))
    return Kinematics(count, tuple(values))


def parse_information(chunks: Iterable[bytes]) -> Information:
    """Return what the `.PINF` says whose bytes are `chunks`, cut anywhere. Raises nothing of its own.

    UPG, “.PINF”: `Key = Value`; lines of slashes are a banner.
    """
    count, entries = 0, list[Entry]()
    for count, line in _numbered(chunks):
        key, equals, value = line.partition(b"=")
        if equals and bare(key) and not line.startswith(b"//") and len(entries) < MOST_ROWS:
            entries.append(Entry(_text(key), _text(value), count))
    return Information(count, tuple(entries))


def parse_language(chunks: Iterable[bytes]) -> Language:
    """Return what the `.LNG` says whose bytes are `chunks`, cut anywhere. Raises nothing of its own.

    UPG, “.LNG”: a text padded with blanks, and its number in colons. The padding is not counted on.
    """
    count, messages = 0, list[Message]()
    for count, line in _numbered(chunks):
        start = line.rfind(b":", 0, len(line) - 1)
        number = _MESSAGE.fullmatch(line, max(start, 0))
        if number and len(messages) < MOST_ROWS:
            messages.append(Message(int(number[1]), _text(line[: number.start()]), count))
    return Language(count, tuple(messages))


def _numbered(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    for batch in lines.batches(chunks):
        for line in batch.lines:
            number += 1
            yield number, bare(line)


def _text(raw: bytes) -> str:
    return lines.text(bare(raw)[:_LONGEST_TEXT])
