"""Examinations: asked for by anybody, worked off one after the other, from one minute to the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine

from veripost import queries, telemetry
from veripost.errors import NotFound
from veripost.models import DoctorStatus
from veripost.queries import Examination
from veripost.schemas import CallDoctor, DoctorFinding, DoctorLookedAt, DoctorNotCompared, DoctorView
from veripost.settings import Settings
from veripost.storage import Storage
from veripost.telemetry import logger
from veripost.upkeep.doctor.files import examine_files
from veripost.upkeep.doctor.findings import Kind, Report
from veripost.upkeep.doctor.leftovers import examine_bundles, examine_uploads
from veripost.upkeep.doctor.originals import DROPS, UPLOADS, examine_originals, examine_packages
from veripost.upkeep.doctor.setting import (
    LOOKS_AT_ONCE,
    START,
    DoctorConfig,
    Place,
    Setting,
    config_of,
)

STEPS: Final[dict[str, Callable[[Setting, Place], Place | None]]] = {
    "files": examine_files,
    "drops": partial(examine_originals, prefix=DROPS),
    "uploads": partial(examine_originals, prefix=UPLOADS),
    "packages": examine_packages,
    "parts": examine_uploads,
    "bundles": examine_bundles,
}
"""What is examined, in this order; each step takes a place and returns where it goes on."""

MOST_FAILURES: Final = 5
KEPT: Final = timedelta(days=30)
_MARGIN: Final = timedelta(seconds=60)  # by which a lease outlives the invocation that took it


def order(engine: Engine, *, fix: bool, deep: bool) -> UUID:
    """Ask for an examination; it begins within a minute. Returns its id."""
    with engine.begin() as connection:
        return queries.add_examination(connection, fix=fix, deep=deep, keep=KEPT)


def view(engine: Engine, examination_id: UUID) -> DoctorView:
    """Return an examination, and what it has found so far.

    Raises
    ------
    NotFound
        There is no such examination, or it was done too long ago.
    """
    with engine.connect() as connection:
        row = queries.get_examination(connection, examination_id)
    if row is None:
        raise NotFound(
            "There is no such examination.",
            code="examination_not_found",
            detail=f"examination {examination_id}",
        )
    report = Report.of(row["report"])
    return DoctorView(
        doctor_id=examination_id,
        status=row["status"],
        step=None if row["status"] == DoctorStatus.DONE else _position(row["position"])[0],
        fix=row["fix"],
        deep=row["deep"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        error=report.error,
        looked_at=DoctorLookedAt.model_validate(report),
        left_alone=report.left_alone,
        not_compared=DoctorNotCompared(
            files=report.files_not_compared, originals=report.originals_not_compared
        ),
        found=report.found,
        fixed=report.fixed,
        counts={str(kind): report.counts.get(kind, 0) for kind in Kind},
        findings=[DoctorFinding.model_validate(finding) for finding in report.findings],
        truncated=report.truncated,
    )


def called(
    call: CallDoctor,
    *,
    engine: Engine,
    storage: Storage,
    settings: Settings,
    seconds_left: Callable[[], float],
) -> DoctorView | None:
    """Work on what is asked for, or on what waits; return how far it is, or None where nothing waits."""
    wanted = order(engine, fix=call.fix, deep=call.deep) if call.now else call.doctor_id
    worked_on = attend(engine, storage, settings, seconds_left=seconds_left, examination_id=wanted)
    shown = wanted or worked_on
    return None if shown is None else view(engine, shown)


def attend(
    engine: Engine,
    storage: Storage,
    settings: Settings,
    *,
    seconds_left: Callable[[], float],
    examination_id: UUID | None = None,
    config: DoctorConfig | None = None,
) -> UUID | None:
    """Work on the oldest examination that is not done, or on this one, until it is or time is nearly over.

    Returns its id; None where there is nothing to do, or somebody else is doing it.
    """
    lease = timedelta(seconds=seconds_left()) + _MARGIN
    with engine.begin() as connection:
        taken = queries.take_examination(connection, lease=lease, examination_id=examination_id)
    if taken is None:
        return None
    with logger.append_context_keys(doctor_id=str(taken.id)), ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        setting = Setting(
            engine=engine,
            storage=storage,
            settings=settings,
            config=config or config_of(settings),
            fix=taken.fix,
            deep=taken.deep,
            report=Report.of(taken.report),
            seconds_left=seconds_left,
            pool=pool,
        )
        with _given_back_on_failure(engine, taken) as note:
            _work(setting, taken, lease=lease, note=note)
    return taken.id


def _work(
    setting: Setting, taken: Examination, *, lease: timedelta, note: Callable[[Examination], None]
) -> None:
    """Take one step after the other, and write down after each where the next one begins."""
    step, place = _position(taken.position)
    while True:
        following = STEPS[step](setting, place)
        setting.report.failures = 0
        if following is not None:
            place = following
        else:
            step, place = _after(step), START
        is_over = setting.is_time_over
        position = json.dumps([step, *place]) if step else None
        saved = _save(
            setting.engine, taken, position, setting.report, lease=None if is_over or not step else lease
        )
        if saved is None:
            logger.warning("somebody else has taken this examination over")
            return
        if not step:
            _tell(setting)
            return
        if is_over:
            logger.info("the examination goes on in the next minute", extra={"position": position})
            return
        taken = saved
        note(taken)


def _position(stored: str | None) -> tuple[str, Place]:
    if stored is None:
        return next(iter(STEPS)), START
    step, key, more = json.loads(stored)
    return step, (key, more)


def _after(step: str) -> str:
    names = [*STEPS, ""]
    return names[names.index(step) + 1]


def _save(
    engine: Engine, taken: Examination, position: str | None, report: Report, *, lease: timedelta | None
) -> Examination | None:
    document = report.as_dict()
    with engine.begin() as connection:
        lease_until = queries.save_examination(
            connection, taken, position=position, report=document, lease=lease
        )
    if lease_until is None:
        return None
    # A copy by way of JSON: the report goes on growing.
    return replace(taken, position=position, report=json.loads(json.dumps(document)), lease_until=lease_until)


@contextmanager
def _given_back_on_failure(engine: Engine, taken: Examination) -> Iterator[Callable[[Examination], None]]:
    """Have the next minute try again from where the examination was last written down, but not for ever."""
    latest = [taken]

    def note(written: Examination) -> None:
        latest[:] = [written]

    try:
        yield note
    except Exception as error:
        last = latest[0]
        report = Report.of(last.report)
        report.failures += 1
        hopeless = report.failures >= MOST_FAILURES
        if hopeless:
            report.error = f"given up at {last.position or 'the start'}: {type(error).__name__}: {error}"[
                :2000
            ]
            logger.error("examination given up", extra={"position": last.position})
        _save(engine, last, None if hopeless else last.position or _START_POSITION, report, lease=None)
        raise


_START_POSITION: Final = json.dumps([next(iter(STEPS)), *START])


def _tell(setting: Setting) -> None:
    report = setting.report
    telemetry.emit(
        {
            "DoctorFindings": report.found,
            "DoctorFixed": report.fixed,
            "DoctorObjects": report.objects,
            "DoctorRows": report.rows,
        }
    )
    facts: dict[str, Any] = {**report.counts, "fixed": report.fixed, "objects": report.objects}
    logger.info("examined", extra={**facts, "rows": report.rows, "packages": report.packages})
