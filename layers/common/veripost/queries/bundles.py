"""Bundles: which packages have one as a ZIP, and who builds it.

A bundle is of one outcome of its package, the one that was `ready` at `package_ready_at`: a package that was
replayed since has none. Whoever builds raises `attempt`, and every later write checks it, as with jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, and_, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_update

from veripost.models import BundleStatus, Status, bundles, post_files, post_packages


@dataclass(frozen=True, slots=True)
class BundleClaim:
    """A builder's right to write: valid while nobody raised `attempt` since."""

    package_id: UUID
    attempt: int


def get_bundle(connection: Connection, package_id: UUID) -> RowMapping | None:
    """Return a package's `name` and `status` and what there is of its bundle; None without such a package.

    `bundle` is the state of the bundle of the package's present outcome, or None where there is none;
    `under_way` tells whether a state of `building` is to be believed.
    """
    current = and_(
        bundles.c.package_id == post_packages.c.id, bundles.c.package_ready_at == post_packages.c.ready_at
    )
    statement = (
        select(
            post_packages.c.name,
            post_packages.c.status,
            bundles.c.status.label("bundle"),
            bundles.c.object_version,
            bundles.c.error_detail,
            (bundles.c.lease_until > func.now()).label("under_way"),
        )
        .select_from(post_packages.outerjoin(bundles, current))
        .where(post_packages.c.id == package_id)
    )
    return connection.execute(statement).mappings().first()


def start_bundle(
    connection: Connection, package_id: UUID, *, patience: timedelta, gone: str | None = None
) -> BundleClaim | None:
    """Record that a bundle of a `ready` package is to be built; None where there is one, or one is under way.

    After `patience` without a builder it may be ordered again. `gone` is the version of a bundle that is in
    the records and no longer in the store.
    """
    package = (
        select(post_packages.c.id, post_packages.c.ready_at, func.now() + patience)
        .where(post_packages.c.id == package_id, post_packages.c.status == Status.READY)
        .with_for_update(read=True, key_share=True)
    )
    insert = insert_or_update(bundles).from_select(["package_id", "package_ready_at", "lease_until"], package)
    under_way = and_(bundles.c.status == BundleStatus.BUILDING, bundles.c.lease_until > func.now())
    there = and_(
        bundles.c.status == BundleStatus.BUILT,
        bundles.c.object_version.is_distinct_from(literal(gone, bundles.c.object_version.type)),
    )
    attempt = connection.scalar(
        insert.on_conflict_do_update(
            index_elements=["package_id"],
            set_={
                "package_ready_at": insert.excluded.package_ready_at,
                "status": BundleStatus.BUILDING,
                "attempt": bundles.c.attempt + 1,
                "lease_until": insert.excluded.lease_until,
                "object_version": None,
                "size_bytes": None,
                "error_detail": None,
                "created_at": func.now(),
                "finished_at": None,
            },
            where=or_(
                bundles.c.package_ready_at != insert.excluded.package_ready_at,
                ~or_(under_way, there),
            ),
        ).returning(bundles.c.attempt)
    )
    return None if attempt is None else BundleClaim(package_id, attempt)


def claim_bundle(connection: Connection, package_id: UUID, *, lease: timedelta) -> BundleClaim | None:
    """Take over the building of a bundle; None where none is to be built of the package as it is now."""
    attempt = connection.scalar(
        update(bundles)
        .where(
            bundles.c.package_id == package_id,
            bundles.c.status == BundleStatus.BUILDING,
            post_packages.c.id == package_id,
            post_packages.c.status == Status.READY,
            post_packages.c.ready_at == bundles.c.package_ready_at,
        )
        .values(attempt=bundles.c.attempt + 1, lease_until=func.now() + lease)
        .returning(bundles.c.attempt)
    )
    return None if attempt is None else BundleClaim(package_id, attempt)


def bundle_files(connection: Connection, package_id: UUID) -> Sequence[RowMapping]:
    """Return `filename`, `s3_key`, `size_bytes` and `content_hash` of every file of a package, by name."""
    statement = (
        select(post_files.c.filename, post_files.c.s3_key, post_files.c.size_bytes, post_files.c.content_hash)
        .where(post_files.c.package_id == package_id)
        .order_by(post_files.c.filename.collate("C"))
    )
    return connection.execute(statement).mappings().all()


def finish_bundle(connection: Connection, claim: BundleClaim, *, version: str, size_bytes: int) -> bool:
    """Record the object that a bundle has become; False (and nothing written) when `claim` has been lost."""
    return _end(connection, claim, status=BundleStatus.BUILT, object_version=version, size_bytes=size_bytes)


def fail_bundle(connection: Connection, claim: BundleClaim, *, detail: str) -> bool:
    """Record why a bundle cannot be built; False (and nothing written) when `claim` has been lost."""
    return _end(connection, claim, status=BundleStatus.FAILED, error_detail=detail)


def _end(connection: Connection, claim: BundleClaim, **values: Any) -> bool:
    ended = connection.execute(
        update(bundles).where(_holding(claim)).values(lease_until=None, finished_at=func.now(), **values)
    )
    return ended.rowcount == 1


def await_builder(connection: Connection, claim: BundleClaim, *, patience: timedelta) -> None:
    """Leave a bundle to whoever is started next, and let it be ordered again after `patience`."""
    connection.execute(update(bundles).where(_holding(claim)).values(lease_until=func.now() + patience))


def _holding(claim: BundleClaim) -> Any:
    return and_(
        bundles.c.package_id == claim.package_id,
        bundles.c.attempt == claim.attempt,
        bundles.c.status == BundleStatus.BUILDING,
    )
