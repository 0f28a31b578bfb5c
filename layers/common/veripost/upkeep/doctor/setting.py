"""What every part of an examination works with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Engine

from veripost import queries
from veripost.queries import PackageState
from veripost.settings import Settings
from veripost.storage import Storage, StoredObject
from veripost.upkeep.doctor.findings import Finding, Report

Place = tuple[str, str]
"""Where a walk goes on: behind a key and whatever else its listing needs. ("", "") is the start."""
START: Final[Place] = ("", "")

PAGE: Final = 1000
LOOKS_AT_ONCE: Final = 16
_READS_AT_ONCE: Final = 4
_CHUNK: Final = 128
_LAST_LOOK_SECONDS: Final = 20.0
_LAST_READ_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class DoctorConfig:
    """What the doctor needs of the settings. `patience` is how long any work may take."""

    stale: timedelta
    longest_run: timedelta
    patience: timedelta = timedelta(hours=1)
    page: int = PAGE


def config_of(settings: Settings) -> DoctorConfig:
    """Return the doctor's part of `settings`."""
    return DoctorConfig(
        stale=timedelta(seconds=settings.stale_seconds),
        longest_run=timedelta(seconds=settings.ingest_timeout_seconds),
    )


@dataclass(slots=True)
class Setting:
    """One invocation's share of an examination: its means, its time, and the report so far."""

    engine: Engine
    storage: Storage
    settings: Settings
    config: DoctorConfig
    fix: bool
    deep: bool
    report: Report
    seconds_left: Callable[[], float]
    pool: ThreadPoolExecutor
    is_fresh: bool = True  # nothing has been examined in this invocation yet
    originals: dict[UUID, bool] = field(default_factory=dict)  # whether a package's original was found
    replayed: set[UUID] = field(default_factory=set)

    @property
    def is_time_over(self) -> bool:
        """Whether this invocation should stop at the next good place."""
        return self.seconds_left() < _LAST_LOOK_SECONDS

    @property
    def chunk(self) -> int:
        """How many objects are looked at between two looks at the clock."""
        return min(self.config.page, _READS_AT_ONCE if self.deep else _CHUNK)

    def older_than(self, age: timedelta, modified: Iterable[datetime]) -> bool:
        """Tell whether everything that was modified at these times is older than `age`."""
        settled = datetime.now(UTC) - age
        return all(moment < settled for moment in modified)

    def states(self, package_ids: Collection[UUID]) -> dict[UUID, PackageState]:
        """Return how those packages are that exist, as of now."""
        if not package_ids:
            return {}
        with self.engine.connect() as connection:
            return queries.package_states(connection, package_ids, patience=self.config.patience)

    def look_at(self, bucket: str, wanted: Iterable[tuple[str, str | None]]) -> list[StoredObject | None]:
        """Return what is stored under each key (and version), a few at a time; `deep` reads the bytes.

        Where the time was not enough to read one, its `sha256` is None.
        """
        look = (
            partial(
                self.storage.hash_object, bucket, may_go_on=lambda: self.seconds_left() > _LAST_READ_SECONDS
            )
            if self.deep
            else partial(self.storage.describe_object, bucket)
        )
        return list(self.pool.map(lambda which: look(*which), wanted))

    def was_cut_short(self, looks: Iterable[StoredObject | None]) -> bool:
        """Tell whether time ran out over these looks, and whether another invocation can do better.

        It cannot where this one had all its time for them: they are then left as not compared.
        """
        unread = self.deep and any(look is not None and look.sha256 is None for look in looks)
        return unread and not self.is_fresh

    def tell(self, finding: Finding, repair: Callable[[], bool]) -> None:
        """Report a finding that had its second look; `repair` it first, if that was asked for and is safe."""
        fixed = self.fix and finding.fix is not None and repair()
        self.report.add(finding, fixed=fixed)


def package_in(key: str) -> UUID | None:
    """Return the package that a key `packages/{id}/…`, `uploads/{id}/…` or `bundles/{id}.zip` names, if any.

    Only the canonical form counts: nobody else's key is ever taken for one of ours.
    """
    kind, _, rest = key.partition("/")
    text = rest.removesuffix(".zip") if kind == "bundles" else rest.partition("/")[0]
    try:
        package_id = UUID(text)
    except ValueError:
        return None
    return package_id if str(package_id) == text else None
