"""What the files of a package say, in the words of no platform: parsers make it, the engine stores it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from veripost.errors import Problem


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of a file. Lines count from 1, and both ends belong to the section.

    `kind` is one of the platform's words. `calculation_lines` includes those with a label. `calls` names each
    section it calls once, in the order of the first call. `digest` is the same for the same lines, whatever
    ends them, and differs for others: the first 128 bits of their SHA-256, in hex.
    """

    name: str
    kind: str
    parameters: tuple[str, ...]
    first_line: int
    last_line: int
    template_lines: int
    calculation_lines: int
    calls: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something a file states by name: `kind` says in what sense, `details` what else it says, in order."""

    kind: str
    name: str
    value: str | None
    details: tuple[tuple[str, str | None], ...]
    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one file says.

    `section_count` counts all that are live, also beyond what is kept (`complete` tells whether that is
    everything). `facts` is how much of the room that was given is used. `own` is for the platform's
    `conclude` alone.
    """

    sections: tuple[Section, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    section_count: int = 0
    facts: int = 0
    complete: bool = True
    own: object = None


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What the files say of their package, and what is odd about them: notices, which never refuse it."""

    machine_type: str | None = None
    controller_type: str | None = None
    section_count: int | None = None
    notices: tuple[Problem, ...] = ()


def _nothing(_paths: Sequence[str], _files: Mapping[str, FileFacts]) -> PackageFacts:
    return PackageFacts()


Parser = Callable[[Iterable[bytes], int], FileFacts]
"""Chunks of a file, cut anywhere, and the most facts to keep, to what the file says."""
Conclude = Callable[[Sequence[str], Mapping[str, FileFacts]], PackageFacts]
"""All paths of a package, and what those of them say that were read, to what that means for the package."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a platform's files are read: a parser for each extension (upper case, with dot), and the sum."""

    parsers: Mapping[str, Parser] = field(default_factory=dict)
    conclude: Conclude = _nothing
