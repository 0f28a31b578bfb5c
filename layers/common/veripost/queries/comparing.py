"""How two packages differ: in files, in sections, in what their files state."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, RowMapping, TextClause, bindparam, text

from veripost.models import post_packages

_UUID = post_packages.c.id.type

# Files are compared by name, but where each package has one file of an extension, these two are compared
# whatever they are called: the post of last year often has another name. Within two such files, sections and
# attributes are compared by name, the first with the first, the second with the second.
_PAIRS = """
    WITH lone AS MATERIALIZED (
        SELECT file_extension FROM post_files WHERE package_id IN (:one, :other)
        GROUP BY file_extension
        HAVING count(*) FILTER (WHERE package_id = :one) = 1
            AND count(*) FILTER (WHERE package_id = :other) = 1
    ),
    file AS MATERIALIZED (
        SELECT f.id, f.package_id, f.filename, f.content_hash,
            CASE WHEN lone.file_extension IS NULL THEN lower(f.filename COLLATE "C")
                ELSE '*' || f.file_extension END AS key
        FROM post_files f LEFT JOIN lone USING (file_extension)
        WHERE f.package_id IN (:one, :other)
    ),
    section AS MATERIALIZED (
        SELECT s.id, s.package_id, s.ordinal, s.kind, s.name, s.digest, s.first_line, s.last_line,
            file.filename, file.key, lower(s.name) AS folded,
            row_number() OVER (
                PARTITION BY s.package_id, file.key, lower(s.name) ORDER BY s.ordinal
            ) AS nth
        FROM post_sections s JOIN file ON file.id = s.file_id
        WHERE s.package_id IN (:one, :other)
            AND (CAST(:section AS text) IS NULL
                OR lower(s.name) = lower(CAST(:section AS text)))
    ),
    attribute AS MATERIALIZED (
        SELECT a.package_id, a.ordinal, a.kind, a.name, a.value, a.details, a.first_line, a.last_line,
            file.filename, file.key, lower(a.name) AS folded,
            row_number() OVER (
                PARTITION BY a.package_id, file.key, a.kind, lower(a.name) ORDER BY a.ordinal
            ) AS nth
        FROM post_attributes a JOIN file ON file.id = a.file_id
        WHERE a.package_id IN (:one, :other) AND CAST(:section AS text) IS NULL
    ),
    pair AS MATERIALIZED (
        SELECT 1 AS rank, 'file' AS subject, 'file' AS kind, coalesce(b.filename, a.filename) AS name,
            a.filename, b.filename AS other_filename, CAST(NULL AS uuid) AS section_id,
            CAST(NULL AS uuid) AS other_section_id, a.content_hash AS value, b.content_hash AS other_value,
            CAST(NULL AS int) AS first_line, CAST(NULL AS int) AS last_line,
            CAST(NULL AS int) AS other_first_line, CAST(NULL AS int) AS other_last_line, 0 AS ordinal,
            CASE WHEN a.id IS NULL THEN 'added' WHEN b.id IS NULL THEN 'removed'
                WHEN a.content_hash <> b.content_hash THEN 'changed'
                WHEN a.filename <> b.filename THEN 'renamed' ELSE 'same' END AS change
        FROM (SELECT * FROM file WHERE package_id = :one) a
        FULL JOIN (SELECT * FROM file WHERE package_id = :other) b USING (key)
        WHERE CAST(:section AS text) IS NULL
        UNION ALL
        SELECT 2, 'section', coalesce(b.kind, a.kind), coalesce(b.name, a.name),
            a.filename, b.filename, a.id, b.id, NULL, NULL,
            a.first_line, a.last_line, b.first_line, b.last_line, coalesce(b.ordinal, a.ordinal),
            CASE WHEN a.id IS NULL THEN 'added' WHEN b.id IS NULL THEN 'removed'
                WHEN a.digest <> b.digest THEN 'changed' ELSE 'same' END
        FROM (SELECT * FROM section WHERE package_id = :one) a
        FULL JOIN (SELECT * FROM section WHERE package_id = :other) b USING (key, folded, nth)
        UNION ALL
        SELECT 3, 'attribute', coalesce(b.kind, a.kind), coalesce(b.name, a.name),
            a.filename, b.filename, NULL, NULL, a.value, b.value,
            a.first_line, a.last_line, b.first_line, b.last_line, coalesce(b.ordinal, a.ordinal),
            CASE WHEN a.ordinal IS NULL THEN 'added' WHEN b.ordinal IS NULL THEN 'removed'
                WHEN a.value IS DISTINCT FROM b.value OR a.details <> b.details THEN 'changed'
                ELSE 'same' END
        FROM (SELECT * FROM attribute WHERE package_id = :one) a
        FULL JOIN (SELECT * FROM attribute WHERE package_id = :other) b USING (key, kind, folded, nth)
    )
"""
_TYPES = (bindparam("one", type_=_UUID), bindparam("other", type_=_UUID))
_COUNT = """
    SELECT subject, change, count(*) AS number FROM pair GROUP BY subject, change
"""
_LIST = """
    SELECT * FROM pair WHERE change <> 'same'
    ORDER BY rank, ordinal, name, filename, other_filename, change LIMIT :limit OFFSET :start
"""


def _of_pairs(statement: str) -> TextClause:
    return text(_PAIRS + statement).bindparams(*_TYPES)


def count_differences(
    connection: Connection, one: UUID, other: UUID, *, section: str | None = None
) -> dict[tuple[str, str], int]:
    """Return how many pairs there are, by subject (file, section, attribute) and change.

    Changes are `added` (only `other` has it), `removed`, `changed`, `renamed` (files of the same bytes) and
    `same`. With `section` only sections of this name count.
    """
    rows = connection.execute(_of_pairs(_COUNT), {"one": one, "other": other, "section": section})
    return {(row.subject, row.change): row.number for row in rows}


def list_differences(
    connection: Connection, one: UUID, other: UUID, *, limit: int, start: int, section: str | None = None
) -> Sequence[RowMapping]:
    """Return up to `limit` differences from the place `start` on: files, then sections, then attributes."""
    asked = {"one": one, "other": other, "section": section, "limit": limit, "start": start}
    return connection.execute(_of_pairs(_LIST), asked).mappings().all()
