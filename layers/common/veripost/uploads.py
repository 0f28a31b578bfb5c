"""The doors over HTTP: announcing a package, uploading a small one in the same call, asking beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Engine

from veripost import queries
from veripost.archive import BytesSource, Limits, check_listing, inspect, merge
from veripost.errors import Problem, TooLarge, has_errors, refusal
from veripost.models import Status, Trigger
from veripost.platforms import registry, rules
from veripost.queries import Source
from veripost.schemas import (
    Accepted,
    AcceptedWithForm,
    CheckPackage,
    CheckView,
    CreatePackage,
    Duplicate,
    ProblemView,
    UploadForm,
)
from veripost.settings import Settings
from veripost.storage import ORIGINAL_NAME, Storage

DIRECT_UPLOAD_BYTES = 4 << 20  # a Lambda's request is 6 MB at most, and base64 takes a third of it


@dataclass(frozen=True, slots=True)
class UploadConfig:
    """What the upload doors need of the settings."""

    limits: Limits
    url_seconds: int
    extra_extensions: tuple[str, ...]


def config_of(settings: Settings) -> UploadConfig:
    """Return the upload doors' part of `settings`."""
    return UploadConfig(
        limits=Limits(**settings.archive_limits),
        url_seconds=settings.upload_url_seconds,
        extra_extensions=settings.extra_extensions,
    )


def announce(
    request: CreatePackage,
    *,
    allow_duplicate: bool,
    engine: Engine,
    storage: Storage,
    config: UploadConfig,
    created_by: str | None = None,
) -> AcceptedWithForm | Duplicate:
    """Record a package whose bytes are still to come, and say where to send them.

    Where the platform has a `ready` package with the SHA-256 that the request names, only that one is told,
    unless `allow_duplicate` is true.

    Raises
    ------
    TooLarge
        The archive would be larger than any that is accepted.
    PackageRefused
        There is no such platform.
    """
    if request.size_bytes > config.limits.archive_bytes:
        raise TooLarge(
            f"The archive is larger than the {config.limits.archive_bytes >> 20} MiB that VeriPost accepts.",
            detail=f"size_bytes {request.size_bytes} is above {config.limits.archive_bytes}",
        )
    _platform(request.platform, config)
    if request.sha256 is not None and not allow_duplicate:
        there = _find(engine, request.sha256, request.platform)
        if there is not None:
            return there
    package_id = uuid4()
    key = f"uploads/{package_id}/{ORIGINAL_NAME}"
    with engine.begin() as connection:
        run_id = queries.add_package(
            connection,
            package_id=package_id,
            name=rules.stem_of(request.filename),
            platform=request.platform,
            source=Source(storage.incoming, key, None),
            trigger=Trigger.PRESIGNED,
            size_bytes=request.size_bytes,
            created_by=created_by,
        )
    form = storage.presign_upload(
        key, max_bytes=request.size_bytes, seconds=config.url_seconds, sha256=request.sha256
    )
    return AcceptedWithForm(
        package_id=package_id,
        job_id=run_id,
        status=Status.PENDING,
        upload=UploadForm(
            url=form.url,
            fields=dict(form.fields),
            expires_at=datetime.now(UTC) + timedelta(seconds=config.url_seconds),
            max_bytes=request.size_bytes,
        ),
    )


def upload(
    filename: str,
    platform: str,
    data: bytes,
    *,
    allow_duplicate: bool,
    engine: Engine,
    storage: Storage,
    config: UploadConfig,
    created_by: str | None = None,
) -> Accepted | Duplicate:
    """Check a small archive wholly, record it and store it; ingestion takes it from there.

    A refusal says exactly what ingestion would say, and leaves neither a row nor an object. Nor does an
    archive that is a `ready` package of the platform already, unless `allow_duplicate` is true.

    Raises
    ------
    TooLarge
        Above 4 MiB; the message names the presigned way.
    NotAZip, PackageRefused
        The archive cannot be accepted; every problem is attached.
    """
    if len(data) > DIRECT_UPLOAD_BYTES:
        raise TooLarge(
            "This file is too large to send in one call. Ask POST /v1/packages for an upload URL instead.",
            detail=f"{len(data)} bytes is above {DIRECT_UPLOAD_BYTES}",
        )
    rules_of = _platform(platform, config)
    sha256 = hashlib.sha256(data).hexdigest()
    if not allow_duplicate:
        there = _find(engine, sha256, platform)
        if there is not None:
            return there
    name = _check(data, rules_of, config)
    package_id = uuid4()
    key = f"uploads/{package_id}/{ORIGINAL_NAME}"
    with engine.begin() as connection:
        run_id = queries.add_package(
            connection,
            package_id=package_id,
            name=name or rules.stem_of(filename),
            platform=platform,
            source=Source(storage.incoming, key, None),
            trigger=Trigger.API,
            size_bytes=len(data),
            created_by=created_by,
        )
    try:
        storage.put_original(key, data, sha256)
    except BaseException:
        # If the object landed all the same, its event finds no row and ingestion deletes it.
        with engine.begin() as connection:
            queries.remove_unstarted_package(connection, package_id)
        raise
    return Accepted(package_id=package_id, job_id=run_id, status=Status.PENDING)


def check(request: CheckPackage, *, config: UploadConfig) -> CheckView:
    """Say what would be found in a ZIP of these files, as far as their names and sizes tell.

    The very rules of ingestion, so what is refused here would be refused there, in the same words. What is
    accepted here may still be no sound ZIP. Nothing is recorded.
    """
    platform = registry.find(request.platform, config.extra_extensions)
    if platform is None:
        return _verdict([rules.unknown_platform(request.platform)], None)
    rows = [(file.name, file.size_bytes) for file in request.files]
    listing = check_listing(rows, config.limits)
    if not listing.readable:
        return _verdict(listing.problems, None)
    selection = rules.select(platform, rows)
    return _verdict(merge(listing, selection.problems, config.limits), selection.name)


def _verdict(problems: Sequence[Problem], name: str | None) -> CheckView:
    return CheckView(
        accepted=not has_errors(problems),
        name=name,
        problems=[ProblemView.model_validate(problem) for problem in problems],
    )


def _find(engine: Engine, sha256: str, platform: str) -> Duplicate | None:
    with engine.connect() as connection:
        found = queries.find_ready(connection, content_hash=sha256, platform=platform)
    return None if found is None else Duplicate(package_id=found, duplicate_of=found, status=Status.READY)


def _platform(key: str, config: UploadConfig) -> registry.Platform:
    platform = registry.find(key, config.extra_extensions)
    if platform is None:
        raise refusal([rules.unknown_platform(key)])
    return platform


def _check(data: bytes, platform: registry.Platform, config: UploadConfig) -> str | None:
    """Raise every reason to refuse `data`; return the name that its files give the package."""
    report = inspect(BytesSource(data), config.limits)
    if not report.directory.readable:
        raise refusal(report.problems)
    rows = [(member.name, member.size) for member in report.directory.members]
    selection = rules.select(platform, rows)
    in_members = (problem for member in report.members for problem in member.problems)
    problems = merge(report.directory, (*selection.problems, *in_members), config.limits)
    if has_errors(problems):
        raise refusal(problems)
    return selection.name
