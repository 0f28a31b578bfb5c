"""Every read and download: a route parses, calls one use case, and answers."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from aws_lambda_powertools.event_handler.api_gateway import Router

from veripost import catalog, contents, search
from veripost.api import (
    Answer,
    answer,
    description,
    description_page,
    identifier,
    is_news,
    make_handler,
    needs,
    page_of,
    query,
    redirect,
    unless_known,
    wait_of,
)
from veripost.api_key import Scope
from veripost.bundles import ordering
from veripost.db import get_engine
from veripost.models import BundleStatus, Sort
from veripost.queries import PackageFilter
from veripost.schemas import BundleView, Compare, FindByName, FindPackages, Search
from veripost.settings import get_settings
from veripost.storage import get_storage
from veripost.upkeep import doctor

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
@needs(Scope.READ)
def list_packages() -> Answer:
    limit, cursor = page_of(router)
    asked = query(router, FindPackages, besides=("limit", "cursor"))
    chosen, sort = PackageFilter(**asked.model_dump(exclude={"sort"})), Sort(asked.sort)
    return answer(catalog.list_packages(get_engine(get_settings()), chosen, sort, limit=limit, cursor=cursor))


@router.get("/v1/packages/<id>")
@router.get("/v1/posts/<id>")
@needs(Scope.READ)
def get_package(id: str) -> Answer:
    detail = catalog.get_detail(get_engine(get_settings()), identifier(id))
    again = catalog.ask_again_after(detail.status, detail.updated_at)
    return unless_known(router, detail, retry_after=again)


@router.get("/v1/packages/<id>/status")
@needs(Scope.READ)
def get_status(id: str) -> Answer:
    settings = get_settings()
    shown = catalog.wait_for_status(
        get_engine(settings),
        identifier(id),
        seconds=wait_of(router),
        is_news=is_news(router),
        most=settings.max_waiting,
    )
    again = catalog.ask_again_after(shown.status, shown.updated_at)
    return unless_known(router, shown, retry_after=again)


@router.get("/v1/packages/<id>/files")
@needs(Scope.READ)
def list_files(id: str) -> Answer:
    limit, cursor = page_of(router)
    return answer(catalog.list_files(get_engine(get_settings()), identifier(id), limit=limit, cursor=cursor))


@router.get("/v1/packages/<id>/problems")
@needs(Scope.READ)
def list_problems(id: str) -> Answer:
    limit, cursor = page_of(router)
    return answer(
        catalog.list_problems(get_engine(get_settings()), identifier(id), limit=limit, cursor=cursor)
    )


@router.get("/v1/packages/<id>/files/<file_id>/download")
@needs(Scope.READ)
def download_file(id: str, file_id: str) -> Answer:
    settings = get_settings()
    package, file = identifier(id), identifier(file_id, kind="file")
    engine, storage = get_engine(settings), get_storage(settings)
    return redirect(catalog.file_url(engine, storage, package, file, seconds=settings.download_url_seconds))


@router.get("/v1/packages/<id>/archive")
@needs(Scope.READ)
def download_archive(id: str) -> Answer:
    settings = get_settings()
    engine, storage = get_engine(settings), get_storage(settings)
    return redirect(
        catalog.archive_url(engine, storage, identifier(id), seconds=settings.download_url_seconds)
    )


@router.get("/v1/packages/<id>/bundle")
@needs(Scope.READ)
def download_bundle(id: str) -> Answer:
    settings = get_settings()
    package_id = identifier(id)
    engine, storage = get_engine(settings), get_storage(settings)
    url = ordering.url(engine, storage, package_id, seconds=settings.download_url_seconds)
    if url is not None:
        return redirect(url)
    view = BundleView(package_id=package_id, status=BundleStatus.BUILDING)
    return answer(view, HTTPStatus.ACCEPTED, retry_after=ordering.POLL_SECONDS)


@router.get("/v1/keys")
@needs(Scope.ADMIN)
def list_keys() -> Answer:
    limit, cursor = page_of(router)
    return answer(catalog.list_keys(get_engine(get_settings()), limit=limit, cursor=cursor))


@router.get("/v1/doctor/<id>")
@needs(Scope.ADMIN)
def get_examination(id: str) -> Answer:
    return answer(doctor.view(get_engine(get_settings()), identifier(id, kind="examination")))


@router.get("/v1/packages/<id>/sections")
@needs(Scope.READ)
def list_sections(id: str) -> Answer:
    limit, cursor = page_of(router)
    asked = query(router, FindByName, besides=("limit", "cursor"))
    engine, package = get_engine(get_settings()), identifier(id)
    return answer(contents.list_sections(engine, package, name=asked.name, limit=limit, cursor=cursor))


@router.get("/v1/packages/<id>/sections/<section_id>")
@needs(Scope.READ)
def get_section(id: str, section_id: str) -> Answer:
    settings = get_settings()
    package, section = identifier(id), identifier(section_id, kind="section")
    return answer(contents.get_section(get_engine(settings), get_storage(settings), package, section))


@router.get("/v1/packages/<id>/attributes")
@needs(Scope.READ)
def list_attributes(id: str) -> Answer:
    limit, cursor = page_of(router, most=100)
    asked = query(router, FindByName, besides=("limit", "cursor"))
    engine, package = get_engine(get_settings()), identifier(id)
    return answer(contents.list_attributes(engine, package, name=asked.name, limit=limit, cursor=cursor))


@router.get("/v1/packages/<id>/similar")
@needs(Scope.READ)
def list_similar(id: str) -> Answer:
    limit, _ = page_of(router, default=10, most=50)
    return answer(search.similar(get_engine(get_settings()), identifier(id), limit=limit))


@router.get("/v1/packages/<id>/diff/<other_id>")
@needs(Scope.READ)
def compare(id: str, other_id: str) -> Answer:
    limit, cursor = page_of(router)
    asked = query(router, Compare, besides=("limit", "cursor"))
    settings = get_settings()
    one, other = identifier(id), identifier(other_id)
    engine, storage = get_engine(settings), get_storage(settings)
    return answer(
        contents.compare(engine, storage, one, other, section=asked.section, limit=limit, cursor=cursor)
    )


@router.get("/v1/search")
@needs(Scope.READ)
def find() -> Answer:
    limit, cursor = page_of(router)
    asked = query(router, Search, besides=("limit", "cursor"))
    return answer(search.search(get_engine(get_settings()), asked.q, limit=limit, cursor=cursor))


handler = make_handler(router, get_settings)
