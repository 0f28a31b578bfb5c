"""What packages hold: sections and their lines, what files state, and how two packages differ."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, Engine, RowMapping

from veripost import queries
from veripost.errors import Conflict, NotFound
from veripost.paging import a_count, make_cursor, read_cursor
from veripost.platforms import lines, registry
from veripost.schemas import (
    AttributeList,
    AttributeView,
    Changes,
    Comparison,
    Difference,
    SectionDetail,
    SectionList,
    SectionSummary,
)
from veripost.storage import ObjectMissing, Storage

MOST_LINES: Final = 1_000
MOST_LINE_BYTES: Final = 128 << 10  # of one section's lines; spelled out for JSON they can be five times that
MOST_DIFF_BYTES: Final = 128 << 10
MOST_DIFFS: Final = 10  # sections of one name whose lines are compared in one answer
_CALLS_SHOWN: Final = 1_000
_READ_BYTES: Final = 256 << 10
# Places to start reading from are some 64 KiB apart; a file in UTF-16 can only be read from its beginning.
_MOST_READ_BYTES: Final = 4 << 20


def list_sections(
    engine: Engine, package_id: UUID, *, name: str | None, limit: int, cursor: str | None
) -> SectionList:
    """Return one page of a package's sections, or of those of a name. Raises `NotFound`, `InvalidFields`."""
    after = _after(cursor)
    with engine.connect() as connection:
        _require(connection, package_id)
        rows = queries.list_sections(connection, package_id, name=name, limit=limit + 1, after=after)
    page = [SectionSummary.model_validate(row) for row in rows[:limit]]
    return SectionList(
        sections=page,
        count=len(page),
        next_cursor=make_cursor(str(page[-1].ordinal)) if len(rows) > limit else None,
    )


def list_attributes(
    engine: Engine, package_id: UUID, *, name: str | None, limit: int, cursor: str | None
) -> AttributeList:
    """Return one page of what a package's files state. Raises `NotFound`, `InvalidFields`."""
    after = _after(cursor)
    with engine.connect() as connection:
        _require(connection, package_id)
        rows = queries.list_attributes(connection, package_id, name=name, limit=limit + 1, after=after)
    page = [AttributeView.model_validate(row) for row in rows[:limit]]
    return AttributeList(
        attributes=page,
        count=len(page),
        next_cursor=make_cursor(str(page[-1].ordinal)) if len(rows) > limit else None,
    )


def get_section(engine: Engine, storage: Storage, package_id: UUID, section_id: UUID) -> SectionDetail:
    """Return one section with its lines, up to 1,000 and 128 KiB of them.

    Raises
    ------
    NotFound
        There is no such package, or it has no such section.
    Conflict
        The file is no longer in the store.
    """
    with engine.connect() as connection:
        package = _require(connection, package_id)
        section = queries.get_section(connection, package_id, section_id)
    if section is None:
        raise _no_section(f"package {package_id}, section {section_id}")
    shown, truncated = _lines_of(storage, section, package["platform"])
    return SectionDetail.model_validate(
        {**section, "calls": section["calls"][:_CALLS_SHOWN], "lines": shown, "truncated": truncated}
    )


def compare(
    engine: Engine,
    storage: Storage,
    package_id: UUID,
    other_id: UUID,
    *,
    section: str | None,
    limit: int,
    cursor: str | None,
) -> Comparison:
    """Return how two packages differ; with `section`, line by line in the sections of that name.

    Raises
    ------
    NotFound
        One of the packages is not there, or neither has such a section.
    Conflict
        One of them has never been `ready`, or a file is no longer in the store.
    InvalidFields
        `cursor` is not one that this function handed out.
    """
    start = 0
    if cursor is not None:
        (start,) = read_cursor(cursor, a_count)
    if section is not None:
        limit = min(limit, MOST_DIFFS)
    with engine.connect() as connection:
        packages = {each: _require_ready(connection, each) for each in (package_id, other_id)}
        counts = queries.count_differences(connection, package_id, other_id, section=section)
        if section is not None and not counts:
            raise _no_section(f"neither package has a section {section}")
        rows = queries.list_differences(
            connection, package_id, other_id, section=section, limit=limit + 1, start=start
        )
        sides = [
            tuple(
                queries.get_section(connection, package, found) if found else None
                for package, found in (
                    (package_id, row["section_id"]),
                    (other_id, row["other_section_id"]),
                )
            )
            for row in (rows[:limit] if section is not None else ())
        ]
    page = [Difference.model_validate(dict(row)) for row in rows[:limit]]
    if section is not None:
        platforms = (packages[package_id]["platform"], packages[other_id]["platform"])
        page = [
            _with_diff(storage, difference, one, other, platforms)
            for difference, (one, other) in zip(page, sides, strict=True)
        ]
    totals = {
        subject: Changes(
            **{
                change: counts.get((subject, change), 0)
                for change in ("added", "removed", "changed", "renamed", "same")
            }
        )
        for subject in ("file", "section", "attribute")
    }
    return Comparison(
        package_id=package_id,
        other_id=other_id,
        files=totals["file"],
        sections=totals["section"],
        attributes=totals["attribute"],
        differences=page,
        count=len(page),
        next_cursor=make_cursor(str(start + limit)) if len(rows) > limit else None,
    )


def _after(cursor: str | None) -> int:
    if cursor is None:
        return -1
    (after,) = read_cursor(cursor, a_count)
    return int(after)


def _require(connection: Connection, package_id: UUID) -> RowMapping:
    found = queries.get_package(connection, package_id)
    if found is None:
        raise NotFound("There is no such package.", code="package_not_found", detail=f"package {package_id}")
    return found


def _require_ready(connection: Connection, package_id: UUID) -> RowMapping:
    found = _require(connection, package_id)
    if found["ready_at"] is None:
        raise Conflict(
            "This package has no files to compare: it has not been ready.",
            code="not_ready",
            detail=f"package {package_id} is {found['status']}",
        )
    return found


def _no_section(detail: str) -> NotFound:
    return NotFound("There is no such section.", code="section_not_found", detail=detail)


# -- lines


def _lines_of(storage: Storage, section: RowMapping, platform_key: str) -> tuple[list[str], bool]:
    """Return the section's lines, and whether there are more or longer ones."""
    platform = registry.find(platform_key)
    encoding = platform.encoding if platform else "utf-8"
    wanted = section["last_line"] - section["first_line"] + 1
    behind = section["first_line"] - section["seek_line"]  # lines before the first that is wanted
    found: list[str] = []
    room, cut = MOST_LINE_BYTES, False
    for batch in lines.batches(_stored(storage, section)):
        skipped = min(behind, len(batch.lines))
        behind -= skipped
        for line in batch.lines[skipped:]:
            if len(found) == wanted:
                break
            if len(found) == MOST_LINES or len(line) > room:
                return found, True
            room -= len(line)
            found.append(lines.shown(line, encoding))
        cut = cut or (batch.cut and bool(found))
        if len(found) == wanted:
            return found, cut
    return found, True


def _stored(storage: Storage, section: RowMapping) -> Iterator[bytes]:
    """Yield the bytes of the section's file from its place on, as far as one request may read."""
    start = section["seek_offset"]
    end = min(section["size_bytes"], start + _MOST_READ_BYTES)
    for offset in range(start, end, _READ_BYTES):
        try:
            yield storage.read_file(section["s3_key"], offset, min(offset + _READ_BYTES, end))
        except ObjectMissing as error:
            raise Conflict(
                "The file of this section is no longer in the store.",
                code="file_missing",
                detail=section["s3_key"],
            ) from error


def _with_diff(
    storage: Storage,
    difference: Difference,
    one: RowMapping | None,
    other: RowMapping | None,
    platforms: tuple[str, str],
) -> Difference:
    sides = [
        ([], False) if section is None else _lines_of(storage, section, platform)
        for section, platform in zip((one, other), platforms, strict=True)
    ]
    text, cut = _unified(
        sides[0][0],
        sides[1][0],
        names=(difference.filename or "", difference.other_filename or ""),
        starts=(difference.first_line or 1, difference.other_first_line or 1),
    )
    truncated = cut or sides[0][1] or sides[1][1]
    return difference.model_copy(update={"diff": text, "truncated": truncated})


def _unified(
    one: list[str], other: list[str], *, names: tuple[str, str], starts: tuple[int, int]
) -> tuple[str, bool]:
    """Return the unified diff of two lists of lines, and whether it had to be cut.

    Line numbers count within the section, so the header says at which line of the file each begins.
    """
    found, room = list[str](), MOST_DIFF_BYTES
    before, after = (
        f"{name}:{start}" if name else "(none)" for name, start in zip(names, starts, strict=True)
    )
    for line in difflib.unified_diff(one, other, before, after, lineterm=""):
        room -= len(line.encode("utf-8", "replace")) + 1
        if room < 0:
            return "\n".join(found), True
        found.append(line)
    return "\n".join(found), False
