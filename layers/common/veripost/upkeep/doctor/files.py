"""Extracted files: every object below `packages/` beside every row of `post_files`, in one walk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import batched
from typing import Final
from uuid import UUID

from veripost import queries
from veripost.models import Status
from veripost.queries import PackageState, RecordedFile
from veripost.storage import SINGLE_PUT_BYTES, ObjectVersion, StoredObject
from veripost.upkeep.doctor.findings import Finding, Fix, Kind
from veripost.upkeep.doctor.repairs import delete_versions, original_is_there, start_replay, summary_of
from veripost.upkeep.doctor.setting import Place, Setting, package_in

PREFIX: Final = "packages/"
MOST_GONE_PACKAGES: Final = 25
"""Of so many packages without any row one examination deletes the objects. More do not look like leftovers
but like a database that was restored from an older backup, and then the objects are what is right."""


def examine_files(setting: Setting, place: Place) -> Place | None:
    """Compare a page of objects and rows; return where to go on, or None at the end.

    Both sides come in the order of their keys, so a page of each is enough: what lies before the nearer of
    both ends has been seen from both sides. The place is the last key that was examined and the package that
    no later key comes before.
    """
    after, floor = place
    # Listed first, looked up second: a row that comes meanwhile has its object, and not the other way round.
    listed, more_objects = setting.storage.page_of_objects(PREFIX, after=after, limit=setting.config.page)
    with setting.engine.connect() as connection:
        rows = queries.recorded_files_after(
            connection, after, floor=UUID(floor) if floor else None, limit=setting.config.page
        )
    ends = [listed[-1].key] if more_objects else []
    ends += [rows[-1].key] if len(rows) == setting.config.page else []
    end = min(ends, default=None)
    recorded = {row.key: row for row in rows}
    objects = {entry.key for entry in listed}
    keys = sorted(key for key in objects | recorded.keys() if end is None or key <= end)
    states = setting.states({package_id for key in keys if (package_id := package_in(key))})
    for chunk in batched(keys, setting.chunk, strict=False):
        if not _examine(setting, chunk, recorded, states):
            return after, floor
        setting.report.objects += sum(key in objects for key in chunk)
        setting.report.rows += sum(key in recorded for key in chunk)
        after = chunk[-1]
        floor = str(max((p for key in chunk if (p := package_in(key))), default=floor))
        if setting.is_time_over:
            return after, floor
    return None if end is None else (after, floor)


def _examine(
    setting: Setting,
    keys: Sequence[str],
    recorded: Mapping[str, RecordedFile],
    states: Mapping[UUID, PackageState],
) -> bool:
    """Compare these keys, and look twice at what disagrees; False where the time was not enough."""
    packages = {key: package_in(key) for key in keys}
    idle = [key for key in keys if not _in_work(states, packages[key])]
    expected = [key for key in idle if key in recorded]
    looks = setting.look_at(setting.storage.packages, [(key, None) for key in expected])
    if setting.was_cut_short(looks):
        return False
    setting.is_fresh = False
    suspects = []
    for key, stored in zip(expected, looks, strict=True):
        if _disagreement(recorded[key], stored, deep=setting.deep) is not None:
            suspects.append(key)
        elif stored is not None and stored.sha256 is None:
            setting.report.files_not_compared += 1
    _look_again_at_rows(setting, suspects, recorded)
    _look_again_at_objects(setting, [key for key in idle if key not in recorded])
    return True


def _in_work(states: Mapping[UUID, PackageState], package_id: UUID | None) -> bool:
    return package_id is not None and package_id in states and states[package_id].in_work


def _disagreement(row: RecordedFile, stored: StoredObject | None, *, deep: bool) -> tuple[Kind, str] | None:
    if stored is None:
        return Kind.ROW_WITHOUT_OBJECT, f"the row says {row.size} bytes, SHA-256 {row.sha256}"
    if stored.size != row.size:
        return Kind.SIZE_MISMATCH, f"the row says {row.size} bytes, the object has {stored.size}"
    if stored.sha256 is not None:
        if stored.sha256 == row.sha256:
            return None
        return Kind.CHECKSUM_MISMATCH, f"SHA-256: the row says {row.sha256}, the object {stored.sha256}"
    if row.size <= SINGLE_PUT_BYTES and not deep:
        # Files of this size are stored in one piece, with their SHA-256: somebody else wrote this one.
        return Kind.CHECKSUM_MISMATCH, f"the object has no SHA-256, the row says {row.sha256}"
    return None


# -- the second look


def _look_again_at_rows(setting: Setting, keys: Sequence[str], recorded: Mapping[str, RecordedFile]) -> None:
    """Report those files that still disagree.

    The object is looked at between two looks at the row. Where both find the same row of a package that
    nobody works on, the object was the row's at that moment, or never.
    """
    if not keys:
        return
    looks = setting.look_at(setting.storage.packages, [(key, None) for key in keys])
    packages = {recorded[key].package_id for key in keys}
    with setting.engine.connect() as connection:
        rows = queries.recorded_files(connection, packages, keys)
    states = setting.states(packages)
    for key, stored in zip(keys, looks, strict=True):
        row = rows.get(key)
        if row is None or row.id != recorded[key].id:
            continue
        state = states.get(row.package_id)
        verdict = _disagreement(row, stored, deep=setting.deep)
        if state is None or state.in_work or verdict is None:
            continue
        kind, detail = verdict
        # Of a package that ended as `error`, the files of an earlier run are kept; only a person can tell
        # whether starting it anew makes it better.
        can_replay = state.status == Status.READY and original_is_there(setting, state)
        finding = Finding(
            kind, setting.storage.packages, key, state.id, detail, Fix.REPLAY if can_replay else None
        )
        setting.tell(finding, partial(start_replay, setting, state.id))


def _look_again_at_objects(setting: Setting, keys: Sequence[str]) -> None:
    """Report those objects that still have no row."""
    if not keys:
        return
    # Listed first, looked up second: what is listed and has no row by then is nobody's, and what a new job
    # writes meanwhile is not on the list, so it is never deleted.
    bucket = setting.storage.packages
    found = list(setting.pool.map(partial(setting.storage.versions_of, bucket), keys))
    packages = {package_id for key in keys if (package_id := package_in(key))}
    with setting.engine.connect() as connection:
        rows = queries.recorded_files(connection, packages, keys) if packages else {}
    states = setting.states(packages)
    gone: set[UUID] = set()
    for key, versions in zip(keys, found, strict=True):
        package_id = package_in(key)
        if not versions or key in rows or _in_work(states, package_id):
            continue
        fix, why = _may_delete(setting, package_id, versions, is_gone=package_id not in states, gone=gone)
        detail = f"{summary_of(versions)}; {why}"
        finding = Finding(Kind.OBJECT_WITHOUT_ROW, bucket, key, package_id, detail, fix)
        setting.tell(finding, partial(delete_versions, setting, versions))
    if setting.fix:
        setting.report.gone_packages_cleared += len(gone)


def _may_delete(
    setting: Setting,
    package_id: UUID | None,
    versions: Sequence[ObjectVersion],
    *,
    is_gone: bool,
    gone: set[UUID],
) -> tuple[Fix | None, str]:
    """Return whether these versions can go, and why or why not; a package that is gone is noted in `gone`."""
    if package_id is None:
        return None, "no package could have such a key"
    if not setting.older_than(setting.config.longest_run, (version.modified for version in versions)):
        return None, "too young to tell from what a late worker is writing"
    if not is_gone:
        return Fix.DELETE, "the package has no such file"
    if package_id not in gone and setting.report.gone_packages_cleared + len(gone) >= MOST_GONE_PACKAGES:
        return None, "there is no such package, and of too many: was the database restored from a backup?"
    gone.add(package_id)
    return Fix.DELETE, "there is no such package"
