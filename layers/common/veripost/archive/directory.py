"""Reads an archive's directory and applies every rule that needs no member's bytes.

Section numbers are those of APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from veripost.archive.entries import (
    Directory,
    Member,
    content_problems,
    count_problems,
    folder_problems,
    total_problems,
)
from veripost.archive.findings import Findings, finding, shown
from veripost.archive.limits import Limits
from veripost.archive.names import (
    UnicodePathConflictError,
    clash_problems,
    decode_name,
    name_problems,
    unicode_path,
)
from veripost.archive.records import (
    CENTRAL_SIGNATURE,
    DESCRIPTOR_SIGNATURE,
    DIGITAL_SIGNATURE,
    END_RECORD,
    LOCAL_HEADER,
    LOCAL_SIGNATURE,
    LONGEST_DESCRIPTOR,
    MAX_16,
    MAX_32,
    SIGNATURES,
    TAIL_BYTES,
    UNICODE_PATH_EXTRA,
    ZIP64_END_RECORD,
    ZIP64_END_SIGNATURE,
    ZIP64_EXTRA,
    ZIP64_LOCATOR,
    ZIP64_LOCATOR_SIGNATURE,
    CentralHeader,
    EndRecord,
    RecordError,
    central_headers,
    comment_length,
    find_end_records,
    is_foreign_extra,
    parse_end_record,
    parse_extra,
    parse_zip64_end_record,
    parse_zip64_extra,
    repeated,
)
from veripost.archive.sniff import HEAD_BYTES, likeness
from veripost.archive.source import Source
from veripost.errors import Problem, ProblemCode

_NEWEST_VERSION: Final = 63  # 4.4.3.2: the newest feature that exists is version 6.3
_DOS_HOSTS: Final = frozenset({0, 10, 11, 14})  # 4.4.2.2: FAT, NTFS, MVS (as 7-Zip counts NTFS), VFAT
_DOS_FOLDER: Final = 0x10
_DOS_REPARSE_POINT: Final = 0x400
# What nearly all files have: nothing, Windows' archive bit, or a Unix mode that is an ordinary one.
_FILE_ATTRIBUTES: Final = frozenset(
    {0, 0x20} | {mode << 16 for mode in (0o600, 0o100600, 0o100644, 0o100755)}
)


class _UnusableError(Exception):
    """The directory cannot be read; the problems say why."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Tail:
    """The last bytes of the file, addressed by their offsets in the file."""

    source: Source
    data: bytes
    offset: int

    def read(self, start: int, end: int) -> bytes:
        """Return the file's bytes from `start` to `end`, from the source only what the tail lacks."""
        missing = b""
        if start < self.offset:
            missing = self.source.read_at(start, min(end, self.offset) - start)
        return missing + self.data[max(0, start - self.offset) : max(0, end - self.offset)]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the directory lies, by the end records, and its bytes."""

    directory: bytes
    directory_offset: int
    entries: int
    comment: bytes


def read_directory(source: Source, limits: Limits) -> Directory:
    """Read the directory of the archive in `source` and apply every rule that needs no member's bytes.

    Reads the last 64 KiB once, and the rest of the directory only where that does not hold it (of a file
    that is refused perhaps a few bytes more). Never raises for what the bytes are: findings are problems.
    Raises only what the source raises.
    """
    findings = Findings(limits.problems)
    comment = b""
    try:
        frame = _find_directory(source, limits, findings)
        comment = frame.comment
        headers = _read_headers(frame)
    except _UnusableError as error:
        findings.extend(error.problems)
        return Directory((), findings.listed(), findings.unlisted_errors, False, 0, source.size, comment)
    members, sound = _members(headers, frame, limits, findings)
    if not members and frame.directory_offset:
        findings.add(_prefix(frame.directory_offset))
    sound = sound and _check_tiling(members, frame.directory_offset, findings)
    bearable = True
    if sound:
        totals = list(_total_problems(members, limits))
        findings.extend(totals)
        bearable = not totals
    findings.extend(
        clash_problems([member.name for member in members], [member.raw_name for member in members], limits)
    )
    return Directory(
        members=tuple(members) if sound else (),
        problems=findings.listed(),
        unlisted=findings.unlisted_errors,
        readable=sound and bearable,
        directory_offset=frame.directory_offset,
        size=source.size,
        comment=comment,
    )


def _total_problems(members: Sequence[Member], limits: Limits) -> Iterator[Problem]:
    """Check all members together: many that are each below a limit are a bomb as well."""
    size = sum(member.size for member in members)
    packed = sum(member.compressed_size for member in members)
    yield from total_problems(size, limits)
    if len(members) > 1 and size > limits.ratio_floor_bytes and size > limits.ratio * packed:
        yield finding(
            ProblemCode.RATIO_TOO_HIGH,
            f"{packed} bytes in {len(members)} members would become {size}, at most {limits.ratio}:1",
            message="Together the files in the ZIP would grow more on unpacking than any real files do.",
        )


def _prefix(length: int) -> Problem:
    return finding(ProblemCode.PREFIX_DATA, f"4.3.6: {length} bytes in front of the first local header")


# -- the end of the file: end record, ZIP64 records, where the directory lies


def _find_directory(source: Source, limits: Limits, findings: Findings) -> _Frame:
    if source.size > limits.archive_bytes:
        raise _UnusableError(
            finding(ProblemCode.ARCHIVE_TOO_LARGE, f"{source.size} bytes, at most {limits.archive_bytes}")
        )
    offset = max(0, source.size - TAIL_BYTES)
    data = source.read_at(offset, source.size - offset) if source.size else b""
    tail = _Tail(source, data, offset)
    fitting, last = find_end_records(tail.data)
    if not fitting:
        raise _UnusableError(_no_end(tail, last))
    position = fitting[0]
    comment = tail.data[position + END_RECORD.size :]
    findings.extend(_comment_problems(comment, len(fitting), limits))
    end = parse_end_record(tail.data, position)
    record, directory_end = _resolve_zip64(tail, position, end)
    _check_bounds(record, limits)
    _check_place(tail, record, directory_end)
    directory = tail.read(record.directory_offset, directory_end)
    return _Frame(directory, record.directory_offset, record.entries, comment)


def _no_end(tail: _Tail, last: int) -> Problem:
    """Say what a file is that no end record ends: a ZIP with something behind it, a part of one, or none."""
    size = tail.source.size
    head = tail.read(0, min(HEAD_BYTES, size))
    end = last + END_RECORD.size + comment_length(tail.data, last) if last >= 0 else -1
    if last >= 0 and (end < len(tail.data) or head.startswith(SIGNATURES)):
        padded = 0 <= end < len(tail.data) and not tail.data[end:].strip(b"\0")
        return finding(
            ProblemCode.TRAILING_DATA if end < len(tail.data) else ProblemCode.TRUNCATED_ARCHIVE,
            f"4.3.16: the last end record lies at {tail.offset + last} and ends at {tail.offset + end}, "
            f"the file at {size}",
            hint="It is padded with zeros, as bsdtar does in a pipe: let it write to a file instead."
            if padded
            else None,
        )
    if head.startswith(DESCRIPTOR_SIGNATURE + LOCAL_SIGNATURE):
        return finding(ProblemCode.MULTI_DISK, "8.5.3: the file starts with the marker of a split archive")
    if head.startswith(SIGNATURES):
        return finding(
            ProblemCode.TRUNCATED_ARCHIVE,
            f"4.3.16: the file starts with {head[:4]!r} and has no end record in its last "
            f"{len(tail.data)} bytes",
        )
    seems = likeness(head)
    return finding(
        ProblemCode.NOT_A_ZIP,
        f"no ZIP signature at either end of {size} bytes; it starts with {head[:16].hex(' ') or 'nothing'}",
        message=seems.message if seems else None,
        hint=seems.hint if seems else None,
    )


def _comment_problems(comment: bytes, candidates: int, limits: Limits) -> Iterator[Problem]:
    if len(comment) > limits.comment_bytes:
        yield finding(
            ProblemCode.COMMENT_TOO_LONG, f"4.4.26: {len(comment)} bytes, at most {limits.comment_bytes}"
        )
    found = [signature for signature in SIGNATURES if signature in comment]
    if found or candidates > 1:
        yield finding(
            ProblemCode.COMMENT_SIGNATURE,
            f"4.3.16: {candidates} end records reach the end of the file; signatures in the last one's "
            f"comment: {found}",
        )


def _resolve_zip64(tail: _Tail, position: int, end: EndRecord) -> tuple[EndRecord, int]:
    """Return the record that counts, and the offset at which the directory must end."""
    locator = position - ZIP64_LOCATOR.size
    if locator < 0 or not tail.data.startswith(ZIP64_LOCATOR_SIGNATURE, locator):
        if MAX_32 in (end.directory_size, end.directory_offset) or end.entries == MAX_16:
            raise _UnusableError(
                finding(
                    ProblemCode.ZIP64_LOCATOR_MISSING,
                    f"4.4.1.4: the end record at {tail.offset + position} points to ZIP64, "
                    "there is no locator in front of it",
                )
            )
        return end, tail.offset + position
    _, disk, offset, disks = ZIP64_LOCATOR.unpack_from(tail.data, locator)
    if disk != 0 or disks != 1:
        raise _UnusableError(
            finding(ProblemCode.MULTI_DISK, f"4.3.15: record on disk {disk} of {disks} disks")
        )
    locator_offset = tail.offset + locator
    try:
        record, length = parse_zip64_end_record(_bytes_before(tail, offset, locator_offset))
    except RecordError as error:
        raise _UnusableError(
            finding(
                ProblemCode.ZIP64_RECORD_MISPLACED,
                f"4.3.15: the locator at {locator_offset} points to {offset}: {error}",
            )
        ) from error
    if offset + length != locator_offset:
        raise _UnusableError(
            finding(
                ProblemCode.ZIP64_RECORD_MISPLACED,
                f"4.3.14: the record at {offset} has {length} bytes, the locator is at {locator_offset}",
            )
        )
    if length != ZIP64_END_RECORD.size:
        raise _UnusableError(
            finding(
                ProblemCode.ZIP64_RECORD_EXTENDED,
                f"4.3.14.2: the record at {offset} has {length} bytes, not {ZIP64_END_RECORD.size}",
            )
        )
    _check_agreement(end, record)
    return record, offset


def _bytes_before(tail: _Tail, offset: int, locator_offset: int) -> bytes:
    end = offset + ZIP64_END_RECORD.size
    return tail.read(offset, end) if end <= locator_offset else b""


def _check_agreement(end: EndRecord, record: EndRecord) -> None:
    """Check what stands in both end records: all that is not at its maximum counts there (4.4.1.4)."""
    pairs = (
        ("disk", end.disk, record.disk, MAX_16),
        ("directory's disk", end.directory_disk, record.directory_disk, MAX_16),
        ("entries on this disk", end.entries_here, record.entries_here, MAX_16),
        ("entries", end.entries, record.entries, MAX_16),
        ("directory size", end.directory_size, record.directory_size, MAX_32),
        ("directory offset", end.directory_offset, record.directory_offset, MAX_32),
    )
    wrong = [f"{what} {short} and {long}" for what, short, long, top in pairs if short not in {long, top}]
    if wrong:
        raise _UnusableError(
            finding(ProblemCode.ZIP64_RECORD_MISMATCH, "4.4.1.4: " + ", ".join(wrong)),
        )


def _check_bounds(record: EndRecord, limits: Limits) -> None:
    """Check that the directory is one file's, and of a size that may be read at all."""
    found = []
    if record.disk or record.directory_disk or record.entries_here != record.entries:
        found.append(
            finding(
                ProblemCode.MULTI_DISK,
                f"4.4.19 to 4.4.22: disk {record.disk}, directory on disk {record.directory_disk}, "
                f"{record.entries_here} of {record.entries} entries on this disk",
            )
        )
    found.extend(count_problems(record.entries, limits))
    if record.directory_size > limits.directory_bytes:
        found.append(
            finding(
                ProblemCode.DIRECTORY_TOO_LARGE,
                f"4.4.23: {record.directory_size} bytes, at most {limits.directory_bytes}",
            )
        )
    if found:
        raise _UnusableError(*found)


def _check_place(tail: _Tail, record: EndRecord, directory_end: int) -> None:
    """Check that the directory ends exactly where the end records start (4.3.6, 4.4.24)."""
    claimed_end = record.directory_offset + record.directory_size
    shift = directory_end - claimed_end
    if shift == 0:
        return
    detail = (
        f"4.4.24: the directory should lie at {record.directory_offset} and end at {claimed_end}, "
        f"the end records start at {directory_end}"
    )
    actual = directory_end - record.directory_size
    if shift < 0:
        code = ProblemCode.DIRECTORY_OUT_OF_BOUNDS
    elif shift == ZIP64_END_RECORD.size and tail.read(claimed_end, claimed_end + 4) == ZIP64_END_SIGNATURE:
        code = ProblemCode.ZIP64_LOCATOR_MISSING
    elif tail.read(actual, min(actual + 4, directory_end)) == CENTRAL_SIGNATURE:
        code = ProblemCode.PREFIX_DATA
        detail += f"; everything lies {shift} bytes further on"
    else:
        code = ProblemCode.DIRECTORY_MISPLACED
    raise _UnusableError(finding(code, detail))


# -- the directory's entries


def _read_headers(frame: _Frame) -> list[CentralHeader]:
    headers: list[CentralHeader] = []
    try:
        # One more than it says, so that a surplus is seen without reading all of it.
        headers.extend(central_headers(frame.directory, frame.entries + 1))
    except RecordError as error:
        raise _UnusableError(
            finding(
                ProblemCode.DIRECTORY_CORRUPT,
                f"4.3.12: directory at {frame.directory_offset}, entry {len(headers)}: {error}",
            )
        ) from error
    if len(headers) != frame.entries:
        raise _UnusableError(
            finding(
                ProblemCode.ENTRY_COUNT_MISMATCH,
                f"4.4.22: {frame.entries} entries declared, "
                f"{'more' if len(headers) > frame.entries else len(headers)} in the directory",
            )
        )
    consumed = headers[-1].end if headers else 0
    if consumed != len(frame.directory):
        signature = frame.directory[consumed : consumed + 4]
        signed = signature == DIGITAL_SIGNATURE
        raise _UnusableError(
            finding(
                ProblemCode.DIRECTORY_SIGNED if signed else ProblemCode.DIRECTORY_CORRUPT,
                f"{'4.3.13' if signed else '4.3.12'}: {len(frame.directory) - consumed} bytes behind the "
                f"last entry, at {frame.directory_offset + consumed}: {signature!r}",
            )
        )
    return headers


class _Entry(NamedTuple):
    """An entry with its extra fields applied: sizes, offset and disk as ZIP64 has them, the decoded name.

    `sound` tells whether sizes and offset can be relied on.
    """

    header: CentralHeader
    name: str
    sound: bool


def _members(
    headers: Sequence[CentralHeader], frame: _Frame, limits: Limits, findings: Findings
) -> tuple[list[Member], bool]:
    """Return the members in archive order, and whether their sizes and offsets can be relied on."""
    entries = [_entry(header, limits, findings) for header in headers]
    entries.sort(key=lambda entry: entry.header.header_offset)
    ends = [entry.header.header_offset for entry in entries[1:]]
    ends.append(frame.directory_offset)
    members = []
    for index, ((header, name, sound), end) in enumerate(zip(entries, ends, strict=False)):
        member = Member(
            index,
            name,
            header.raw_name,
            header.method,
            header.flags,
            header.crc32,
            header.compressed_size,
            header.size,
            header.header_offset,
            end,
        )
        if sound and (problems := content_problems(member, limits)):
            findings.extend(problems)
        members.append(member)
    return members, all(entry.sound for entry in entries)


def _entry(header: CentralHeader, limits: Limits, findings: Findings) -> _Entry:
    try:
        name = decode_name(header.raw_name, header.flags)
    except UnicodeDecodeError as error:
        name = header.raw_name.decode("utf-8", "replace")
        findings.add(finding(ProblemCode.NAME_ENCODING, f"4.4.4 bit 11, appendix D: {error}", member=name))
    entry = _Entry(header, name, True)
    if (
        MAX_32 in (header.size, header.compressed_size, header.header_offset)
        or header.disk
        or (header.extra and not is_foreign_extra(header.extra))
    ):
        entry = _apply_extra(entry, findings)
    if problems := name_problems(header.raw_name, entry.name, limits):
        findings.extend(problems)
    if header.external_attributes not in _FILE_ATTRIBUTES or name.endswith("/"):
        findings.extend(_attribute_problems(entry))
    if header.version_needed & 0xFF > _NEWEST_VERSION:
        findings.add(
            finding(
                ProblemCode.VERSION_TOO_NEW,
                f"4.4.3: version {header.version_needed} needed, the newest is {_NEWEST_VERSION}",
                member=entry.name,
            )
        )
    return entry


def _apply_extra(entry: _Entry, findings: Findings) -> _Entry:
    """Return the entry with sizes, offset, disk and name as its extra fields give them."""
    header, name, sound = entry

    def add(code: ProblemCode, detail: str) -> None:
        findings.add(finding(code, detail, member=name))

    try:
        fields = parse_extra(header.extra)
    except RecordError as error:
        add(ProblemCode.EXTRA_MALFORMED, f"4.5.1: directory: {error}")
        return entry._replace(sound=False)
    for identifier in repeated(fields):
        sound = sound and identifier != ZIP64_EXTRA
        add(ProblemCode.EXTRA_DUPLICATE, f"4.5.1: directory: extra field 0x{identifier:04x} twice")
    values = dict(reversed(fields))  # of two equal ones the first; that is an error already
    if UNICODE_PATH_EXTRA in values:
        try:
            name = unicode_path(header.raw_name, header.flags, values[UNICODE_PATH_EXTRA])
        except RecordError as error:
            add(ProblemCode.UNICODE_PATH_INVALID, f"4.6.9: directory: {error}")
        except UnicodePathConflictError as error:
            add(ProblemCode.UNICODE_PATH_CONFLICT, f"4.6.9: directory: {error}")
    try:
        header = _apply_zip64(header, values.get(ZIP64_EXTRA))
    except RecordError as error:
        sound = False
        add(ProblemCode.ZIP64_EXTRA_INVALID, f"4.5.3: directory: {error}")
    else:
        if header.disk:
            add(ProblemCode.MULTI_DISK, f"4.4.13: starts on disk {header.disk}")
    return _Entry(header, name, sound)


def _apply_zip64(header: CentralHeader, field: bytes | None) -> CentralHeader:
    """Return the header with those values from the ZIP64 extra field that it calls for (4.5.3)."""
    wanted = (
        header.size == MAX_32,
        header.compressed_size == MAX_32,
        header.header_offset == MAX_32,
        header.disk == MAX_16,
    )
    if field is None and not any(wanted):
        return header
    values = parse_zip64_extra(field or b"", *wanted)
    short = (header.size, header.compressed_size, header.header_offset, header.disk)
    size, compressed_size, header_offset, disk = (
        value if value is not None else kept for value, kept in zip(values, short, strict=True)
    )
    return header._replace(size=size, compressed_size=compressed_size, header_offset=header_offset, disk=disk)


def _attribute_problems(entry: _Entry) -> Iterator[Problem]:
    """Refuse what is no plain file or folder: 4.4.15, as Unix and Windows programs use the field."""
    header, name, _ = entry
    attributes, host = header.external_attributes, header.made_by >> 8
    detail = f"4.4.15: external attributes 0x{attributes:08x}, made by host {host}"
    # Whatever the host: 7-Zip on Windows writes a Unix mode too, and readers believe it.
    kind = stat.S_IFMT(attributes >> 16)
    if kind == stat.S_IFLNK or (host in _DOS_HOSTS and attributes & _DOS_REPARSE_POINT):
        yield finding(ProblemCode.SYMLINK, detail, member=name)
    elif kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        yield finding(ProblemCode.SPECIAL_FILE, detail, member=name)
    is_folder = kind == stat.S_IFDIR or (attributes & _DOS_FOLDER and kind == 0)
    if is_folder and not name.endswith("/"):
        yield finding(ProblemCode.FOLDER_MISMATCH, detail, member=name)
    yield from folder_problems(name, header.size, header.crc32)


def _check_tiling(members: Sequence[Member], directory_offset: int, findings: Findings) -> bool:
    """Check that the members' spans tile `[0, directory_offset)` as far as the directory can tell (4.3.6).

    The local extra field's length is only known from the local header, so a gap up to the longest possible
    one is left to the reader, which knows. Returns whether the spans can be read at all.
    """
    sound = True
    for position, member in enumerate(members):
        start, end = member.header_offset, min(member.end_offset, directory_offset)
        least = start + LOCAL_HEADER.size + len(member.raw_name) + member.compressed_size
        if position == 0 and start:
            findings.add(_prefix(start))
        if least <= end:
            slack = end - least - MAX_16 - (LONGEST_DESCRIPTOR if member.has_descriptor else 0)
            if slack > 0:
                findings.add(
                    finding(
                        ProblemCode.UNCLAIMED_BYTES,
                        f"4.3.6: at least {slack} bytes between {least} and {end} belong to no entry",
                        member=member.name,
                    )
                )
            continue
        sound = False
        if least > directory_offset:
            findings.add(
                finding(
                    ProblemCode.ENTRY_OUT_OF_BOUNDS,
                    f"4.4.16: header at {start}, data would end at {least} or later, "
                    f"the directory starts at {directory_offset}",
                    member=member.name,
                )
            )
        else:
            other = members[position + 1]
            findings.add(
                finding(
                    ProblemCode.ENTRIES_OVERLAP,
                    f"4.3.6: header at {start}, data would end at {least} or later, "
                    f"“{shown(other.name)}” starts at {other.header_offset}",
                    member=member.name,
                )
            )
    return sound
