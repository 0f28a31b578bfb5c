"""Finding the post you need: by words in names, and by what resembles a package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, RowMapping

from veripost import queries
from veripost.errors import InvalidFields, NotFound
from veripost.paging import a_number, a_text, make_cursor, read_cursor
from veripost.queries import HitPosition
from veripost.schemas import HitList, HitView, MatchView, SimilarList, SimilarPackage

_SUBJECTS: Final = {1: "package", 2: "section", 3: "attribute"}
_WORD: Final = re.compile(r"[^\W_]+")
_MOST_WORDS: Final = 16
_LEAST_SUBSTRING: Final = 3  # shorter ones have no trigram that an index could look for


def search(engine: Engine, q: str, *, limit: int, cursor: str | None) -> HitList:
    """Return one page of the names in which every word of `q` begins a word, the best first.

    The very name comes first, then names that begin like `q`, then the others; packages before sections
    before attributes; then by name, and the newest package first. Where the server has trigrams, names that
    hold `q` anywhere come last.

    Raises
    ------
    InvalidFields
        `q` has neither letter nor digit, or too many words; or `cursor` is not one of this search's.
    """
    q = " ".join(q.split())
    words = [word.lower() for word in _WORD.findall(q)]
    if not 1 <= len(words) <= _MOST_WORDS:
        raise InvalidFields(detail=f"q: must hold from 1 to {_MOST_WORDS} words of letters and digits")
    after = None
    if cursor is not None:
        parts = read_cursor(cursor, a_number, a_number, a_text, a_number, UUID, a_number)
        after = HitPosition(*parts)
    with engine.connect() as connection:
        substrings = len(q) >= _LEAST_SUBSTRING and queries.offers(connection).substrings
        rows = queries.find(connection, q, words, substrings=substrings, limit=limit + 1, after=after)
    hits = [_hit(row, q if substrings else None, words) for row in rows[:limit]]
    return HitList(
        hits=hits,
        count=len(hits),
        next_cursor=_cursor_behind(rows[limit - 1]) if len(rows) > limit else None,
        substrings=substrings,
        complete=not (rows and rows[0]["cut"]),
    )


def similar(engine: Engine, package_id: UUID, *, limit: int) -> SimilarList:
    """Return the packages whose sections are most like those of a package, the most alike first.

    The fingerprints choose fifty; these are compared section by section. Raises `NotFound`.
    """
    with engine.connect() as connection:
        if queries.get_package(connection, package_id) is None:
            raise NotFound(
                "There is no such package.", code="package_not_found", detail=f"package {package_id}"
            )
        by_index = queries.offers(connection).nearest
        candidates = queries.nearest_packages(connection, package_id, by_index=by_index)
        rows = queries.most_alike(connection, package_id, candidates, limit=limit)
    found = [SimilarPackage.model_validate(row) for row in rows]
    return SimilarList(packages=found, count=len(found), method="vector" if by_index else "exact")


def _cursor_behind(row: RowMapping) -> str:
    key = (row[name] for name in ("rank", "subject", "key", "age", "package_id", "ordinal"))
    return make_cursor(*(str(part) for part in key))


def _hit(row: RowMapping, q: str | None, words: Sequence[str]) -> HitView:
    subject = _SUBJECTS[row["subject"]]
    fields = {"name": row["name"]}
    if subject == "package":
        fields |= {name: row[name] for name in ("machine_type", "controller_type") if row[name]}
    matches = [
        MatchView(field=name, text=text, ranges=found)
        for name, text in fields.items()
        if (found := highlight(text, q, words))
    ]
    return HitView.model_validate({**row, "subject": subject, "matches": matches})


def highlight(text: str, q: str | None, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return where `words` begin words of `text`, and where `q` stands in it: as ranges that do not touch."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(_ranges(text, q, words)):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _ranges(text: str, q: str | None, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    for word in _WORD.finditer(text):
        for wanted in words:
            if word[0].lower().startswith(wanted):
                yield word.start(), min(word.start() + len(wanted), word.end())
    if q is not None:
        for place in re.finditer(re.escape(q), text, re.IGNORECASE):
            yield place.span()
