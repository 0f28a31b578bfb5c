"""Every write over HTTP: a route parses, calls one function of `uploads`, and answers."""

from __future__ import annotations

from http import HTTPStatus

from aws_lambda_powertools.event_handler.api_gateway import Router

from veripost import uploads
from veripost.api import Answer, answer, body, make_handler, uploaded_file
from veripost.db import get_engine
from veripost.platforms.registry import DEFAULT_PLATFORM
from veripost.schemas import CreatePackage
from veripost.settings import get_settings
from veripost.storage import get_storage

router = Router()


@router.post("/v1/packages")
def create_package() -> Answer:
    settings = get_settings()
    accepted = uploads.announce(
        body(router, CreatePackage),
        engine=get_engine(settings),
        storage=get_storage(settings),
        config=uploads.config_of(settings),
    )
    return answer(accepted, HTTPStatus.ACCEPTED)


@router.post("/v1/packages/upload")
@router.post("/v1/posts/upload")
def upload_package() -> Answer:
    settings = get_settings()
    file = uploaded_file(router)
    accepted = uploads.upload(
        file.filename,
        file.fields.get("platform", DEFAULT_PLATFORM),
        file.data,
        engine=get_engine(settings),
        storage=get_storage(settings),
        config=uploads.config_of(settings),
    )
    return answer(accepted, HTTPStatus.ACCEPTED)


handler = make_handler(router, get_settings)
