"""Originals: every object version in the incoming bucket beside its package, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import batched
from typing import Final
from uuid import UUID

from veripost import queries
from veripost.ingest_queue import LandedObject
from veripost.models import Status
from veripost.queries import PackageState
from veripost.storage import ObjectVersion, StoredObject, upload_owner
from veripost.upkeep.doctor.findings import Finding, Fix, Kind
from veripost.upkeep.doctor.repairs import announce
from veripost.upkeep.doctor.setting import Place, Setting

DROPS: Final = "drops/"
UPLOADS: Final = "uploads/"
_PAGE: Final = 250  # each of which may have to be looked at, and announced


def examine_originals(setting: Setting, place: Place, *, prefix: str) -> Place | None:
    """Look for the package of every version on a page of the incoming bucket; return where to go on.

    What landed a moment ago is left to its event, and folder markers and delete markers are no originals.
    """
    page = next(
        setting.storage.list_versions(
            setting.storage.incoming, prefix, after=place, limit=min(setting.config.page, _PAGE)
        )
    )
    settled = [
        version
        for version in page.versions
        if version.size is not None
        and not (version.key.endswith("/") and version.size == 0)
        and setting.older_than(setting.config.stale, [version.modified])
    ]
    unknown = _without_row(setting, settled)
    if unknown:
        _look_again_at_originals(setting, unknown)
    setting.report.originals += len(page.versions)
    setting.is_fresh = False
    return page.following if page.following[0] else None


def _without_row(setting: Setting, versions: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    if not versions:
        return []
    with setting.engine.connect() as connection:
        known = queries.known_versions(
            connection, setting.storage.incoming, [(version.key, version.version) for version in versions]
        )
    return [version for version in versions if (version.key, version.version) not in known]


def _look_again_at_originals(setting: Setting, unknown: Sequence[ObjectVersion]) -> None:
    """Report those originals that are still there and still have no row."""
    bucket = setting.storage.incoming
    sizes = setting.pool.map(
        lambda version: setting.storage.original_size(bucket, version.key, version.version), unknown
    )
    there = [version for version, size in zip(unknown, sizes, strict=True) if size is not None]
    still_unknown = _without_row(setting, there)
    states = setting.states({owner for version in still_unknown if (owner := upload_owner(version.key))})
    for version in still_unknown:
        owner = upload_owner(version.key)
        size = version.size or 0
        detail = f"version {version.version}, {size} bytes, landed {version.modified:%Y-%m-%d %H:%M:%S %Z}"
        fix: Fix | None = Fix.ANNOUNCE
        if version.key.startswith(UPLOADS) and not (owner in states and _awaits_it(states[owner])):
            # Ingestion discards an upload that no package waits for. That is not the doctor's to start: after
            # the database was restored from a backup, it would be the last copy.
            fix = None
            detail += "; no package waits for it"
        finding = Finding(Kind.ORIGINAL_WITHOUT_ROW, bucket, version.key, owner, detail, fix)
        landed = LandedObject(bucket, version.key, version.version, size)
        setting.tell(finding, partial(announce, setting, landed))


def _awaits_it(package: PackageState) -> bool:
    return package.source.version is None and package.status != Status.DELETING


# -- and back


def examine_packages(setting: Setting, place: Place) -> Place | None:
    """Look for the originals of a page of packages, and for those that are stuck; return where to go on.

    The place is the last package that was examined.
    """
    after = place[0]
    with setting.engine.connect() as connection:
        packages = queries.package_states_after(
            connection,
            UUID(after) if after else None,
            patience=setting.config.patience,
            limit=setting.config.page,
        )
    for chunk in batched(packages, setting.chunk, strict=False):
        if not _examine(setting, chunk):
            return after, ""
        after = str(chunk[-1].id)
        if setting.is_time_over:
            return after, ""
    return (after, "") if len(packages) == setting.config.page else None


def _examine(setting: Setting, packages: Sequence[PackageState]) -> bool:
    """Look for the originals of these packages; False where the time was not enough."""
    idle = [package for package in packages if not package.in_work]
    landed = [package for package in idle if package.source.version is not None]
    ours = [package for package in landed if package.source.bucket == setting.storage.incoming]
    looks = _look(setting, ours)
    if setting.was_cut_short(looks):
        return False
    setting.is_fresh = False
    suspects = []
    for package, stored in zip(ours, looks, strict=True):
        if _disagreement(package, stored) is not None:
            suspects.append(package)
        elif package.sha256 is not None and stored is not None and stored.sha256 is None:
            setting.report.originals_not_compared += 1
    setting.report.originals_not_compared += len(landed) - len(ours)
    setting.report.packages += len(packages)
    setting.report.left_alone += len(packages) - len(idle)
    _look_again_at_packages(setting, suspects)
    _look_again_at_stuck(setting, [package.id for package in packages if package.stuck])
    return True


def _look(setting: Setting, packages: Sequence[PackageState]) -> list[StoredObject | None]:
    wanted = [(package.source.key, package.source.version) for package in packages]
    return setting.look_at(setting.storage.incoming, wanted)


def _disagreement(package: PackageState, stored: StoredObject | None) -> tuple[Kind, str] | None:
    version = f"version {package.source.version}"
    if stored is None:
        return Kind.ROW_WITHOUT_ORIGINAL, f"{version}; the package is {package.status}"
    # What was refused may have been read in part, so only the size of a ready package is the object's.
    if package.status == Status.READY and package.size != stored.size:
        sizes = f"the row says {package.size} bytes, the object has {stored.size}"
        return Kind.SIZE_MISMATCH, f"{version}: {sizes}"
    if None not in {package.sha256, stored.sha256} and package.sha256 != stored.sha256:
        hashes = f"the row says {package.sha256}, the object {stored.sha256}"
        return Kind.CHECKSUM_MISMATCH, f"{version}, SHA-256: {hashes}"
    return None


def _look_again_at_packages(setting: Setting, packages: Sequence[PackageState]) -> None:
    """Report packages whose original still disagrees; there is no fix, for nothing brings it back."""
    if not packages:
        return
    looks = _look(setting, packages)
    states = setting.states({package.id for package in packages})
    for package, stored in zip(packages, looks, strict=True):
        state = states.get(package.id)
        if state is None or state.in_work or state.source != package.source:
            continue
        verdict = _disagreement(state, stored)
        if verdict is not None:
            kind, detail = verdict
            setting.report.add(
                Finding(kind, setting.storage.incoming, state.source.key, state.id, detail, None), fixed=False
            )


def _look_again_at_stuck(setting: Setting, package_ids: Sequence[UUID]) -> None:
    """Report packages that are still stuck: the sweeper should have ended them, so a person must look."""
    for state in setting.states(package_ids).values():
        if state.stuck:
            detail = f"it has been {state.status} for longer than {setting.config.patience}"
            setting.report.add(
                Finding(Kind.STUCK_PACKAGE, state.source.bucket, state.source.key, state.id, detail, None),
                fixed=False,
            )
