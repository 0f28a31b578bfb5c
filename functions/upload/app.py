"""Every write over HTTP: a route parses, calls one function of `uploads`, and answers."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

from aws_lambda_powertools.event_handler.api_gateway import Router

from veripost import keys, uploads
from veripost.api import (
    Answer,
    answer,
    body,
    caller,
    identifier,
    make_handler,
    needs,
    no_content,
    optional_body,
    query,
    secret,
    uploaded_file,
)
from veripost.api_key import Scope
from veripost.bundles import ordering
from veripost.db import get_engine
from veripost.models import DoctorStatus, Status
from veripost.platforms.registry import DEFAULT_PLATFORM
from veripost.queries import ReplayFilter
from veripost.schemas import (
    Accepted,
    BundleView,
    CheckPackage,
    CreateKey,
    CreatePackage,
    DeletionView,
    DoctorAccepted,
    Duplicate,
    HowToStore,
    OrderDoctor,
    ReplayMany,
    Replays,
)
from veripost.settings import get_settings
from veripost.storage import get_storage
from veripost.upkeep import deletion, doctor, replay

router = Router()


@router.post("/v1/packages")
@needs(Scope.WRITE)
def create_package() -> Answer:
    settings = get_settings()
    accepted = uploads.announce(
        body(router, CreatePackage),
        allow_duplicate=query(router, HowToStore).allow_duplicate,
        engine=get_engine(settings),
        storage=get_storage(settings),
        config=uploads.config_of(settings),
        created_by=caller(router).client_name,
    )
    return answer(accepted, _status_of(accepted))


@router.post("/v1/packages/upload")
@router.post("/v1/posts/upload")
@needs(Scope.WRITE)
def upload_package() -> Answer:
    settings = get_settings()
    file = uploaded_file(router)
    accepted = uploads.upload(
        file.filename,
        file.fields.get("platform", DEFAULT_PLATFORM),
        file.data,
        allow_duplicate=query(router, HowToStore).allow_duplicate,
        engine=get_engine(settings),
        storage=get_storage(settings),
        config=uploads.config_of(settings),
        created_by=caller(router).client_name,
    )
    return answer(accepted, _status_of(accepted))


def _status_of(accepted: Accepted | Duplicate) -> HTTPStatus:
    return HTTPStatus.OK if isinstance(accepted, Duplicate) else HTTPStatus.ACCEPTED


@router.post("/v1/packages/check")
@needs(Scope.WRITE)
def check_package() -> Answer:
    config = uploads.config_of(get_settings())
    return answer(uploads.check(body(router, CheckPackage), config=config))


@router.delete("/v1/packages/<id>")
@needs(Scope.WRITE)
def delete_package(id: str) -> Answer:
    settings = get_settings()
    package_id = identifier(id)
    complete = deletion.delete_package(
        get_engine(settings),
        get_storage(settings),
        package_id,
        longest_run=timedelta(seconds=settings.ingest_timeout_seconds),
    )
    if complete:
        return no_content()
    return answer(DeletionView(package_id=package_id, status=Status.DELETING), HTTPStatus.ACCEPTED)


@router.post("/v1/packages/<id>/replay")
@needs(Scope.WRITE)
def replay_package(id: str) -> Answer:
    settings = get_settings()
    replayed = replay.replay(get_engine(settings), get_storage(settings), settings, identifier(id))
    return answer(
        Accepted(package_id=replayed.package_id, job_id=replayed.job_id, status=Status.PENDING),
        HTTPStatus.ACCEPTED,
    )


@router.post("/v1/packages/<id>/bundle")
@needs(Scope.READ)
def order_bundle(id: str) -> Answer:
    settings = get_settings()
    package_id = identifier(id)
    status = ordering.order(get_engine(settings), get_storage(settings), settings, package_id)
    return answer(BundleView(package_id=package_id, status=status), HTTPStatus.ACCEPTED)


@router.post("/v1/replays")
@needs(Scope.ADMIN)
def replay_packages() -> Answer:
    settings = get_settings()
    request = body(router, ReplayMany)
    chosen = ReplayFilter(**request.model_dump(exclude={"limit"}))
    started = replay.replay_all(get_engine(settings), settings, chosen, limit=request.limit)
    return answer(Replays(packages=started, count=len(started)), HTTPStatus.ACCEPTED)


@router.post("/v1/keys")
@needs(Scope.ADMIN)
def create_key() -> Answer:
    return secret(keys.mint(get_engine(get_settings()), body(router, CreateKey)), HTTPStatus.CREATED)


@router.delete("/v1/keys/<id>")
@needs(Scope.ADMIN)
def revoke_key(id: str) -> Answer:
    keys.revoke(get_engine(get_settings()), identifier(id, kind="key"))
    return no_content()


@router.post("/v1/doctor")
@needs(Scope.ADMIN)
def order_doctor() -> Answer:
    wanted = optional_body(router, OrderDoctor)
    doctor_id = doctor.order(get_engine(get_settings()), fix=wanted.fix, deep=wanted.deep)
    return answer(DoctorAccepted(doctor_id=doctor_id, status=DoctorStatus.QUEUED), HTTPStatus.ACCEPTED)


handler = make_handler(router, get_settings)
