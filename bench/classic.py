"""The classic peer: the worker behind a FastAPI upload, as tutorials for FastAPI and Celery write it.

The upload is read into memory, `zipfile` unpacks it, a default boto3 client stores each member, and the ORM
takes all files with `add_all` and one commit. What the web process does before (receiving the upload, storing
it, putting a task into a broker) is left out: it would only add to this side.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from veripost import models
from veripost.models import Status
from veripost.settings import Settings


class Base(DeclarativeBase):
    """The registry of mapped classes."""

    metadata = models.metadata


class PostPackage(Base):
    """A row of `post_packages`."""

    __table__ = models.post_packages
    if TYPE_CHECKING:
        status: str
        file_count: int
        content_hash: str
        ready_at: datetime


class PostFile(Base):
    """A row of `post_files`."""

    __table__ = models.post_files


def make_ingest(config: Settings) -> Callable[[str, int], None]:
    """Return the task that works off one upload."""
    s3 = boto3.client("s3", endpoint_url=config.s3_endpoint_url)
    engine = create_engine(make_url(config.database_url).set(drivername="postgresql+pg8000"))
    sessions: sessionmaker[Session] = sessionmaker(engine)

    def ingest(key: str, size: int) -> None:
        package_id = uuid4()
        with sessions() as session:
            package = PostPackage(
                id=package_id,
                name=PurePosixPath(key).stem,
                source_bucket=config.incoming_bucket,
                source_key=key,
                s3_prefix=f"packages/{package_id}/",
                size_bytes=size,
                status=Status.STORING,
            )
            session.add(package)
            session.commit()
            data = s3.get_object(Bucket=config.incoming_bucket, Key=key)["Body"].read()
            files = []
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for info in archive.infolist():
                    if info.is_dir():
                        continue
                    content = archive.read(info)
                    path = PurePosixPath(info.filename)
                    file_key = f"packages/{package_id}/{path.name}"
                    s3.put_object(Bucket=config.package_bucket, Key=file_key, Body=content)
                    files.append(
                        PostFile(
                            id=uuid4(),
                            package_id=package_id,
                            filename=path.name,
                            original_path=info.filename,
                            file_extension=path.suffix,
                            s3_key=file_key,
                            size_bytes=len(content),
                            content_hash=hashlib.sha256(content).hexdigest(),
                        )
                    )
            session.add_all(files)
            package.status = Status.READY
            package.file_count = len(files)
            package.content_hash = hashlib.sha256(data).hexdigest()
            package.ready_at = datetime.now(UTC)
            session.commit()

    return ingest
