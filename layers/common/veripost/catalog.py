"""The reads: lists, details, status and where to download. Plain functions; handlers wire them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine, RowMapping
from sqlalchemy.exc import SQLAlchemyError

import veripost
from veripost import queries
from veripost.errors import AppError, Conflict, InvalidFields, NotFound
from veripost.models import FOLDED_LENGTH, Sort
from veripost.paging import a_count
from veripost.paging import make_cursor as _make_cursor
from veripost.paging import read_cursor as _read_cursor
from veripost.queries import FINAL, PackageFilter, Place, Position
from veripost.schemas import (
    FILES_SHOWN,
    PROBLEMS_SHOWN,
    RUNS_SHOWN,
    FileList,
    FileView,
    Health,
    KeyList,
    KeyView,
    PackageDetail,
    PackageList,
    PackageSummary,
    ProblemList,
    Progress,
    RunView,
    StatusView,
    problems_of,
)
from veripost.storage import Storage
from veripost.telemetry import logger

_LOOK_SECONDS = 0.5
_SLOT_MARGIN_SECONDS = 10  # what a waiting request may take beyond its wait


def health(engine: Engine, storage: Storage) -> Health:
    """Ask every part for a sign of life; never raises."""

    def ping_database() -> None:
        with engine.connect() as connection:
            queries.ping(connection)

    database = _answers("database", ping_database)
    stored = _answers("storage", storage.ping)
    return Health(
        status="ok" if database and stored else "down",
        database="ok" if database else "down",
        storage="ok" if stored else "down",
        version=veripost.__version__,
    )


def _answers(part: str, ping: Callable[[], None]) -> bool:
    try:
        ping()
    except (SQLAlchemyError, AppError, OSError):
        logger.exception("a part is down", extra={"part": part})
        return False
    return True


def list_packages(
    engine: Engine, chosen: PackageFilter, sort: Sort, *, limit: int, cursor: str | None
) -> PackageList:
    """Return one page of the packages that match, in the order of `sort`.

    Pages do not overlap and leave nothing out while packages arrive. One whose own place in the order changes
    meanwhile (`updated`) can be met twice or missed.

    Raises
    ------
    InvalidFields
        `cursor` is not one that this function handed out for the same filters and order.
    """
    mark = _mark_of(chosen, sort)
    after = None
    if cursor is not None:
        made_for, key, package_id = _read_cursor(
            cursor, str, _key_text if sort.key == "name" else _moment, UUID
        )
        if made_for != mark:
            raise InvalidFields(
                "That page belongs to another list: next_cursor is for the same filters and the same order.",
                detail="cursor was made for other filters or another sort",
            )
        after = Place(key, package_id)
    with engine.connect() as connection:
        rows = queries.list_packages(connection, chosen, sort, limit=limit + 1, after=after)
    page = [PackageSummary.model_validate(row) for row in rows[:limit]]
    following = None
    if len(rows) > limit:
        key = rows[limit - 1]["sort_key"]
        text = key if isinstance(key, str) else key.isoformat()
        following = _make_cursor(mark, text, str(page[-1].id))
    return PackageList(packages=page, count=len(page), next_cursor=following)


def _mark_of(chosen: PackageFilter, sort: Sort) -> str:
    """Return what tells one list from another; it keeps no secret and need not withstand an attacker."""
    asked = json.dumps([sort, asdict(chosen)], default=str)
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def get_detail(engine: Engine, package_id: UUID) -> PackageDetail:
    """Return a package with the first of its files, findings and jobs.

    Raises
    ------
    NotFound
        There is no such package.
    """
    with engine.connect() as connection:
        package = _package(queries.get_package(connection, package_id), package_id)
        files = queries.list_files(connection, package_id, limit=FILES_SHOWN)
        runs = queries.list_runs(connection, package_id, limit=RUNS_SHOWN)
        run_count = len(runs) if len(runs) < RUNS_SHOWN else queries.count_runs(connection, package_id)
    return PackageDetail.model_validate(
        {
            **package,
            "files": [FileView.model_validate(file) for file in files],
            "problems": problems_of(package["problems"], limit=PROBLEMS_SHOWN),
            "runs": [RunView.model_validate(run) for run in runs],
            "problem_count": len(package["problems"]),
            "run_count": run_count,
        }
    )


def get_status(engine: Engine, package_id: UUID) -> StatusView:
    """Return how far a package is and, if it was refused, every reason.

    Raises
    ------
    NotFound
        There is no such package.
    """
    with engine.connect() as connection:
        package = _package(queries.get_status(connection, package_id), package_id)
    # A replay counts anew, while the files of the job before are still the package's.
    files_stored = package["file_count"] if package["status"] in FINAL else package["files_stored"]
    return StatusView(
        package_id=package["id"],
        job_id=package["job_id"],
        status=package["status"],
        error_code=package["error_code"],
        error_message=package["error_message"],
        error_detail=package["error_detail"],
        file_count=package["file_count"],
        section_count=package["section_count"],
        problem_count=len(package["problems"]),
        problems=problems_of(package["problems"], limit=PROBLEMS_SHOWN),
        progress=Progress(
            files_stored=files_stored or 0,
            files_total=package["files_total"],
            bytes_stored=package["bytes_stored"] or 0,
            bytes_total=package["bytes_total"],
            bytes_received=None if package["source_version"] is None else package["size_bytes"],
        ),
        updated_at=package["updated_at"],
    )


def wait_for_status(
    engine: Engine,
    package_id: UUID,
    *,
    seconds: int,
    is_news: Callable[[StatusView], bool],
    most: int,
) -> StatusView:
    """Return the status, up to `seconds` later if it is neither final nor news to the caller before.

    It is looked at every half second, and the connection is given back in between.

    A Lambda process serves one request at a time, so each waiting request keeps one from serving others.
    `most` may wait at once, all processes together; those beyond are answered with what is known now.
    Counting them takes a place that all processes share, which is the database, and a count that does not
    leak when a process is cut off: hence rows that end by themselves (`queries.take_slot`). They cost two
    short writes a waiting request, which spares us up to forty polls. A session's advisory lock would hold a
    connection all the while, a plain counter would leak, and a share computed from the function's concurrency
    bounds nothing by itself.

    Raises
    ------
    NotFound
        There is no such package, or no longer.
    """
    view = get_status(engine, package_id)
    if not seconds or view.status in FINAL or is_news(view):
        return view
    with engine.begin() as connection:
        slot = queries.take_slot(
            connection, most=most, hold=timedelta(seconds=seconds + _SLOT_MARGIN_SECONDS)
        )
    if slot is None:
        return view
    try:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            view = get_status(engine, package_id)
            if view.status in FINAL or is_news(view):
                break
    finally:
        try:
            with engine.begin() as connection:
                queries.give_slot_back(connection, slot)
        except SQLAlchemyError as error:
            logger.warning(
                "could not give a waiting slot back; it ends by itself", extra={"detail": str(error)}
            )
    return view


def ask_again_after(status: str, updated_at: datetime) -> int | None:
    """Return in how many seconds (1 to 5) it makes sense to ask again; None: the state is final.

    The longer nothing has happened, the longer it will probably take.
    """
    if status in FINAL:
        return None
    quiet = datetime.now(UTC) - updated_at
    return min(max(round(quiet / timedelta(seconds=10)), 1), 5)


def list_files(engine: Engine, package_id: UUID, *, limit: int, cursor: str | None) -> FileList:
    """Return one page of a package's files, by name. Raises `NotFound`, `InvalidFields`."""
    after: str | None = None
    if cursor is not None:
        (after,) = _read_cursor(cursor, _name)
    with engine.connect() as connection:
        _package(queries.get_package(connection, package_id), package_id)
        rows = queries.list_files(connection, package_id, limit=limit + 1, after=after)
    page = [FileView.model_validate(row) for row in rows[:limit]]
    return FileList(
        files=page,
        count=len(page),
        next_cursor=_make_cursor(page[-1].filename) if len(rows) > limit else None,
    )


def list_problems(engine: Engine, package_id: UUID, *, limit: int, cursor: str | None) -> ProblemList:
    """Return one page of a package's findings. Raises `NotFound`, `InvalidFields`."""
    start = 0
    if cursor is not None:
        (start,) = _read_cursor(cursor, a_count)
    with engine.connect() as connection:
        stored = _package(queries.get_package(connection, package_id), package_id)["problems"]
    page = problems_of(stored, start=start, limit=limit)
    end = start + len(page)
    return ProblemList(
        problems=page,
        count=len(page),
        next_cursor=_make_cursor(str(end)) if end < len(stored) else None,
    )


def list_keys(engine: Engine, *, limit: int, cursor: str | None) -> KeyList:
    """Return one page of API keys, newest first, without the keys themselves. Raises `InvalidFields`."""
    after = _position(cursor)
    with engine.connect() as connection:
        rows = queries.list_keys(connection, limit=limit + 1, after=after)
    page = [KeyView.model_validate(row) for row in rows[:limit]]
    last = page[-1] if len(rows) > limit else None
    return KeyList(
        keys=page,
        count=len(page),
        next_cursor=_make_cursor(last.created_at.isoformat(), str(last.id)) if last else None,
    )


def file_url(engine: Engine, storage: Storage, package_id: UUID, file_id: UUID, *, seconds: int) -> str:
    """Return a short-lived URL of one file's identical bytes. Raises `NotFound`."""
    with engine.connect() as connection:
        file = queries.get_file(connection, package_id, file_id)
    if file is None:
        raise NotFound(
            "There is no such file in this package.",
            code="file_not_found",
            detail=f"package {package_id}, file {file_id}",
        )
    return storage.presign_file(file["s3_key"], filename=file["filename"], seconds=seconds)


def archive_url(engine: Engine, storage: Storage, package_id: UUID, *, seconds: int) -> str:
    """Return a short-lived URL of the original ZIP, exactly as it landed.

    Raises
    ------
    NotFound
        There is no such package.
    Conflict
        Nothing has been uploaded for it yet.
    """
    with engine.connect() as connection:
        package = _package(queries.get_package(connection, package_id), package_id)
    if package["source_version"] is None:
        raise Conflict(
            "Nothing has been uploaded for this package yet.",
            code="not_uploaded",
            detail=f"no object has landed at {package['source_key']}",
        )
    return storage.presign_archive(
        package["source_key"],
        package["source_version"],
        filename=f"{package['name']}.zip",
        seconds=seconds,
    )


def _package(found: RowMapping | None, package_id: UUID) -> RowMapping:
    if found is None:
        raise NotFound("There is no such package.", code="package_not_found", detail=f"package {package_id}")
    return found


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    created_at, row_id = _read_cursor(cursor, _moment, UUID)
    return Position(created_at, row_id)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if not (moment.tzinfo and 2000 <= moment.year < 3000):
        raise ValueError("not a time of one of our rows")
    return moment


def _key_text(text: str) -> str:
    if "\0" in text or len(text) > FOLDED_LENGTH:  # Postgres takes no NUL
        raise ValueError("not a name of one of our rows")
    text.encode()  # nor a lone surrogate, which raises here
    return text


def _name(text: str) -> str:
    if not text.isprintable():  # no file's name is otherwise; NUL and lone surrogates would upset Postgres
        raise ValueError("not a file's name")
    return text
