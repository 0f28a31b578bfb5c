"""Every read and download: a route parses, calls one function of `catalog`, and answers."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from aws_lambda_powertools.event_handler.api_gateway import Router

from veripost import catalog
from veripost.api import (
    Answer,
    answer,
    description,
    description_page,
    identifier,
    make_handler,
    page_of,
    redirect,
)
from veripost.db import get_engine
from veripost.settings import get_settings
from veripost.storage import get_storage

router = Router()
_DESCRIPTION = Path(__file__).with_name("openapi.json")  # written by veripost.openapi


@router.get("/v1/health")
def health() -> Answer:
    settings = get_settings()
    found = catalog.health(get_engine(settings), get_storage(settings))
    return answer(found, HTTPStatus.OK if found.status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/v1/openapi.json")
def get_description() -> Answer:
    return description(_DESCRIPTION.read_text())


@router.get("/v1/docs")
def get_description_page() -> Answer:
    return description_page(_DESCRIPTION.read_text())


@router.get("/v1/packages")
@router.get("/v1/posts")
def list_packages() -> Answer:
    limit, cursor = page_of(router)
    return answer(catalog.list_packages(get_engine(get_settings()), limit=limit, cursor=cursor))


@router.get("/v1/packages/<id>")
@router.get("/v1/posts/<id>")
def get_package(id: str) -> Answer:
    return answer(catalog.get_detail(get_engine(get_settings()), identifier(id)))


@router.get("/v1/packages/<id>/status")
def get_status(id: str) -> Answer:
    return answer(catalog.get_status(get_engine(get_settings()), identifier(id)))


@router.get("/v1/packages/<id>/files")
def list_files(id: str) -> Answer:
    limit, cursor = page_of(router)
    return answer(catalog.list_files(get_engine(get_settings()), identifier(id), limit=limit, cursor=cursor))


@router.get("/v1/packages/<id>/problems")
def list_problems(id: str) -> Answer:
    limit, cursor = page_of(router)
    return answer(
        catalog.list_problems(get_engine(get_settings()), identifier(id), limit=limit, cursor=cursor)
    )


@router.get("/v1/packages/<id>/files/<file_id>/download")
def download_file(id: str, file_id: str) -> Answer:
    settings = get_settings()
    package, file = identifier(id), identifier(file_id, kind="file")
    engine, storage = get_engine(settings), get_storage(settings)
    return redirect(catalog.file_url(engine, storage, package, file, seconds=settings.download_url_seconds))


@router.get("/v1/packages/<id>/archive")
def download_archive(id: str) -> Answer:
    settings = get_settings()
    engine, storage = get_engine(settings), get_storage(settings)
    return redirect(
        catalog.archive_url(engine, storage, identifier(id), seconds=settings.download_url_seconds)
    )


handler = make_handler(router, get_settings)
