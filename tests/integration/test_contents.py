"""What files say becomes rows: with `ready`, in bulk, replaced by a replay, for any platform."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from sqlalchemy import Engine, RowMapping, func, select, text

from localcloud import samples
from tests.second_platform import NOTES
from veripost import ingestion, queries
from veripost.ingest_queue import LandedObject
from veripost.ingestion import Outcome, parsing
from veripost.models import post_attributes, post_files, post_fingerprints, post_packages, post_sections
from veripost.platforms import camworks_reader, registry
from veripost.platforms.facts import FileFacts, Reader
from veripost.settings import Settings
from veripost.storage import Storage

CONFIG = ingestion.config_of(Settings())
ROOT = Path(__file__).parents[2]


def _take_in(
    files: dict[str, bytes], engine: Engine, storage: Storage, *, platform: str = "camworks"
) -> tuple[Outcome, RowMapping]:
    data = samples.zip_of(files)
    key = f"drops/{platform}/{uuid4()}/post.zip"
    version = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=data)["VersionId"]
    outcome = _ingest(LandedObject("incoming", key, version, len(data)), engine, storage)
    return outcome, _package(engine, key)


def _ingest(landed: LandedObject, engine: Engine, storage: Storage) -> Outcome:
    return ingestion.ingest(
        landed, engine=engine, storage=storage, config=CONFIG, request_id="r", seconds_left=lambda: 300.0
    )


def _package(engine: Engine, key: str) -> RowMapping:
    with engine.connect() as connection:
        statement = select(post_packages).where(post_packages.c.source_key == key)
        return connection.execute(statement).mappings().one()


def _rows(engine: Engine, table: Any, package_id: UUID) -> list[RowMapping]:
    with engine.connect() as connection:
        statement = (
            select(table, post_files.c.filename)
            .join(post_files, post_files.c.id == table.c.file_id)
            .where(table.c.package_id == package_id)
            .order_by(table.c.ordinal)
        )
        return list(connection.execute(statement).mappings())


def _counts(engine: Engine, package_id: UUID) -> list[int]:
    with engine.connect() as connection:
        return [
            connection.execute(
                select(func.count()).select_from(table).where(table.c.package_id == package_id)
            ).scalar_one()
            for table in (post_files, post_sections, post_attributes, post_fingerprints)
        ]


def _replay(engine: Engine, storage: Storage, package: RowMapping) -> Outcome:
    with engine.begin() as connection:
        assert queries.start_replay(connection, package["id"])
    source = (package["source_bucket"], package["source_key"], package["source_version"])
    return _ingest(LandedObject(*source, package["size_bytes"]), engine, storage)


def _codes(package: RowMapping) -> list[tuple[str, str | None]]:
    return [(problem["code"], problem["member"]) for problem in package["problems"]]


def test_what_a_post_processor_says_is_recorded(engine: Engine, storage: Storage) -> None:
    known = samples.source("MILL", sections=60)
    files = samples.post_processor("MILL", sections=60)
    outcome, package = _take_in(files, engine, storage)
    assert outcome is Outcome.READY
    assert (package["machine_type"], package["controller_type"]) == (known.machine, known.controller)
    assert package["section_count"] == 60 + 15
    rows = _rows(engine, post_sections, package["id"])
    assert [row["ordinal"] for row in rows] == list(range(75))
    own = [row for row in rows if row["filename"] == "MILL.SRC"]
    assert [
        (
            row["name"],
            row["kind"] == "calculation",
            tuple(row["parameters"]),
            row["first_line"],
            row["last_line"],
            row["template_lines"],
            row["calculation_lines"],
            tuple(row["calls"]),
        )
        for row in own
    ] == [
        (
            section.name,
            section.is_calculation,
            section.parameters,
            section.first_line,
            section.last_line,
            section.template_lines,
            section.calculation_lines,
            section.calls,
        )
        for section in known.sections
    ]
    stated = _rows(engine, post_attributes, package["id"])
    kinds = {(row["filename"], row["kind"]) for row in stated}
    assert kinds == {
        *(("MILL.SRC", kind) for kind in ("header", "library", "define", "attribute", "operation")),
        *(("MILL.ATR", kind) for kind in ("header", "attribute")),
        ("MILL.KIN", "kinematics"),
        ("MILL.PINF", "information"),
        ("MILL.LNG", "message"),
    }
    machine = next(row for row in stated if row["name"] == "MACHINE NAME")
    assert (machine["value"], machine["details"][0]) == (known.machine, ["ATTRTYPE", "POST"])
    assert [row["value"] for row in stated if row["name"] == "PostName"] == ["MILL"]
    assert _codes(package) == []
    assert _counts(engine, package["id"]) == [7, 75, len(stated), 1]


def test_a_parse_that_finds_nothing_ends_ready(engine: Engine, storage: Storage) -> None:
    outcome, package = _take_in({"A.SRC": bytes(range(256)) * 9}, engine, storage)
    assert outcome is Outcome.READY
    assert (package["section_count"], package["machine_type"]) == (0, None)
    assert _codes(package) == [("source_warnings", "A.SRC")]
    assert _counts(engine, package["id"]) == [1, 0, 0, 0]


def test_what_is_odd_becomes_notices(engine: Engine, storage: Storage) -> None:
    source = b":LIBRARY=C:\\POSTS\\MILL.LIB\n:SECTION=A\nstray\n:SECTION=CALC_A\n:C: CALL(B)\n:SECTION=A\n"
    outcome, package = _take_in({"A.SRC": source, "OLD.CTL": b"\0", "B.KIN": b"1*x\n"}, engine, storage)
    assert outcome is Outcome.READY
    assert sorted(_codes(package)) == [
        ("call_unresolved", "A.SRC"),
        ("ctl_without_src", "OLD.CTL"),
        ("library_missing", "A.SRC"),
        ("section_defined_twice", "A.SRC"),
        ("source_warnings", "A.SRC"),
        ("stem_mismatch", "B.KIN"),
    ]


def test_a_replay_replaces_what_was_recorded(engine: Engine, storage: Storage) -> None:
    _, package = _take_in(samples.post_processor("R", sections=30), engine, storage)
    before = [{**row, "id": None, "file_id": None} for row in _rows(engine, post_sections, package["id"])]
    counted = _counts(engine, package["id"])
    assert _replay(engine, storage, package) is Outcome.READY
    after = [{**row, "id": None, "file_id": None} for row in _rows(engine, post_sections, package["id"])]
    assert after == before
    assert _counts(engine, package["id"]) == counted


def test_a_refused_package_has_nothing_recorded(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, package = _take_in(samples.post_processor("Q", sections=30), engine, storage)
    strict = replace(registry.CAMWORKS, required=frozenset({".PINF", ".XYZ"}))
    monkeypatch.setattr(registry, "PLATFORMS", {"camworks": strict})
    assert _replay(engine, storage, package) is Outcome.REFUSED
    assert _counts(engine, package["id"]) == [0, 0, 0, 0]
    package = _package(engine, package["source_key"])
    assert [package[name] for name in ("section_count", "machine_type", "controller_type")] == [None] * 3


def test_damage_found_late_leaves_nothing_recorded(engine: Engine, storage: Storage) -> None:
    data = bytearray(samples.zip_of({"A.SRC": b":SECTION=A\n" * 50, "Z.LIB": b"x" * 50_000 + b"end"}))
    data[data.index(b"Z.LIB") + 20] ^= 0xFF
    key = f"drops/camworks/{uuid4()}/post.zip"
    version = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=bytes(data))["VersionId"]
    assert _ingest(LandedObject("incoming", key, version, len(data)), engine, storage) is Outcome.REFUSED
    assert _counts(engine, _package(engine, key)["id"]) == [0, 0, 0, 0]


def test_a_large_source_is_read_as_it_streams(engine: Engine, storage: Storage) -> None:
    big = samples.source("BIG", sections=20_000, lines=500_000)
    assert len(big.data) > 9 << 20
    outcome, package = _take_in({"BIG.SRC": big.data}, engine, storage)
    assert outcome is Outcome.READY
    assert package["section_count"] == 20_000
    rows = _rows(engine, post_sections, package["id"])
    assert len(rows) == 20_000
    lines = big.data.splitlines(keepends=True)
    for row in rows[::9_999]:
        start = sum(len(line) for line in lines[: row["seek_line"] - 1])
        assert row["seek_offset"] == start
        assert row["first_line"] - row["seek_line"] < 5_000
    with engine.begin() as connection:
        connection.execute(post_packages.delete().where(post_packages.c.id == package["id"]))
    assert _counts(engine, package["id"]) == [0, 0, 0, 0]


def test_a_parser_that_breaks_down_fails_no_package(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(chunks: Iterable[bytes], _room: int) -> FileFacts:
        for chunk in chunks:
            if b"break" in chunk:
                raise RecursionError
        return FileFacts()

    reader = Reader(parsers={".SRC": broken, ".LIB": broken}, conclude=camworks_reader.conclude)
    platform = replace(registry.CAMWORKS, load_reader=lambda: reader)
    monkeypatch.setattr(registry, "PLATFORMS", {"camworks": platform})
    long = b"break" + random.Random(1).randbytes(9 << 20)
    outcome, package = _take_in({"A.SRC": b"break", "B.LIB": long, "C.LIB": b"fine"}, engine, storage)
    assert outcome is Outcome.READY
    assert {member for code, member in _codes(package) if code == "not_read"} == {"A.SRC", "B.LIB"}
    stored = boto3.client("s3").get_object(Bucket="packages", Key=f"{package['s3_prefix']}B.LIB")
    assert stored["Body"].read() == long


def test_what_lies_beyond_the_bounds_is_stored_and_noticed(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "MOST_FILE_BYTES", 1_000)
    data = b":SECTION=A\n" * 1_000
    outcome, package = _take_in({"A.SRC": data}, engine, storage)
    assert outcome is Outcome.READY
    assert ("partly_read", "A.SRC") in _codes(package)
    assert package["section_count"] == 91
    stored = boto3.client("s3").get_object(Bucket="packages", Key=f"{package['s3_prefix']}A.SRC")
    assert stored["Body"].read() == data


# -- a second platform


def test_a_second_platform_is_data_and_a_reader(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "PLATFORMS", {"notes": NOTES})
    notes = {
        "desk/Über.note": b"# Herd\nheat: 5\n# Topf\n",
        "desk/empty.NOTE": b"",
        "desk/p.png": b"\x89PNG",
        "desk/index.db": b"litter",
    }
    outcome, package = _take_in(notes, engine, storage, platform="notes")
    assert outcome is Outcome.READY
    assert (package["name"], package["machine_type"], package["section_count"]) == ("empty", "a desk", 2)
    assert sorted(_codes(package)) == [
        ("junk_skipped", "desk/index.db"),
        ("source_warnings", "desk/empty.NOTE"),
    ]
    sections = _rows(engine, post_sections, package["id"])
    assert [(row["name"], row["kind"], row["first_line"], row["last_line"]) for row in sections] == [
        ("Herd", "chapter", 1, 2),
        ("Topf", "chapter", 3, 3),
    ]
    assert [
        (row["kind"], row["name"], row["value"]) for row in _rows(engine, post_attributes, package["id"])
    ] == [("field", "heat", "5")]
    outcome, package = _take_in({"a.note": b"1", "A.SRC": b"2"}, engine, storage, platform="notes")
    assert (outcome, package["error_code"]) == (Outcome.REFUSED, "forbidden_extension")
    outcome, package = _take_in({"a.png": b"1"}, engine, storage, platform="notes")
    assert (outcome, package["error_code"]) == (Outcome.REFUSED, "required_file_missing")
    outcome, package = _take_in({"A.SRC": b"2"}, engine, storage)
    assert (outcome, package["error_code"]) == (Outcome.REFUSED, "unknown_platform")


def test_the_engine_does_not_know_camworks() -> None:
    package = ROOT / "layers" / "common" / "veripost"
    engine = [*package.glob("ingestion/*.py"), *package.glob("queries/*.py"), *package.glob("upkeep/*.py")]
    engine += [
        package / f"{name}.py" for name in ("catalog", "contents", "search", "api", "storage", "uploads")
    ]
    for module in engine:
        code = module.read_text(encoding="utf-8")
        assert not re.search(r"camworks|\.SRC|\.LIB|UPG", code, re.IGNORECASE), module.name


# -- the database's own rules


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("first_line = 0", "ck_post_sections_lines"),
        ("last_line = first_line - 1", "ck_post_sections_lines"),
        ("seek_line = first_line + 1", "ck_post_sections_lines"),
        ("seek_offset = -1", "ck_post_sections_lines"),
        ("template_lines = -1", "ck_post_sections_counts"),
        ("digest = 'abc'", "ck_post_sections_digest"),
        ("ordinal = -1", "ck_post_sections_ordinal"),
        ("ordinal = 0", "uq_post_sections_package_id_ordinal"),
        ("file_id = gen_random_uuid()", "fk_post_sections_file_id"),
    ],
)
def test_the_database_holds_the_rules(engine: Engine, storage: Storage, change: str, constraint: str) -> None:
    _, package = _take_in({"A.SRC": b":SECTION=A\n:SECTION=B\n"}, engine, storage)
    with engine.connect() as connection, pytest.raises(Exception, match=constraint):
        connection.execute(
            text(f"UPDATE post_sections SET {change} WHERE package_id = :id"), {"id": package["id"]}
        )


def test_names_that_would_upset_json_or_postgres(engine: Engine, storage: Storage) -> None:
    data = ':SECTION=A"\\{},\'é\n:SECTION=\x00B(C"D, {E},NULL)\n:C: CALL(NULL) CALL("X")\n'.encode("cp1252")
    outcome, package = _take_in({"A.SRC": data}, engine, storage)
    assert outcome is Outcome.READY
    rows = _rows(engine, post_sections, package["id"])
    assert [row["name"] for row in rows] == ["A\"\\{},'é", "\\x00B"]
    assert rows[1]["parameters"] == ['C"D', "{E}", "NULL"]
    assert rows[1]["calls"] == ["NULL", '"X"']
    assert json.dumps(package["problems"])
