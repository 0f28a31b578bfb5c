"""The list of packages: filters, orders, and the place in it where the next page goes on.

A page is read from an index in the order in which it is shown, so its cost does not grow with its depth;
`models.post_packages` says which index serves what. Two things no B-tree can do at once: narrow down by a
prefix, an extension or the time of creation, and sort by something else. The planner then sorts what matches
or filters what is in order, whichever it estimates to be less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, Select, func, literal, literal_column, select, tuple_

from veripost.models import Sort, Status, folded, post_packages


@dataclass(frozen=True, slots=True)
class PackageFilter:
    """Which packages to list: those that match every field that is not None."""

    status: Status | None = None
    platform: str | None = None
    machine: str | None = None  # in any case, like the next one
    controller: str | None = None
    extension: str | None = None  # as `post_files` has it: upper case, with its dot
    name: str | None = None  # the beginning of it, in any case
    sha256: str | None = None  # of the archive, in hex
    created_since: datetime | None = None  # then or later
    created_until: datetime | None = None  # earlier


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list: right after the row with this id, whose value of the sort's key is `key`."""

    key: datetime | str
    id: UUID


_KEYS: dict[str, Any] = {
    "created": post_packages.c.created_at,
    "name": literal_column(folded("post_packages.name")),
    "updated": post_packages.c.updated_at,
}

_SUMMARY = (
    post_packages.c.id,
    post_packages.c.name,
    post_packages.c.platform,
    post_packages.c.status,
    post_packages.c.machine_type,
    post_packages.c.controller_type,
    post_packages.c.error_code,
    post_packages.c.error_message,
    post_packages.c.file_count,
    post_packages.c.section_count,
    post_packages.c.size_bytes,
    post_packages.c.content_hash,
    post_packages.c.duplicate_of,
    post_packages.c.created_at,
    post_packages.c.updated_at,
    post_packages.c.ready_at,
)


def list_packages(
    connection: Connection, chosen: PackageFilter, sort: Sort, *, limit: int, after: Place | None
) -> Sequence[RowMapping]:
    """Return up to `limit` packages that match, in the order of `sort`, those behind `after` only.

    Besides its columns each row has `sort_key`, which with its id makes the `Place` behind it.
    """
    return connection.execute(listing(chosen, sort, limit=limit, after=after)).mappings().all()


def listing(chosen: PackageFilter, sort: Sort, *, limit: int, after: Place | None = None) -> Select[Any]:
    """Return the statement of one page."""
    key = _KEYS[sort.key]
    place = tuple_(key, post_packages.c.id)
    statement = select(*_SUMMARY, key.label("sort_key")).where(*_conditions(chosen, sort)).limit(limit)
    if sort.descending:
        statement = statement.order_by(key.desc(), post_packages.c.id.desc())
    else:
        statement = statement.order_by(key, post_packages.c.id)
    if after is not None:
        behind = tuple_(literal(after.key), literal(after.id))
        statement = statement.where(place < behind if sort.descending else place > behind)
    return statement


def _conditions(chosen: PackageFilter, sort: Sort) -> list[Any]:
    conditions: list[Any] = []
    if chosen.status is not None:
        conditions.append(post_packages.c.status == chosen.status)
    if chosen.platform is not None:
        conditions.append(post_packages.c.platform == chosen.platform)
    for column, value in (("machine_type", chosen.machine), ("controller_type", chosen.controller)):
        if value is not None:
            # The index leaves out packages that have none, and cannot tell that from its own expression.
            conditions.append(post_packages.c[column].is_not(None))
            conditions.append(literal_column(folded(f"post_packages.{column}")) == func.lower(value))
    if chosen.extension is not None:
        conditions.append(post_packages.c.extensions.contains([chosen.extension]))
    if chosen.name is not None:
        # Of the functions that find a prefix this one alone needs no escaping; indexes serve it in "C".
        conditions.append(func.starts_with(_KEYS["name"], func.lower(chosen.name)))
    if chosen.sha256 is not None:
        conditions.append(post_packages.c.content_hash == chosen.sha256)
    if chosen.created_since is not None:
        conditions.append(post_packages.c.created_at >= chosen.created_since)
        if sort.key == "updated":
            # It says nothing new, but bounds the walk through the index that gives this order.
            conditions.append(post_packages.c.updated_at >= chosen.created_since)
    if chosen.created_until is not None:
        conditions.append(post_packages.c.created_at < chosen.created_until)
    return conditions
