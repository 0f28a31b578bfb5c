"""The list of packages: filters, orders and cursors."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from bench import listing as bench
from tests.integration.listing_filters import ORDERED, OTHERS, minute
from veripost import catalog, queries
from veripost.errors import InvalidFields
from veripost.models import Sort, Status
from veripost.queries import PackageFilter

PACKAGES = 3_000
PAGE = 50


@pytest.fixture(scope="module")
def many(engine: Engine) -> Engine:
    """The module's database with some thousand packages."""
    with engine.begin() as connection:
        bench.fill(connection, PACKAGES)
    return engine


def _expected(row: Mapping[str, Any], chosen: PackageFilter) -> bool:
    return all(
        [
            chosen.status in {None, row["status"]},
            chosen.platform in {None, row["platform"]},
            chosen.machine is None or chosen.machine.lower() == (row["machine_type"] or "").lower(),
            chosen.controller is None or chosen.controller.lower() == (row["controller_type"] or "").lower(),
            chosen.extension is None or chosen.extension in row["extensions"],
            chosen.name is None or row["name"].lower().startswith(chosen.name.lower()),
            chosen.sha256 in {None, row["content_hash"]},
            chosen.created_since is None or row["created_at"] >= chosen.created_since,
            chosen.created_until is None or row["created_at"] < chosen.created_until,
        ]
    )


def _sorted(rows: list[Any], sort: Sort) -> list[UUID]:
    column = {"created": "created_at", "name": "name", "updated": "updated_at"}[sort.key]

    def place(row: Any) -> tuple[Any, UUID]:
        return row[column].lower() if sort.key == "name" else row[column], row["id"]

    return [row["id"] for row in sorted(rows, key=place, reverse=sort.descending)]


def test_every_filter_finds_what_matches_and_nothing_else(many: Engine) -> None:
    with many.connect() as connection:
        everything = [dict(row) for row in connection.execute(text("SELECT * FROM post_packages")).mappings()]
    times = {
        "later": PackageFilter(created_since=minute(2_000)),
        "between": PackageFilter(created_since=minute(700), created_until=minute(720)),
    }
    for title, chosen in {**ORDERED, **OTHERS, **times}.items():
        matching = [row for row in everything if _expected(row, chosen)]
        for sort in Sort:
            with many.connect() as connection:
                rows = queries.list_packages(connection, chosen, sort, limit=PAGE, after=None)
            assert [row["id"] for row in rows] == _sorted(matching, sort)[:PAGE], (title, sort)


@pytest.mark.parametrize("sort", Sort)
def test_pages_join_without_a_gap_or_an_overlap(many: Engine, sort: Sort) -> None:
    chosen = PackageFilter(machine="MILL 7")
    whole = [
        package.id for package in catalog.list_packages(many, chosen, sort, limit=200, cursor=None).packages
    ]
    assert len(whole) > 7
    seen: list[UUID] = []
    cursor = None
    while True:
        page = catalog.list_packages(many, chosen, sort, limit=7, cursor=cursor)
        seen += [package.id for package in page.packages]
        assert page.count == len(page.packages)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == whole


def _add(engine: Engine, name: str, **columns: Any) -> UUID:
    package_id = uuid4()
    values = {"id": package_id, "name": name, "source_key": str(package_id), **columns}
    listed, given = ", ".join(values), ", ".join(f":{column}" for column in values)
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO post_packages (source_bucket, s3_prefix, {listed})"
                f" VALUES ('b', 'packages/{package_id}/', {given})"
            ),
            values,
        )
    return package_id


def test_a_walk_is_not_disturbed_by_what_arrives(many: Engine) -> None:
    platform = f"p-{uuid4()}"
    chosen = PackageFilter(platform=platform)
    made = [_add(many, f"n{number}", platform=platform) for number in range(6)]
    for sort, begin, end in ((Sort.NEWEST, made[:2:-1], made[2::-1]), (Sort.NAME, made[:3], made[3:])):
        first = catalog.list_packages(many, chosen, sort, limit=3, cursor=None)
        assert [package.id for package in first.packages] == begin
        _add(many, "m before all others", platform=platform)  # the newest, and the first of the alphabet
        rest = catalog.list_packages(many, chosen, sort, limit=3, cursor=first.next_cursor)
        assert [package.id for package in rest.packages] == end
        with many.begin() as connection:
            connection.execute(
                text("DELETE FROM post_packages WHERE name LIKE 'm %' AND platform = :p"), {"p": platform}
            )


def test_equal_keys_are_told_apart_by_id(many: Engine) -> None:
    platform = f"p-{uuid4()}"
    made = sorted(_add(many, "the same", platform=platform, created_at=minute(5)) for _ in range(5))
    for sort in (Sort.OLDEST, Sort.NAME):
        seen: list[UUID] = []
        cursor = None
        for _ in range(5):
            page = catalog.list_packages(many, PackageFilter(platform=platform), sort, limit=1, cursor=cursor)
            seen += [package.id for package in page.packages]
            cursor = page.next_cursor
        assert (seen, cursor) == (made, None)


def test_a_cursor_is_for_one_list_only(many: Engine) -> None:
    chosen = PackageFilter(status=Status.READY)
    cursor = catalog.list_packages(many, chosen, Sort.NEWEST, limit=1, cursor=None).next_cursor
    assert cursor is not None
    for other, sort in (
        (PackageFilter(), Sort.NEWEST),
        (PackageFilter(status=Status.READY, name="x"), Sort.NEWEST),
        (chosen, Sort.OLDEST),
        (chosen, Sort.LAST_UPDATED),
        (chosen, Sort.NAME),
    ):
        with pytest.raises(InvalidFields):
            catalog.list_packages(many, other, sort, limit=1, cursor=cursor)


@pytest.mark.parametrize("key", ["\0", "\ud800", "x" * 201, 5, None])
@pytest.mark.parametrize("sort", [Sort.NAME, Sort.NEWEST])
def test_a_cursor_that_somebody_made_up(many: Engine, key: object, sort: Sort) -> None:
    real = catalog.list_packages(many, PackageFilter(), sort, limit=1, cursor=None).next_cursor
    assert real is not None
    mark, _, package_id = json.loads(base64.urlsafe_b64decode(real + "=" * (-len(real) % 4)))
    made_up = base64.urlsafe_b64encode(json.dumps([mark, key, package_id]).encode()).decode().rstrip("=")
    with pytest.raises(InvalidFields):
        catalog.list_packages(many, PackageFilter(), sort, limit=1, cursor=made_up)


def test_names_of_any_length_and_script(many: Engine) -> None:
    """An index entry has a bound, which the longest of names must not meet."""
    platform = f"p-{uuid4()}"
    names = ["\U0001f9ff" * 1024, "Ⱥ" * 1024, "fräse 1", "FRÄSE 2", "100%_a", "100 b", "a\u00a0b", "a\tb"]
    for name in names:
        _add(many, name, platform=platform, machine_type=name * 20, controller_type=name * 20)
    for prefix, count in (("fräse", 2), ("FRÄ", 2), ("100%", 1), ("100", 2), ("_", 0), ("ⱥ" * 100, 1)):
        found = catalog.list_packages(
            many, PackageFilter(platform=platform, name=prefix), Sort.NAME, limit=9, cursor=None
        )
        assert found.count == count, prefix
    seen = []
    cursor = None
    for _ in names:
        page = catalog.list_packages(
            many, PackageFilter(platform=platform), Sort.NAME, limit=1, cursor=cursor
        )
        seen += [package.name for package in page.packages]
        cursor = page.next_cursor
    assert seen == sorted(names, key=str.lower)
    assert cursor is None
