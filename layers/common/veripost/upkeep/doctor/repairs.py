"""What --fix does: only what loses nothing that anybody could still need."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from veripost import ingest_queue
from veripost.errors import Conflict, NotFound
from veripost.ingest_queue import LandedObject
from veripost.queries import PackageState
from veripost.storage import ObjectVersion, UnfinishedUpload
from veripost.upkeep import replay
from veripost.upkeep.doctor.setting import Setting


def summary_of(versions: Sequence[ObjectVersion]) -> str:
    """Say how much would go with these versions."""
    size = sum(version.size or 0 for version in versions)
    return f"{len(versions)} {'version' if len(versions) == 1 else 'versions'} with {size} bytes"


def delete_versions(setting: Setting, versions: Sequence[ObjectVersion]) -> bool:
    """Remove exactly these versions from the packages bucket."""
    setting.storage.delete_versions(setting.storage.packages, versions)
    return True


def abandon(setting: Setting, upload: UnfinishedUpload) -> bool:
    """Give an unfinished upload up, which frees its parts."""
    setting.storage.abandon([upload])
    return True


def announce(setting: Setting, original: LandedObject) -> bool:
    """Put an original into the queue once more; what to do about it is for ingestion to decide."""
    ingest_queue.send([original], settings=setting.settings)
    return True


def start_replay(setting: Setting, package_id: UUID) -> bool:
    """Process a package again, which stores its files anew; False where its state forbids it by now."""
    if package_id in setting.replayed:
        return True  # one replay mends all of its files
    try:
        replay.replay(setting.engine, setting.storage, setting.settings, package_id)
    except (Conflict, NotFound):
        return False
    setting.replayed.add(package_id)
    return True


def original_is_there(setting: Setting, package: PackageState) -> bool:
    """Tell whether a package could be processed again; each is looked up once."""
    if package.id not in setting.originals:
        bucket, key, version = package.source.bucket, package.source.key, package.source.version
        setting.originals[package.id] = (
            bucket == setting.storage.incoming
            and version is not None
            and setting.storage.original_size(bucket, key, version) is not None
        )
    return setting.originals[package.id]
