"""Ordering a package as one ZIP, and fetching it once it is built."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Engine, RowMapping

from veripost import queries
from veripost.errors import BundleFailed, Conflict, NotFound, Unavailable
from veripost.models import BundleStatus, Status
from veripost.settings import Settings
from veripost.storage import Storage
from veripost.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

POLL_SECONDS = 2
_PATIENCE = timedelta(minutes=15)  # as long as the template lets Lambda try to begin (MaximumEventAge)


def order(engine: Engine, storage: Storage, settings: Settings, package_id: UUID) -> BundleStatus:
    """See that a package's bundle is being built, unless it is or has been; return how far it is.

    Raises
    ------
    NotFound
        There is no such package.
    Conflict
        It is not `ready`.
    Unavailable
        The function that builds could not be started.
    """
    with engine.connect() as connection:
        found = _ready(queries.get_bundle(connection, package_id), package_id)
    gone = None
    if found["bundle"] == BundleStatus.BUILT:
        if storage.has_bundle(package_id, found["object_version"]):
            return BundleStatus.BUILT
        gone = found["object_version"]  # bundles are kept for some days only
    with engine.begin() as connection:
        claim = queries.start_bundle(connection, package_id, patience=_PATIENCE, gone=gone)
    if claim is None:  # somebody else was faster
        return BundleStatus.BUILDING
    try:
        _start_builder(package_id, settings)
    except Unavailable as error:
        with engine.begin() as connection:
            queries.fail_bundle(connection, claim, detail=f"not started: {error.detail}")
        raise
    logger.info("bundle ordered", extra={"package_id": str(package_id)})
    return BundleStatus.BUILDING


def url(engine: Engine, storage: Storage, package_id: UUID, *, seconds: int) -> str | None:
    """Return a short-lived URL of a package's bundle; None while it is being built.

    Raises
    ------
    NotFound
        There is no such package, or nobody has ordered its bundle since it became what it is.
    Conflict
        It is not `ready`.
    BundleFailed
        The bundle could not be built.
    """
    with engine.connect() as connection:
        found = _ready(queries.get_bundle(connection, package_id), package_id)
    if found["bundle"] == BundleStatus.BUILDING and found["under_way"]:
        return None
    if found["bundle"] in {BundleStatus.BUILDING, BundleStatus.FAILED}:
        raise BundleFailed(detail=found["error_detail"] or "its builder ended without a word")
    version = found["object_version"]
    if found["bundle"] is None or not storage.has_bundle(package_id, version):
        raise NotFound(
            "Nobody has asked for this package as a ZIP yet, or it is no longer kept. Ask with a POST first.",
            code="bundle_not_found",
            detail=f"package {package_id}",
        )
    return storage.presign_bundle(package_id, version, filename=f"{found['name']}.zip", seconds=seconds)


def _ready(found: RowMapping | None, package_id: UUID) -> RowMapping:
    if found is None:
        raise NotFound("There is no such package.", code="package_not_found", detail=f"package {package_id}")
    if found["status"] != Status.READY:
        raise Conflict(
            "Only a package that is ready can be downloaded as a whole.",
            code="not_ready",
            detail=f"status {found['status']}",
        )
    return found


@cache
def _client() -> LambdaClient:
    import boto3
    from botocore.config import Config

    return boto3.client("lambda", config=Config(connect_timeout=3, read_timeout=10))


def _start_builder(package_id: UUID, settings: Settings) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _client().invoke(
            FunctionName=settings.bundle_function,
            InvocationType="Event",
            Payload=json.dumps({"package_id": str(package_id)}).encode(),
        )
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(detail=f"the function that builds bundles: {error}") from error
