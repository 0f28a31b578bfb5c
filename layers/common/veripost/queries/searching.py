"""Finding packages: by words in names, and by likeness of their sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, RowMapping, bindparam, text

from veripost.fingerprints import MOST_SECTIONS
from veripost.models import (
    FINGERPRINT_NUMBERS,
    NAME_WORDS,
    NEAREST_INDEX,
    PACKAGE_WORDS,
    TRIGRAM_INDEXES,
    Status,
    post_packages,
)

# A name that more than so many rows have is no good question; ranking them all would take seconds.
MOST_RANKED = 5_000
CANDIDATES = 50  # that many of the nearest packages are compared section by section
_MOST_EXAMINED = 10_000  # packages whose fingerprint is looked at where no index finds the nearest
_UUID = post_packages.c.id.type


@dataclass(frozen=True, slots=True)
class Offers:
    """What this server can do: find any part of a name, find the nearest fingerprints without reading all."""

    substrings: bool
    nearest: bool


@dataclass(frozen=True, slots=True)
class HitPosition:
    """A place in the ranked list of hits: right after this one."""

    rank: int
    subject: int
    key: str
    age: int
    package_id: UUID
    ordinal: int


def offers(connection: Connection) -> Offers:
    """Look which of the indexes are there that need an extension."""
    row = connection.execute(
        text(
            "SELECT (SELECT bool_and(to_regclass(name) IS NOT NULL)"
            " FROM unnest(CAST(:trigrams AS text[])) AS name) AS substrings,"
            " to_regclass(:nearest) IS NOT NULL AS nearest"
        ),
        {"trigrams": list(TRIGRAM_INDEXES), "nearest": NEAREST_INDEX},
    ).one()
    return Offers(substrings=bool(row.substrings), nearest=bool(row.nearest))


# The words must be searched as they are indexed, so the expressions come from `models`. Rank 0 is the very
# name, 1 a name that begins like that, 2 one with these words, 3 one with this text in the middle of a word.
_HITS = f"""
    WITH hit AS MATERIALIZED (
        (SELECT 1 AS subject, id AS package_id, 0 AS ordinal, name, CAST(NULL AS uuid) AS file_id,
            CAST(NULL AS uuid) AS section_id, CAST(NULL AS text) AS kind, CAST(NULL AS text) AS value,
            CAST(NULL AS int) AS line,
            CASE WHEN lower(:q) IN (lower(name), lower(machine_type), lower(controller_type)) THEN 0
                WHEN starts_with(lower(name), lower(:q)) OR starts_with(lower(machine_type), lower(:q))
                    OR starts_with(lower(controller_type), lower(:q)) THEN 1
                WHEN {PACKAGE_WORDS} @@ to_tsquery('simple', :words) THEN 2 ELSE 3 END AS rank
        FROM post_packages
        WHERE {PACKAGE_WORDS} @@ to_tsquery('simple', :words) {{substring}}
        LIMIT :most)
        UNION ALL
        (SELECT 2, package_id, ordinal, name, file_id, id, kind, NULL, first_line,
            CASE WHEN lower(:q) = lower(name) THEN 0 WHEN starts_with(lower(name), lower(:q)) THEN 1
                WHEN {NAME_WORDS} @@ to_tsquery('simple', :words) THEN 2 ELSE 3 END
        FROM post_sections
        WHERE {NAME_WORDS} @@ to_tsquery('simple', :words) {{substring}}
        LIMIT :most)
        UNION ALL
        (SELECT 3, package_id, ordinal, name, file_id, NULL, kind, value, first_line,
            CASE WHEN lower(:q) = lower(name) THEN 0 WHEN starts_with(lower(name), lower(:q)) THEN 1
                WHEN {NAME_WORDS} @@ to_tsquery('simple', :words) THEN 2 ELSE 3 END
        FROM post_attributes
        WHERE {NAME_WORDS} @@ to_tsquery('simple', :words) {{substring}}
        LIMIT :most)
    ),
    ranked AS (
        SELECT hit.*, left(lower(hit.name COLLATE "C"), 200) AS key, p.name AS package_name, p.platform,
            p.status, p.machine_type, p.controller_type,
            -CAST(extract(epoch FROM p.created_at) * 1000000 AS bigint) AS age
        FROM hit JOIN post_packages p ON p.id = hit.package_id
        WHERE p.status <> '{Status.DELETING}'
    )
    SELECT page.*, f.filename,
        EXISTS (SELECT FROM hit GROUP BY subject HAVING count(*) >= :most) AS cut
    FROM (
        SELECT * FROM ranked
        {{behind}}
        ORDER BY rank, subject, key COLLATE "C", age, package_id, ordinal LIMIT :limit
    ) page
    LEFT JOIN post_files f ON f.id = page.file_id
    ORDER BY rank, subject, key COLLATE "C", age, package_id, ordinal
"""  # noqa: S608 - constants of ours, as in all that follow
_BEHIND = """
        WHERE (rank, subject, key COLLATE "C", age, package_id, ordinal)
            > (:rank, :subject, :key, :age, :package_id, :ordinal)
"""


def find(
    connection: Connection,
    q: str,
    words: Sequence[str],
    *,
    substrings: bool,
    limit: int,
    after: HitPosition | None,
) -> Sequence[RowMapping]:
    """Return up to `limit` places where each of `words` begins a word of a name, the best first.

    Names are those of packages, machines and controllers (subject 1), sections (2) and attributes (3). With
    `substrings` also those that hold `q` anywhere. No more than `MOST_RANKED` of each subject are ranked:
    `cut` says whether there are more.
    """
    asked = {
        "q": q,
        "words": " & ".join(f"'{word}':*" for word in words),
        "most": MOST_RANKED,
        "limit": limit,
    }
    substring, behind = "", ""
    if substrings:
        substring = "OR name ILIKE :pattern"
        escaped = q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        asked["pattern"] = f"%{escaped}%"
    if after is not None:
        behind = _BEHIND
        asked |= {
            "rank": after.rank,
            "subject": after.subject,
            "key": after.key,
            "age": after.age,
            "package_id": after.package_id,
            "ordinal": after.ordinal,
        }
    statement = text(_HITS.format(substring=substring, behind=behind))
    if after is not None:
        statement = statement.bindparams(bindparam("package_id", type_=_UUID))
    return connection.execute(statement, asked).mappings().all()


# `numbers` are kept as an array, which every server has; the index is on what pgvector makes of it.
_VECTOR = f"CAST(numbers AS vector({FINGERPRINT_NUMBERS}))"
_NEAREST = text(
    f"""
    SELECT package_id FROM post_fingerprints
    WHERE package_id <> :package_id
    ORDER BY {_VECTOR} <=> (SELECT {_VECTOR} FROM post_fingerprints WHERE package_id = :package_id)
    LIMIT :limit
    """  # noqa: S608 - constants of ours
).bindparams(bindparam("package_id", type_=_UUID))
_NEAREST_BY_LOOKING = text(
    """
    SELECT other.package_id
    FROM (
        SELECT f.package_id, f.numbers FROM post_packages p JOIN post_fingerprints f ON f.package_id = p.id
        WHERE p.id <> :package_id ORDER BY p.created_at DESC LIMIT :examined
    ) other
    CROSS JOIN (SELECT numbers FROM post_fingerprints WHERE package_id = :package_id) mine
    ORDER BY (SELECT sum(a * b) FROM unnest(other.numbers, mine.numbers) AS pair (a, b)) DESC,
        other.package_id
    LIMIT :limit
    """
).bindparams(bindparam("package_id", type_=_UUID))


def nearest_packages(connection: Connection, package_id: UUID, *, by_index: bool) -> Sequence[UUID]:
    """Return up to `CANDIDATES` packages whose fingerprint points most nearly the same way.

    Without the index the newest 10,000 are looked at, each of them.
    """
    if by_index:
        # pgvector looks at 40 neighbours otherwise, however many are asked for.
        connection.execute(text(f"SET LOCAL hnsw.ef_search = {2 * CANDIDATES}"))
        found = connection.scalars(_NEAREST, {"package_id": package_id, "limit": CANDIDATES})
    else:
        found = connection.scalars(
            _NEAREST_BY_LOOKING,
            {"package_id": package_id, "limit": CANDIDATES, "examined": _MOST_EXAMINED},
        )
    return found.all()


# A package's features are its sections' names and their lines, each once: what fingerprints are made of.
_LIKENESS = text(
    f"""
    WITH feature AS MATERIALIZED (
        SELECT package_id, 'name' AS what, lower(name COLLATE "C") AS text FROM post_sections
        WHERE package_id = ANY(CAST(:ids AS uuid[])) AND ordinal < :compared
        UNION
        SELECT package_id, 'lines', digest FROM post_sections
        WHERE package_id = ANY(CAST(:ids AS uuid[])) AND ordinal < :compared
    ),
    mine AS MATERIALIZED (SELECT what, text FROM feature WHERE package_id = :package_id),
    likeness AS (
        SELECT feature.package_id,
            count(mine.text) AS shared,
            count(*) + (SELECT count(*) FROM mine) - count(mine.text) AS either,
            count(mine.text) FILTER (WHERE what = 'name') AS shared_names,
            count(mine.text) FILTER (WHERE what = 'lines') AS shared_sections
        FROM feature LEFT JOIN mine USING (what, text)
        WHERE feature.package_id <> :package_id
        GROUP BY feature.package_id
    )
    SELECT p.id, p.name, p.platform, p.status, p.machine_type, p.controller_type, p.section_count,
        p.created_at, likeness.shared_names, likeness.shared_sections,
        CAST(likeness.shared AS double precision) / likeness.either AS similarity
    FROM likeness JOIN post_packages p ON p.id = likeness.package_id
    WHERE p.status <> '{Status.DELETING}' AND likeness.shared > 0
    ORDER BY similarity DESC, p.created_at DESC, p.id LIMIT :limit
    """  # noqa: S608 - constants of ours
).bindparams(bindparam("package_id", type_=_UUID))


def most_alike(
    connection: Connection, package_id: UUID, candidates: Sequence[UUID], *, limit: int
) -> Sequence[RowMapping]:
    """Return up to `limit` of `candidates`, those whose sections are most like the package's first.

    `similarity` is the share of features that both have among those that either has (Jaccard): 1 where all
    sections are the same. The first 5,000 sections of each package count.
    """
    ids = [str(each) for each in (package_id, *candidates)]
    asked = {"package_id": package_id, "ids": ids, "compared": MOST_SECTIONS, "limit": limit}
    return connection.execute(_LIKENESS, asked).mappings().all()
