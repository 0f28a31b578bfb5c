"""Leftovers: uploads of files that nobody completed, and bundles of packages that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

from veripost.storage import UnfinishedUpload
from veripost.upkeep.doctor.findings import Finding, Fix, Kind
from veripost.upkeep.doctor.repairs import abandon, delete_versions, summary_of
from veripost.upkeep.doctor.setting import Place, Setting, package_in

FILES: Final = "packages/"
BUNDLES: Final = "bundles/"
_PAGE: Final = 128  # each of which may have to be looked at, and given up


def examine_uploads(setting: Setting, place: Place) -> Place | None:
    """Look for unfinished uploads of packages that nobody works on; return where to go on."""
    limit = min(setting.config.page, _PAGE)
    uploads, following = setting.storage.page_of_uploads(FILES, after=place, limit=limit)
    old = [u for u in uploads if setting.older_than(setting.config.patience, [u.started])]
    suspects = _of_idle_packages(setting, old)
    if suspects:
        _look_again_at_uploads(setting, suspects)
    setting.is_fresh = False
    return following if following[0] else None


def _of_idle_packages(setting: Setting, uploads: Sequence[UnfinishedUpload]) -> list[UnfinishedUpload]:
    states = setting.states({owner for upload in uploads if (owner := package_in(upload.key))})
    in_work: set[UUID | None] = {state.id for state in states.values() if state.in_work}
    return [upload for upload in uploads if package_in(upload.key) not in in_work]


def _look_again_at_uploads(setting: Setting, suspects: Sequence[UnfinishedUpload]) -> None:
    # Listed first, looked up second, as everywhere where something is given up.
    keys = {upload.key for upload in suspects}
    lists = setting.pool.map(setting.storage.list_uploads, keys)
    there = {upload.upload_id for found in lists for upload in found}
    for upload in _of_idle_packages(setting, [u for u in suspects if u.upload_id in there]):
        owner = package_in(upload.key)
        detail = f"upload {upload.upload_id}, begun {upload.started:%Y-%m-%d %H:%M:%S %Z}"
        fix = None if owner is None else Fix.ABORT
        finding = Finding(Kind.UNFINISHED_UPLOAD, setting.storage.packages, upload.key, owner, detail, fix)
        setting.tell(finding, partial(abandon, setting, upload))


def examine_bundles(setting: Setting, place: Place) -> Place | None:
    """Look for bundles without a package; return where to go on."""
    limit = min(setting.config.page, _PAGE)
    listed, more = setting.storage.page_of_objects(BUNDLES, after=place[0], limit=limit)
    suspects = _without_package(setting, [entry.key for entry in listed])
    if suspects:
        _look_again_at_bundles(setting, suspects)
    setting.report.objects += len(listed)
    setting.is_fresh = False
    return (listed[-1].key, "") if more else None


def _without_package(setting: Setting, keys: Sequence[str]) -> list[str]:
    states = setting.states({owner for key in keys if (owner := package_in(key))})
    return [key for key in keys if package_in(key) not in states]


def _look_again_at_bundles(setting: Setting, suspects: Sequence[str]) -> None:
    bucket = setting.storage.packages
    found = dict(
        zip(suspects, setting.pool.map(partial(setting.storage.versions_of, bucket), suspects), strict=True)
    )
    for key in _without_package(setting, [key for key, versions in found.items() if versions]):
        versions, owner = found[key], package_in(key)
        detail = summary_of(versions)
        fix: Fix | None = None
        if owner is None:
            detail += "; no package could have such a key"
        elif not setting.older_than(setting.config.longest_run, (version.modified for version in versions)):
            detail += "; too young to tell from what is being written"
        else:
            fix = Fix.DELETE  # a bundle is made anew whenever somebody asks for it
        finding = Finding(Kind.BUNDLE_WITHOUT_PACKAGE, bucket, key, owner, detail, fix)
        setting.tell(finding, partial(delete_versions, setting, versions))
