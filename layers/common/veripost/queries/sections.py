"""What the files of packages say: how it is recorded, and every read of it."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from veripost.models import (
    FOLDED_LENGTH,
    folded,
    post_attributes,
    post_files,
    post_fingerprints,
    post_sections,
)
from veripost.platforms.facts import FileFacts

PARAMETERS_SHOWN = 10
DETAILS_SHOWN = 20
_ROWS_AT_ONCE = 2_000  # of one statement: each must end long before DATABASE_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class FileContents:
    """What one file says. `seeks` are ascending pairs of a line and the byte at which it begins."""

    filename: str
    facts: FileFacts
    seeks: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files of a package say, and what that means for the package."""

    files: Sequence[FileContents] = ()
    machine_type: str | None = None
    controller_type: str | None = None
    section_count: int | None = None
    fingerprint: Sequence[float] | None = None


# -- recording


def add_contents(
    connection: Connection, package_id: UUID, contents: Contents, file_ids: Mapping[str, UUID]
) -> None:
    """Record what the files of a package say, whose rows (by name: `file_ids`) are new."""
    for rows in batched(_section_rows(contents.files, file_ids), _ROWS_AT_ONCE, strict=False):
        connection.execute(_INSERT_SECTIONS, {"package_id": package_id, "rows": json.dumps(rows)})
    for rows in batched(_attribute_rows(contents.files, file_ids), _ROWS_AT_ONCE, strict=False):
        connection.execute(_INSERT_ATTRIBUTES, {"package_id": package_id, "rows": json.dumps(rows)})
    if contents.fingerprint is not None:
        numbers = ",".join(map(str, contents.fingerprint))
        connection.execute(_INSERT_FINGERPRINT, {"package_id": package_id, "numbers": f"{{{numbers}}}"})


def remove_fingerprint(connection: Connection, package_id: UUID) -> None:
    """Forget the fingerprint of a package, which does not go with its file rows as the rest does."""
    connection.execute(post_fingerprints.delete().where(post_fingerprints.c.package_id == package_id))


def _section_rows(files: Iterable[FileContents], file_ids: Mapping[str, UUID]) -> Iterator[Mapping[str, Any]]:
    ordinal = 0
    for file in files:
        file_id = str(file_ids[file.filename])
        for section in file.facts.sections:
            line, offset = file.seeks[bisect_right(file.seeks, (section.first_line, 1 << 62)) - 1]
            yield {
                "file_id": file_id,
                "ordinal": ordinal,
                "kind": section.kind,
                "name": section.name,
                "first_line": section.first_line,
                "last_line": section.last_line,
                "parameters": section.parameters,
                "calls": section.calls,
                "template_lines": section.template_lines,
                "calculation_lines": section.calculation_lines,
                "digest": section.digest,
                "seek_line": line,
                "seek_offset": offset,
            }
            ordinal += 1


def _attribute_rows(
    files: Iterable[FileContents], file_ids: Mapping[str, UUID]
) -> Iterator[Mapping[str, Any]]:
    ordinal = 0
    for file in files:
        file_id = str(file_ids[file.filename])
        for attribute in file.facts.attributes:
            yield {
                "file_id": file_id,
                "ordinal": ordinal,
                "kind": attribute.kind,
                "name": attribute.name,
                "first_line": attribute.first_line,
                "last_line": attribute.last_line,
                "value": attribute.value,
                "details": attribute.details,
            }
            ordinal += 1


_INSERT_SECTIONS = text(
    """
    INSERT INTO post_sections
        (id, package_id, file_id, ordinal, kind, name, first_line, last_line, parameters, calls,
         template_lines, calculation_lines, digest, seek_line, seek_offset)
    SELECT gen_random_uuid(), :package_id, row.*
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS row (
        file_id uuid, ordinal int, kind text, name text, first_line int, last_line int,
        parameters text[], calls text[], template_lines int, calculation_lines int, digest text,
        seek_line int, seek_offset bigint
    )
    """
).bindparams(bindparam("package_id", type_=post_sections.c.package_id.type))

_INSERT_ATTRIBUTES = text(
    """
    INSERT INTO post_attributes
        (package_id, file_id, ordinal, kind, name, first_line, last_line, value, details)
    SELECT :package_id, row.*
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS row (
        file_id uuid, ordinal int, kind text, name text, first_line int, last_line int, value text,
        details jsonb
    )
    """
).bindparams(bindparam("package_id", type_=post_attributes.c.package_id.type))

_INSERT_FINGERPRINT = text(
    """
    INSERT INTO post_fingerprints (package_id, numbers) VALUES (:package_id, CAST(:numbers AS real[]))
    """
).bindparams(bindparam("package_id", type_=post_fingerprints.c.package_id.type))


# -- reading


def _called(table: str, name: str) -> ColumnElement[bool]:
    return literal_column(folded(f"{table}.name")) == func.left(func.lower(name), FOLDED_LENGTH)


def list_sections(
    connection: Connection, package_id: UUID, *, name: str | None, limit: int, after: int
) -> Sequence[RowMapping]:
    """Return up to `limit` sections of a package behind the place `after`, those called `name` only.

    Case makes no difference: not every language of posts tells whether it does.
    """
    section = post_sections.c
    statement = (
        select(
            section.id,
            section.file_id,
            section.ordinal,
            section.kind,
            section.name,
            func.trim_array(
                section.parameters, func.greatest(func.cardinality(section.parameters) - PARAMETERS_SHOWN, 0)
            ).label("parameters"),
            section.first_line,
            section.last_line,
            section.template_lines,
            section.calculation_lines,
            func.cardinality(section.calls).label("call_count"),
            post_files.c.filename,
        )
        .join(post_files, post_files.c.id == section.file_id)
        .where(section.package_id == package_id, section.ordinal > after)
        .order_by(section.ordinal)
        .limit(limit)
    )
    if name is not None:
        statement = statement.where(_called("post_sections", name))
    return connection.execute(statement).mappings().all()


def get_section(connection: Connection, package_id: UUID, section_id: UUID) -> RowMapping | None:
    """Return one section of one package with its file's name, key and size, or None."""
    statement = (
        select(
            post_sections,
            func.cardinality(post_sections.c.calls).label("call_count"),
            post_files.c.filename,
            post_files.c.s3_key,
            post_files.c.size_bytes,
        )
        .join(post_files, post_files.c.id == post_sections.c.file_id)
        .where(post_sections.c.package_id == package_id, post_sections.c.id == section_id)
    )
    return connection.execute(statement).mappings().first()


def list_attributes(
    connection: Connection, package_id: UUID, *, name: str | None, limit: int, after: int
) -> Sequence[RowMapping]:
    """Return up to `limit` attributes of a package behind the place `after`, those called `name` only."""
    attribute = post_attributes.c
    first = literal(f"$[0 to {DETAILS_SHOWN - 1}]").cast(JSONPATH)
    statement = (
        select(
            attribute.file_id,
            attribute.ordinal,
            attribute.kind,
            attribute.name,
            attribute.value,
            func.jsonb_path_query_array(attribute.details, first, type_=JSONB).label("details"),
            attribute.first_line,
            attribute.last_line,
            post_files.c.filename,
        )
        .join(post_files, post_files.c.id == attribute.file_id)
        .where(attribute.package_id == package_id, attribute.ordinal > after)
        .order_by(attribute.ordinal)
        .limit(limit)
    )
    if name is not None:
        statement = statement.where(_called("post_attributes", name))
    return connection.execute(statement).mappings().all()
