"""The naive peer: what most people would write, and would be right to write first.

The archive is downloaded whole, `zipfile` reads one member after the other, each is stored by one
`put_object` and recorded by one row with a commit of its own. Nothing here is slowed down: the clients are
made once, keep their connections and live in a warm process; S3 checks the SHA-256 that is recorded anyway.
It knows none of our rules, leases or limits, all of which would make it slower.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath
from uuid import uuid4

import boto3
from sqlalchemy import create_engine, func, insert, make_url, update

from veripost.models import Status, post_files, post_packages
from veripost.settings import Settings


def make_ingest(config: Settings) -> Callable[[str, int], None]:
    """Return a function that ingests the archive at a key."""
    s3 = boto3.client("s3", endpoint_url=config.s3_endpoint_url)
    engine = create_engine(make_url(config.database_url).set(drivername="postgresql+pg8000"))

    def ingest(key: str, size: int) -> None:
        package_id = uuid4()
        with engine.begin() as connection:
            connection.execute(
                insert(post_packages).values(
                    id=package_id,
                    name=PurePosixPath(key).stem,
                    source_bucket=config.incoming_bucket,
                    source_key=key,
                    s3_prefix=f"packages/{package_id}/",
                    size_bytes=size,
                )
            )
        buffer = io.BytesIO()
        s3.download_fileobj(config.incoming_bucket, key, buffer)
        content_hash = hashlib.sha256(buffer.getbuffer()).hexdigest()
        count = 0
        with zipfile.ZipFile(buffer) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                data = archive.read(info)
                digest = hashlib.sha256(data)
                path = PurePosixPath(info.filename)
                file_key = f"packages/{package_id}/{path.name}"
                s3.put_object(
                    Bucket=config.package_bucket,
                    Key=file_key,
                    Body=data,
                    ContentType="application/octet-stream",
                    ChecksumSHA256=base64.b64encode(digest.digest()).decode("ascii"),
                )
                with engine.begin() as connection:
                    connection.execute(
                        insert(post_files).values(
                            id=uuid4(),
                            package_id=package_id,
                            filename=path.name,
                            original_path=info.filename,
                            file_extension=path.suffix,
                            s3_key=file_key,
                            size_bytes=len(data),
                            content_hash=digest.hexdigest(),
                        )
                    )
                count += 1
        with engine.begin() as connection:
            connection.execute(
                update(post_packages)
                .where(post_packages.c.id == package_id)
                .values(status=Status.READY, file_count=count, content_hash=content_hash, ready_at=func.now())
            )

    return ingest
