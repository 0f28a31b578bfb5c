"""Taking a package away: its state first, then its objects, its row last: whoever comes next can go on."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Engine

from veripost import queries
from veripost.errors import Conflict
from veripost.queries import Deletion
from veripost.storage import Storage
from veripost.telemetry import logger


class PackageBusy(Conflict):
    """A worker holds the package; `retry_after` is in seconds."""

    code = "package_busy"
    message = "This package is being worked on. Please try again in a moment."


def delete_package(engine: Engine, storage: Storage, package_id: UUID, *, longest_run: timedelta) -> bool:
    """Remove a package, its files and its own original; True when nothing of it is left.

    False means that the rest is done by the sweeper: a worker that lost its lease may still write below the
    package's prefix, for `longest_run` at most. Safe to repeat and to interrupt at any point.

    Raises
    ------
    PackageBusy
        A worker's lease lives.
    """
    try:
        with engine.begin() as connection:
            deletion = queries.begin_deletion(connection, package_id, longest_run=longest_run)
    except queries.Busy as busy:
        raise PackageBusy(
            detail="a worker holds the job's lease", retry_after=max(1, round(busy.seconds))
        ) from busy
    if deletion is None:
        return True
    return go_on(engine, storage, deletion)


def go_on(engine: Engine, storage: Storage, deletion: Deletion) -> bool:
    """Remove the objects of a package that is being deleted and, if nobody can write any more, its row."""
    removed = storage.delete_prefix(queries.package_prefix(deletion.package_id))
    removed += storage.delete_bundle(deletion.package_id)
    if deletion.source.version is not None:
        storage.delete_original(deletion.source.key, deletion.source.version)
    # What a late worker writes after this listing is found by the next one: a row goes only once it is due,
    # and it was due before the listing began.
    if not deletion.due:
        return False
    with engine.begin() as connection:
        gone = queries.finish_deletion(connection, deletion.package_id)
    logger.info("package deleted", extra={"package_id": str(deletion.package_id), "objects": removed})
    return gone
