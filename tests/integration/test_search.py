"""Finding sections and packages again, reading lines, and comparing, on real Postgres and an S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from sqlalchemy import Engine, event, select, text

from localcloud import samples
from tests.second_platform import NOTES
from veripost import contents, ingestion, queries, search
from veripost.errors import Conflict, InvalidFields, NotFound
from veripost.ingest_queue import LandedObject
from veripost.ingestion import Outcome
from veripost.models import NEAREST_INDEX, TRIGRAM_INDEXES, Trigger, post_packages, post_sections
from veripost.paging import make_cursor
from veripost.platforms import registry
from veripost.schemas import Comparison, HitList
from veripost.settings import Settings
from veripost.storage import Storage

CONFIG = ingestion.config_of(Settings())


def _take_in(
    files: dict[str, bytes], engine: Engine, storage: Storage, *, platform: str = "camworks"
) -> UUID:
    data = samples.zip_of(files)
    key = f"drops/{platform}/{uuid4()}/post.zip"
    version = boto3.client("s3").put_object(Bucket="incoming", Key=key, Body=data)["VersionId"]
    outcome = ingestion.ingest(
        LandedObject("incoming", key, version, len(data)),
        engine=engine,
        storage=storage,
        config=CONFIG,
        request_id="r",
        seconds_left=lambda: 300.0,
    )
    assert outcome is Outcome.READY
    with engine.connect() as connection:
        statement = select(post_packages.c.id).where(post_packages.c.source_key == key)
        found: UUID = connection.execute(statement).scalar_one()
        return found


@pytest.fixture
def empty(engine: Engine) -> None:
    """No packages of earlier tests: what is found, and in which order, depends on all of them."""
    with engine.begin() as connection:
        connection.execute(post_packages.delete())


def _source(*sections: str, machine: str = "", controller: str = "", system: str = "MILL") -> bytes:
    """Return a source of `sections`, each given as its lines joined by `|`, its name first."""
    lines = [f":SYSTEM={system}"]
    for name, value in (("MACHINE NAME", machine), ("CONTROLLER TYPE", controller)):
        if value:
            lines += [f":ATTRNAME={name}", ":ATTRTYPE=POST", f":ATTRDEFAULT={value}", ":ATTREND"]
    for section in sections:
        name, *body = section.split("|")
        lines += [f":SECTION={name}", *body]
    return "\r\n".join([*lines, ""]).encode("cp1252")


# -- sections and their lines


def test_sections_are_listed_in_order_and_by_name(engine: Engine, storage: Storage) -> None:
    files = {
        "A.SRC": _source("MOVE|:T:1", "CALC_X(A,B)|:C: CALL(MOVE)", "move|:T:2"),
        "A.LIB": _source("MOVE"),
    }
    package = _take_in(files, engine, storage)
    first = contents.list_sections(engine, package, name=None, limit=3, cursor=None)
    assert [(each.filename, each.name, each.first_line) for each in first.sections] == [
        ("A.SRC", "MOVE", 2),
        ("A.SRC", "CALC_X", 4),
        ("A.SRC", "move", 6),
    ]
    assert (first.sections[1].parameters, first.sections[1].call_count) == (["A", "B"], 1)
    rest = contents.list_sections(engine, package, name=None, limit=3, cursor=first.next_cursor)
    assert [(each.filename, each.name) for each in rest.sections] == [("A.LIB", "MOVE")]
    assert rest.next_cursor is None
    twice = contents.list_sections(engine, package, name="Move", limit=2, cursor=None)
    assert [each.ordinal for each in twice.sections] == [0, 2]
    last = contents.list_sections(engine, package, name="Move", limit=2, cursor=twice.next_cursor)
    assert [each.ordinal for each in last.sections] == [3]
    with pytest.raises(NotFound, match="package_not_found"):
        contents.list_sections(engine, uuid4(), name=None, limit=3, cursor=None)
    with pytest.raises(InvalidFields):
        contents.list_sections(engine, package, name=None, limit=3, cursor="?")


def test_attributes_are_listed_in_order_and_by_name(engine: Engine, storage: Storage) -> None:
    package = _take_in({"A.SRC": _source(machine="Mill 3X")}, engine, storage)
    found = contents.list_attributes(engine, package, name=None, limit=10, cursor=None)
    assert [(each.kind, each.name, each.value) for each in found.attributes] == [
        ("header", "SYSTEM", "MILL"),
        ("attribute", "MACHINE NAME", "Mill 3X"),
    ]
    assert found.attributes[1].details == [("ATTRTYPE", "POST"), ("ATTRDEFAULT", "Mill 3X")]
    one = contents.list_attributes(engine, package, name="machine name", limit=1, cursor=None)
    assert [each.ordinal for each in one.attributes] == [1]


def _lines(engine: Engine, storage: Storage, package: UUID, name: str) -> tuple[list[str], bool]:
    listed = contents.list_sections(engine, package, name=name, limit=1, cursor=None).sections
    detail = contents.get_section(engine, storage, package, listed[0].id)
    return detail.lines, detail.truncated


def test_a_section_comes_with_its_lines(engine: Engine, storage: Storage) -> None:
    known = samples.source("LINES", sections=400)
    package = _take_in({"LINES.SRC": known.data}, engine, storage)
    lines = known.data.decode("cp1252").splitlines()
    for section in known.sections[::37]:
        assert _lines(engine, storage, package, section.name) == (
            lines[section.first_line - 1 : section.last_line],
            False,
        )


def test_lines_far_into_a_large_file_are_read_from_near_them(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = samples.source("FAR", sections=20_000, lines=500_000)
    package = _take_in({"FAR.SRC": known.data}, engine, storage)
    read: list[int] = []
    real = Storage.read_file

    def read_file(each: Storage, key: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return real(each, key, start, end)

    monkeypatch.setattr(Storage, "read_file", read_file)
    section = known.sections[18_001]
    lines = known.data.decode("cp1252").splitlines()
    expected = lines[section.first_line - 1 : section.last_line]
    assert _lines(engine, storage, package, section.name) == (expected, False)
    assert sum(read) <= 256 << 10


def test_what_does_not_print_is_spelled_out_and_long_sections_are_cut(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = b":SECTION=ODD\r\n:T:\tFr\xe4se \x00\x81\r:SECTION=LONG\n" + b":T:x\n" * 2_000 + b":SECTION=WIDE\n"
    odd += b":T:" + b"y" * 200_000 + b"\n"
    package = _take_in({"A.SRC": odd}, engine, storage)
    assert _lines(engine, storage, package, "ODD") == ([":SECTION=ODD", ":T:\tFräse \\x00\ufffd"], False)
    lines, truncated = _lines(engine, storage, package, "LONG")
    assert (len(lines), lines[-1], truncated) == (contents.MOST_LINES, ":T:x", True)
    lines, truncated = _lines(engine, storage, package, "WIDE")
    assert ([len(line) for line in lines], truncated) == ([13, 65_536], True)
    monkeypatch.setattr(contents, "MOST_LINE_BYTES", 100)
    assert _lines(engine, storage, package, "WIDE") == ([":SECTION=WIDE"], True)


def test_utf_16_is_read_from_its_mark(engine: Engine, storage: Storage) -> None:
    data = "".join(f":SECTION=S{number}\r\n:T:Fräse {number}\r\n" for number in range(9_000)).encode("utf-16")
    package = _take_in({"A.SRC": data}, engine, storage)
    assert _lines(engine, storage, package, "S8000") == ([":SECTION=S8000", ":T:Fräse 8000"], False)


def test_a_second_platform_has_its_own_encoding(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "PLATFORMS", {"notes": NOTES})
    package = _take_in({"A.note": "# Äpfel\nsüß\n".encode()}, engine, storage, platform="notes")
    assert _lines(engine, storage, package, "Äpfel") == (["# Äpfel", "süß"], False)


def test_sections_that_are_not_there(engine: Engine, storage: Storage) -> None:
    package = _take_in({"A.SRC": _source("A|:T:")}, engine, storage)
    other = _take_in({"B.SRC": _source("B|:T:")}, engine, storage)
    section = contents.list_sections(engine, package, name=None, limit=1, cursor=None).sections[0]
    for wrong in ((other, section.id), (package, uuid4())):
        with pytest.raises(NotFound, match="section_not_found"):
            contents.get_section(engine, storage, *wrong)
    with pytest.raises(NotFound, match="package_not_found"):
        contents.get_section(engine, storage, uuid4(), section.id)
    storage.delete_prefix(queries.package_prefix(package))
    with pytest.raises(Conflict, match="file_missing"):
        contents.get_section(engine, storage, package, section.id)


# -- search


def _search(engine: Engine, q: str, *, limit: int = 50, cursor: str | None = None) -> HitList:
    return search.search(engine, q, limit=limit, cursor=cursor)


def _found(engine: Engine, q: str) -> list[tuple[str, str, str]]:
    return [(hit.subject, hit.package_name, hit.name) for hit in _search(engine, q).hits]


@pytest.mark.usefixtures("empty")
def test_search_finds_names_of_every_kind_the_best_first(engine: Engine, storage: Storage) -> None:
    files = {
        "HAAS_VF-4.SRC": _source(
            "START_OF_TAPE|:T:", "TAPE|:T:", "TAPE_END|:T:", machine="Haas VF-4", controller="Fanuc 18i"
        ),
    }
    package = _take_in(files, engine, storage)
    _take_in({"TAPEWORM.SRC": _source("CALC_RADIUS_004|:C:")}, engine, storage)
    assert _found(engine, "tape") == [
        ("section", "HAAS_VF-4", "TAPE"),
        ("package", "TAPEWORM", "TAPEWORM"),
        ("section", "HAAS_VF-4", "TAPE_END"),
        ("section", "HAAS_VF-4", "START_OF_TAPE"),
    ]
    assert _found(engine, "start tape") == [("section", "HAAS_VF-4", "START_OF_TAPE")]
    assert _found(engine, "of-tape STA") == [("section", "HAAS_VF-4", "START_OF_TAPE")]
    assert _found(engine, "machine name") == [("attribute", "HAAS_VF-4", "MACHINE NAME")]
    assert _found(engine, "radius 004") == [("section", "TAPEWORM", "CALC_RADIUS_004")]
    assert _found(engine, "adius") == []
    hit = _search(engine, "fanuc").hits[0]
    assert (hit.subject, hit.package_id, hit.machine_type, hit.status) == (
        "package",
        package,
        "Haas VF-4",
        "ready",
    )
    assert [(match.field, match.text, match.ranges) for match in hit.matches] == [
        ("controller_type", "Fanuc 18i", [(0, 5)])
    ]
    hit = _search(engine, "tap sta").hits[0]
    assert (hit.filename, hit.line, hit.kind) == ("HAAS_VF-4.SRC", 10, "template")
    assert [(match.field, match.ranges) for match in hit.matches] == [("name", [(0, 3), (9, 12)])]
    assert hit.section_id is not None
    assert contents.get_section(engine, storage, package, hit.section_id).lines[0] == ":SECTION=START_OF_TAPE"


@pytest.mark.usefixtures("empty")
def test_search_is_paged_without_gaps_or_repeats(engine: Engine, storage: Storage) -> None:
    for number in range(3):
        names = [f"MOVE_{each:03d}|:T:" for each in range(40)]
        _take_in({f"MOVE_{number}.SRC": _source("MOVE|:T:", *names)}, engine, storage)
    whole = _search(engine, "move", limit=200)
    assert (whole.count, whole.next_cursor, whole.complete) == (126, None, True)
    paged, cursor = [], None
    while True:
        page = _search(engine, "move", limit=7, cursor=cursor)
        paged += page.hits
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == whole.hits
    assert [hit.name for hit in whole.hits[:3]] == ["MOVE"] * 3
    newest = [hit.package_name for hit in whole.hits[:3]]
    assert newest == ["MOVE_2", "MOVE_1", "MOVE_0"]


@pytest.mark.usefixtures("empty")
def test_too_many_matches_are_said_to_be_incomplete(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries.searching, "MOST_RANKED", 20)
    _take_in({"A.SRC": _source(*(f"MOVE_{each}|:T:" for each in range(40)))}, engine, storage)
    found = _search(engine, "move", limit=200)
    assert (found.count, found.complete) == (20, False)


@pytest.mark.usefixtures("empty")
def test_substrings_are_found_where_the_server_has_trigrams(
    engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement needs no trigrams, only its speed does: so it runs on this server, too."""
    _take_in({"A.SRC": _source("CALC_RADIUS|:C:", "100%_DONE|:T:", "100X_DONE|:T:")}, engine, storage)
    monkeypatch.setattr(queries, "offers", lambda _connection: queries.Offers(substrings=True, nearest=False))
    found = _search(engine, "Adius")
    assert [(hit.name, hit.matches[0].ranges) for hit in found.hits] == [("CALC_RADIUS", [(6, 11)])]
    assert found.substrings
    assert [hit.name for hit in _search(engine, "0%_D").hits] == ["100%_DONE"]
    assert [hit.name for hit in _search(engine, "calc").hits] == ["CALC_RADIUS"]
    assert not _search(engine, "ad").substrings


def test_what_the_server_offers(engine: Engine) -> None:
    with engine.connect() as connection:
        there = set(connection.scalars(text("SELECT extname FROM pg_extension")))
        found = queries.offers(connection)
    assert found == queries.Offers(substrings="pg_trgm" in there, nearest="vector" in there)
    assert len(TRIGRAM_INDEXES) == 3


@pytest.mark.parametrize("q", ["***", " _ ", "w " * 17])
def test_what_has_no_words_or_too_many(engine: Engine, q: str) -> None:
    with pytest.raises(InvalidFields, match="q: must hold"):
        _search(engine, q)


@pytest.mark.parametrize(
    "q",
    [
        "a'b",
        "a & b | !c",
        "a:*",
        "'; DROP",
        "x\\",
        'q"w',
        "a%b",
        "ß",
        "İstanbul",
        "名前",
        "a" * 200,
        "1e5",
        "<a>",
        "-4",
    ],
)
def test_any_text_can_be_searched(engine: Engine, q: str) -> None:
    assert _search(engine, q).count >= 0


@pytest.mark.parametrize(
    "parts",
    [
        ["1"],
        ["x", "1", "a", "1", str(uuid4()), "1"],
        ["1", "1", "a\0", "1", str(uuid4()), "1"],
        ["1", "1", "a", "9" * 20, str(uuid4()), "1"],
        [["9"] * 30] * 6,
    ],
)
def test_cursors_that_are_none(engine: Engine, parts: Any) -> None:
    with pytest.raises(InvalidFields, match="cursor"):
        _search(engine, "a", cursor=make_cursor(*parts))


def test_highlighted_ranges_do_not_touch() -> None:
    assert search.highlight("CALC_CALCULATION", None, ["calc", "calcu"]) == [(0, 4), (5, 10)]
    assert search.highlight("abcabc", "bca", ["abc"]) == [(0, 4)]
    assert search.highlight("none", None, ["x"]) == []


# -- packages alike


def _family(engine: Engine, storage: Storage) -> dict[str, UUID]:
    """A post, one with a tenth of its sections edited, one with half of them, and a stranger."""

    def variant(name: str, edited: int, prefix: str = "NAME") -> UUID:
        sections = [
            f"{prefix}_{number}|:T:{'edited' if number < edited else 'plain'} {number}"
            for number in range(100)
        ]
        return _take_in({f"{name}.SRC": _source(*sections)}, engine, storage)

    return {
        "post": variant("POST", 0),
        "half": variant("HALF", 50),
        "stranger": variant("STRANGER", 0, prefix="OTHER"),
        "tenth": variant("TENTH", 10),
    }


def _assert_alike(engine: Engine, packages: dict[str, UUID], method: str) -> None:
    found = search.similar(engine, packages["post"], limit=10)
    assert found.method == method
    assert [package.id for package in found.packages[:2]] == [packages["tenth"], packages["half"]]
    tenth, half = found.packages[:2]
    assert (tenth.shared_names, tenth.shared_sections) == (100, 90)
    assert tenth.similarity == pytest.approx(190 / 210)
    assert half.similarity == pytest.approx(150 / 250)
    assert packages["post"] not in {package.id for package in found.packages}
    assert packages["stranger"] not in {package.id for package in found.packages}
    assert search.similar(engine, packages["post"], limit=1).count == 1


@pytest.mark.usefixtures("empty")
def test_packages_alike_with_and_without_the_extension(engine: Engine, storage: Storage) -> None:
    packages = _family(engine, storage)
    _assert_alike(engine, packages, "vector")
    with engine.connect() as connection:
        found = queries.nearest_packages(connection, packages["post"], by_index=True)
        looked_at = queries.nearest_packages(connection, packages["post"], by_index=False)
    assert found[:2] == looked_at[:2] == [packages["tenth"], packages["half"]]
    with engine.connect() as connection:
        definition = connection.execute(
            text("SELECT indexdef FROM pg_indexes WHERE indexname = :name"), {"name": NEAREST_INDEX}
        ).scalar_one()
        connection.execute(text("DROP EXTENSION vector CASCADE"))  # takes the index with it
        connection.commit()
    try:
        _assert_alike(engine, packages, "exact")
        _take_in({"LATE.SRC": _source("A|:T:")}, engine, storage)
    finally:
        with engine.begin() as connection:
            connection.execute(text("CREATE EXTENSION vector"))
            connection.execute(text(definition))


def test_a_package_without_sections_is_like_no_other(engine: Engine, storage: Storage) -> None:
    package = _take_in({"A.SRC": b"x"}, engine, storage)
    assert search.similar(engine, package, limit=10).packages == []
    with pytest.raises(NotFound):
        search.similar(engine, uuid4(), limit=10)


# -- how two packages differ


def _compare(
    engine: Engine,
    storage: Storage,
    one: UUID,
    other: UUID,
    *,
    section: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Comparison:
    return contents.compare(engine, storage, one, other, section=section, limit=limit, cursor=cursor)


def _named(found: Comparison) -> list[tuple[str, str, str]]:
    return [(each.subject, each.change, each.name) for each in found.differences]


def test_a_difference_is_exactly_the_edit(engine: Engine, storage: Storage) -> None:
    before = samples.post_processor("MILL", sections=80)
    known = samples.source("MILL", sections=80).sections[41]
    lines = before["MILL.SRC"].split(b"\r\n")
    assert lines[known.first_line] != b":T:<N><M:08>(COOLANT)<EOL>"
    old = lines[known.first_line].decode()
    lines[known.first_line] = b":T:<N><M:08>(COOLANT)<EOL>"
    after = before | {"MILL.SRC": b"\n".join(lines)}  # and another editor's line ends
    one, other = _take_in(before, engine, storage), _take_in(after, engine, storage)

    found = _compare(engine, storage, one, other)
    assert _named(found) == [("file", "changed", "MILL.SRC"), ("section", "changed", known.name)]
    assert found.files.model_dump() == {"added": 0, "removed": 0, "changed": 1, "renamed": 0, "same": 6}
    assert (found.sections.changed, found.sections.same) == (1, 99)
    assert (found.attributes.changed, found.attributes.same > 50) == (0, True)
    assert found.differences[1].diff is None

    found = _compare(engine, storage, one, other, section=known.name.lower())
    assert _named(found) == [("section", "changed", known.name)]
    diff = found.differences[0].diff
    assert diff is not None
    assert not found.differences[0].truncated
    assert [line for line in diff.splitlines() if line[0] in "+-"] == [
        f"--- MILL.SRC:{known.first_line}",
        f"+++ MILL.SRC:{known.first_line}",
        f"-{old}",
        "+:T:<N><M:08>(COOLANT)<EOL>",
    ]
    same = _compare(engine, storage, one, other, section="START_OF_TAPE")
    assert (same.differences, same.sections.same) == ([], 1)


def test_every_kind_of_difference(engine: Engine, storage: Storage) -> None:
    before = {
        "OLD.SRC": _source("A|:T:1", "B|:T:2", "B|:T:3", "GONE|:T:", machine="M1"),
        "X.LIB": _source("A|:T:x"),
        "Y.LIB": b"",
        "K.KIN": b"0 * axis\r\n",
        "P.PINF": b"PostName = P\r\n",
    }
    after = {
        "NEW.SRC": _source("A|:T:1", "B|:T:2", "B|:T:4", "COME|:T:", machine="M2", system="LATHE"),
        "X.LIB": _source("A|:T:x"),
        "K2.KIN": b"0 * axis\r\n",
        "P.PINF": b"PostName = P\r\n",
        "Q.LNG": b"Hello                :0001:\r\n",
    }
    one, other = _take_in(before, engine, storage), _take_in(after, engine, storage)
    found = _compare(engine, storage, one, other, limit=200)
    assert sorted(_named(found)) == sorted(
        [
            ("file", "changed", "NEW.SRC"),
            ("file", "removed", "Y.LIB"),
            ("file", "renamed", "K2.KIN"),
            ("file", "added", "Q.LNG"),
            ("section", "changed", "B"),
            ("section", "removed", "GONE"),
            ("section", "added", "COME"),
            ("attribute", "changed", "SYSTEM"),
            ("attribute", "changed", "MACHINE NAME"),
            ("attribute", "added", "Hello"),
        ]
    )
    system = next(each for each in found.differences if each.name == "SYSTEM")
    assert (system.kind, system.value, system.other_value) == ("header", "MILL", "LATHE")
    changed = next(each for each in found.differences if each.name == "B")
    assert (changed.filename, changed.other_filename, changed.first_line) == ("OLD.SRC", "NEW.SRC", 10)
    assert (found.sections.added, found.sections.removed, found.sections.changed, found.sections.same) == (
        1,
        1,
        1,
        3,
    )
    gone = _compare(engine, storage, one, other, section="GONE").differences[0]
    assert gone.diff is not None
    assert gone.diff.splitlines() == [
        "--- OLD.SRC:12",
        "+++ (none)",
        "@@ -1,2 +0,0 @@",
        "-:SECTION=GONE",
        "-:T:",
    ]
    paged: list[tuple[str, str, str]] = []
    cursor = None
    while True:
        page = _compare(engine, storage, one, other, limit=3, cursor=cursor)
        assert page.count <= 3
        paged += _named(page)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == _named(found)
    nothing = _compare(engine, storage, one, one)
    assert (nothing.differences, nothing.files.same) == ([], 5)


def test_long_differences_are_cut(engine: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _take_in({"A.SRC": _source("A" + "|:T:one" * 1_500)}, engine, storage)
    other = _take_in({"A.SRC": _source("A" + "|:T:two" * 1_500)}, engine, storage)
    found = _compare(engine, storage, one, other, section="A").differences[0]
    assert found.truncated
    assert found.diff is not None
    assert len(found.diff.splitlines()) == 3 + 1 + 2 * 999
    monkeypatch.setattr(contents, "MOST_DIFF_BYTES", 500)
    found = _compare(engine, storage, one, other, section="A").differences[0]
    assert (found.truncated, len(found.diff or "") <= 500) == (True, True)


def test_what_cannot_be_compared(engine: Engine, storage: Storage) -> None:
    one = _take_in({"A.SRC": _source("A|:T:")}, engine, storage)
    with pytest.raises(NotFound, match="package_not_found"):
        _compare(engine, storage, one, uuid4())
    with pytest.raises(NotFound, match="section_not_found"):
        _compare(engine, storage, one, one, section="NOBODY")
    with engine.begin() as connection:
        pending = uuid4()
        queries.add_package(
            connection,
            package_id=pending,
            name="pending",
            platform="camworks",
            source=queries.Source("incoming", f"uploads/{pending}/archive.zip", None),
            trigger=Trigger.PRESIGNED,
            size_bytes=1,
        )
    with pytest.raises(Conflict, match="not_ready"):
        _compare(engine, storage, one, pending)
    with pytest.raises(InvalidFields):
        _compare(engine, storage, one, one, cursor="nonsense")


# -- plans


@contextmanager
def _recorded(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect every statement of the block, with its values."""
    found: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: object) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            found.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _tables_read_whole(engine: Engine, statement: str, values: Any) -> set[str]:
    with engine.connect() as connection:
        explained = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).scalar_one()
    waiting = [(explained if isinstance(explained, list) else json.loads(explained))[0]["Plan"]]
    found = set()
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", ())
        if node["Node Type"] == "Seq Scan":
            found.add(node["Relation Name"])
    return found


@pytest.fixture(scope="module")
def crowded(engine: Engine) -> UUID:
    """20,000 sections and as many attributes in 100 packages; returns one of them."""
    with engine.begin() as connection:
        connection.execute(post_packages.delete())
        connection.execute(
            text(
                """
                WITH made AS (
                    INSERT INTO post_packages
                        (id, name, source_bucket, source_key, source_version, s3_prefix, content_hash, status,
                         ready_at, machine_type)
                    SELECT id, 'PACKAGE_' || n, 'b', 'k' || n, '1', 'packages/' || id || '/', repeat('a', 64),
                        'ready', now(), 'Machine ' || n
                    FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, 100) n) numbered
                    RETURNING id
                ), files AS (
                    INSERT INTO post_files
                        (id, package_id, filename, original_path, file_extension, s3_key, size_bytes,
                         content_hash)
                    SELECT gen_random_uuid(), id, 'A.SRC', 'A.SRC', '.SRC', 'packages/' || id || '/A.SRC', 1,
                        repeat('b', 64)
                    FROM made RETURNING id, package_id
                ), sections AS (
                    INSERT INTO post_sections
                        (id, package_id, file_id, ordinal, kind, name, first_line, last_line, parameters,
                         calls, template_lines, calculation_lines, digest, seek_line, seek_offset)
                    SELECT gen_random_uuid(), package_id, id, n, 'template', 'SECTION_' || n || '_' ||
                        left(md5(CAST(id AS text) || n), 6), n, n, '{}', '{}', 1, 0,
                        md5(CAST(id AS text) || n), 1, 0
                    FROM files, generate_series(1, 200) n
                ), attributes AS (
                    INSERT INTO post_attributes
                        (package_id, file_id, ordinal, kind, name, value, first_line, last_line, details)
                    SELECT package_id, id, n, 'attribute',
                        'ATTRIBUTE ' || n || ' ' || left(md5(CAST(id AS text) || n), 6), 'v', n, n, '[]'
                    FROM files, generate_series(1, 200) n
                )
                INSERT INTO post_fingerprints (package_id, numbers)
                SELECT package_id, (
                        SELECT array_agg(CAST(sin(n * 1.0 * hashtext(CAST(id AS text))) AS real))
                        FROM generate_series(1, 256) n
                    )
                FROM files
                """
            )
        )
    with engine.connect() as connection:
        connection.commit()
        connection.execute(text("ANALYZE"))
        connection.commit()
        package: UUID = connection.execute(
            select(post_sections.c.package_id).order_by(post_sections.c.package_id).limit(1)
        ).scalar_one()
        return package


@pytest.mark.usefixtures("storage")
def test_nothing_reads_a_whole_table(engine: Engine, crowded: UUID) -> None:
    """Of 20,000 sections: what each question costs does not grow with what is there."""
    with _recorded(engine) as statements:
        contents.list_sections(engine, crowded, name=None, limit=50, cursor=None)
        contents.list_sections(engine, crowded, name="SECTION_7_x", limit=50, cursor=None)
        contents.list_attributes(engine, crowded, name=None, limit=50, cursor=None)
        section = contents.list_sections(engine, crowded, name=None, limit=1, cursor=None).sections[0]
        with engine.connect() as connection:
            queries.get_section(connection, crowded, section.id)
            for words in (["section", "77"], ["package", "77"]):
                assert queries.find(
                    connection, " ".join(words), words, substrings=False, limit=50, after=None
                )
            found = queries.nearest_packages(connection, crowded, by_index=True)
            assert len(found) == 50
            queries.most_alike(connection, crowded, found[:3], limit=3)
            queries.count_differences(connection, crowded, found[0])
            queries.list_differences(connection, crowded, found[0], limit=50, start=0)
    assert len(statements) > 10
    for statement, values in statements:
        read = _tables_read_whole(engine, statement, values)
        assert not read & {"post_sections", "post_attributes"}, statement  # the others have 100 rows


def test_the_nearest_are_found_by_the_index(engine: Engine, crowded: UUID) -> None:
    with _recorded(engine) as statements, engine.connect() as connection:
        queries.nearest_packages(connection, crowded, by_index=True)
    ((statement, values),) = statements
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_sort = off"))  # of 100, sorting all is cheaper
        explained = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).scalar_one()
    assert f'"{NEAREST_INDEX}"' in json.dumps(explained)
