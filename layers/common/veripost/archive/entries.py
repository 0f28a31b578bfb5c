"""What the gate says of an archive: its members, its directory, and what a member may be packed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from veripost.archive.findings import finding
from veripost.archive.limits import Limits
from veripost.archive.records import (
    DEFLATED,
    DESCRIPTOR_FLAG,
    ENCRYPTED_FLAG,
    MASKED_FLAG,
    PATCH_FLAG,
    STORED,
    STRONG_ENCRYPTION_FLAG,
)
from veripost.errors import Problem, ProblemCode, has_errors

_REFUSED_FLAGS: Final = ENCRYPTED_FLAG | PATCH_FLAG | STRONG_ENCRYPTION_FLAG | MASKED_FLAG
_AES: Final = 99
# 4.4.5, those that occur
_METHOD_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 20: "Zstandard (old)",
        93: "Zstandard", 94: "MP3", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "AES encryption",
    }
)  # fmt: skip
# Everything that `content_problems` may find.
CONTENT_CODES: Final = frozenset(
    {
        ProblemCode.DIRECTORY_ENCRYPTED,
        ProblemCode.STRONG_ENCRYPTION,
        ProblemCode.ENCRYPTED,
        ProblemCode.PATCHED_DATA,
        ProblemCode.UNSUPPORTED_METHOD,
        ProblemCode.STORED_SIZE_MISMATCH,
        ProblemCode.MEMBER_TOO_LARGE,
        ProblemCode.RATIO_TOO_HIGH,
    }
)


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the directory. All sizes and offsets are in bytes.

    `index` is the place in archive order (by offset), `name` the full decoded path (a folder's ends in
    `/`). The span `[header_offset, end_offset)` holds the local header, the data and the data descriptor;
    the spans of an accepted archive tile `[0, directory_offset)`.
    """

    index: int
    name: str
    raw_name: bytes
    method: int
    flags: int
    crc32: int
    compressed_size: int
    size: int
    header_offset: int
    end_offset: int

    @property
    def is_dir(self) -> bool:
        """Tell whether this is a folder (4.3.8: by the slash at the end of its name)."""
        return self.name.endswith("/")

    @property
    def has_descriptor(self) -> bool:
        """Tell whether a data descriptor follows the data (4.3.9.1)."""
        return bool(self.flags & DESCRIPTOR_FLAG)


@dataclass(frozen=True, slots=True)
class Directory:
    """An archive's directory with the verdict of all rules that need no member's bytes.

    `problems` is capped, `unlisted` tells how many errors were too many to list. `readable` tells whether
    members can be read to find what else is wrong, also when the archive is refused already; where it is
    False because the structure is broken, `members` is empty.
    """

    members: tuple[Member, ...]
    problems: tuple[Problem, ...]
    unlisted: int
    readable: bool
    directory_offset: int
    size: int
    comment: bytes
    entries_offset: int = 0

    @property
    def accepted(self) -> bool:
        """Tell whether no rule refused; the members' bytes are still to be verified."""
        return not has_errors(self.problems)


def content_problems(member: Member, limits: Limits) -> Sequence[Problem]:
    """Return why a member's content must not or cannot be read; empty when it may be.

    A pure function of the directory's values, so directory and reader give equal findings.
    """
    method, size, packed = member.method, member.size, member.compressed_size
    if (
        not member.flags & _REFUSED_FLAGS
        and size <= limits.member_bytes
        and (size <= limits.ratio_floor_bytes or size <= limits.ratio * packed)
        and (method == DEFLATED or (method == STORED and size == packed))
    ):
        return ()
    found = _encryption_problems(member)
    where = f"header at {member.header_offset}"
    if method not in {STORED, DEFLATED, _AES}:
        name = _METHOD_NAMES.get(method, "unknown")
        found.append(
            finding(
                ProblemCode.UNSUPPORTED_METHOD,
                f"4.4.5: method {method} ({name}), only 0 and 8 are read; {where}",
                member=member.name,
            )
        )
    if method == STORED and size != packed and not member.flags & ENCRYPTED_FLAG:
        found.append(
            finding(
                ProblemCode.STORED_SIZE_MISMATCH,
                f"4.4.8: method 0 with {packed} bytes stored, {size} declared; {where}",
                member=member.name,
            )
        )
    found.extend(size_problems(member.name, size, limits))
    if size > limits.ratio_floor_bytes and size > limits.ratio * packed:
        found.append(
            finding(
                ProblemCode.RATIO_TOO_HIGH,
                f"{packed} bytes would become {size}, at most {limits.ratio}:1; {where}",
                member=member.name,
            )
        )
    return found


# -- what is known from names and sizes alone, and so can be said of a mere list of files


def count_problems(entries: int, limits: Limits) -> Iterator[Problem]:
    """Yield the finding that there are too many entries to look at any of them, if so."""
    if entries > limits.entries:
        yield finding(
            ProblemCode.TOO_MANY_ENTRIES,
            f"4.4.22: {entries} entries, at most {limits.entries}",
            message=f"There are {entries} files in the ZIP; VeriPost takes {limits.entries}.",
        )


def size_problems(name: str, size: int, limits: Limits) -> Iterator[Problem]:
    """Yield the finding that one member is too large, if so."""
    if size > limits.member_bytes:
        yield finding(
            ProblemCode.MEMBER_TOO_LARGE,
            f"4.4.9: {size} bytes declared, at most {limits.member_bytes}",
            member=name,
        )


def folder_problems(name: str, size: int, crc32: int = 0) -> Iterator[Problem]:
    """Yield the finding that a folder, by its name, has content, if so."""
    if name.endswith("/") and (size or crc32):
        yield finding(
            ProblemCode.FOLDER_WITH_DATA,
            f"4.3.8: a folder of {size} bytes" + (f", CRC {crc32:08x}" if crc32 else ""),
            member=name,
        )


def total_problems(size: int, limits: Limits) -> Iterator[Problem]:
    """Yield the finding that all members together are too large, if so."""
    if size > limits.total_bytes:
        yield finding(ProblemCode.TOTAL_TOO_LARGE, f"{size} bytes declared, at most {limits.total_bytes}")


def _encryption_problems(member: Member) -> list[Problem]:
    flags, where = member.flags, f"flags 0x{member.flags:04x}, header at {member.header_offset}"
    found = []
    if flags & MASKED_FLAG:
        found.append(finding(ProblemCode.DIRECTORY_ENCRYPTED, f"4.4.4 bit 13: {where}", member=member.name))
    if flags & STRONG_ENCRYPTION_FLAG or member.method == _AES:
        found.append(
            finding(
                ProblemCode.STRONG_ENCRYPTION,
                f"4.4.4 bit 6 or method {_AES}: method {member.method}, {where}",
                member=member.name,
            )
        )
    elif flags & ENCRYPTED_FLAG:
        found.append(finding(ProblemCode.ENCRYPTED, f"4.4.4 bit 0: {where}", member=member.name))
    if flags & PATCH_FLAG:
        found.append(finding(ProblemCode.PATCHED_DATA, f"4.4.4 bit 5: {where}", member=member.name))
    return found
