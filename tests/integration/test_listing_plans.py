"""What the planner makes of every filter and order of the list, on 100,000 packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from bench import listing as bench
from tests.integration.listing_filters import ORDERED, OTHERS, minute
from veripost import db, queries
from veripost.models import Sort
from veripost.queries import PackageFilter, Place
from veripost.settings import Settings

PACKAGES = 100_000
PAGE = 50
# What was last changed first was created first, too: walking down from the newest change, the filter passes
# everything else by. The planner does not know that the two go together, and no B-tree holds both.
SLOW = {("until, few", Sort.LAST_UPDATED), ("a range", Sort.LAST_UPDATED)}


@pytest.fixture(scope="module")
def many(engine: Engine, database_url: str) -> Iterator[Engine]:
    """The module's database with its 100,000 packages."""
    patient = db.get_engine(
        Settings(database_url=database_url, database_tls="disable", database_timeout_seconds=120)
    )
    with patient.begin() as connection:
        bench.fill(connection, PACKAGES)
    with patient.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE post_packages"))
    yield patient
    patient.dispose()


def _plan(engine: Engine, chosen: PackageFilter, sort: Sort, after: Place | None) -> tuple[set[str], int]:
    """Return the kinds of nodes in a page's plan, and how many rows it read from the table."""
    statement = queries.listing(chosen, sort, limit=PAGE + 1, after=after)
    compiled = statement.compile(dialect=engine.dialect)
    values = tuple(compiled.params[name] for name in compiled.positiontup or ())
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {compiled}", values
        ).scalar_one()
    nodes = list(_nodes(plan[0]["Plan"]))
    read = sum(
        node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        for node in nodes
        if node["Node Type"].endswith("Scan") and node["Node Type"] != "Bitmap Index Scan"
    )
    return {node["Node Type"] for node in nodes}, int(read)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _far(sort: Sort) -> Place:
    """A place in the middle of the list."""
    key: Any = "post_m_5" if sort.key == "name" else minute(50_000)
    return Place(key, UUID(int=1 << 127))


@pytest.mark.parametrize("deep", [False, True], ids=["first page", "deep page"])
@pytest.mark.parametrize("sort", Sort)
def test_a_page_reads_what_it_shows(many: Engine, sort: Sort, deep: bool) -> None:
    after = _far(sort) if deep else None
    for title, chosen in ORDERED.items():
        kinds, read = _plan(many, chosen, sort, after)
        if not title.endswith("none"):
            assert kinds == {"Limit", "Index Scan"}, title
        # The most common values are as soon found in the list of all.
        assert read <= 2 * PAGE, (title, read)


@pytest.mark.parametrize("sort", Sort)
def test_no_filter_reads_or_sorts_everything(many: Engine, sort: Sort) -> None:
    for title, chosen in OTHERS.items():
        kinds, read = _plan(many, chosen, sort, None)
        assert "Seq Scan" not in kinds, title
        if (title, sort) in SLOW:
            assert "Sort" not in kinds
        else:
            assert read <= PACKAGES / 10, (title, read)
