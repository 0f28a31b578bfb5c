"""The tables. The rules of the data live here as constraints, and Alembic is the only way to change them.

Core tables, not mapped classes: every statement is written out in `queries`, and a Lambda that never
imports the ORM starts sooner.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB


class Status(StrEnum):
    """States of a package: `pending → validating → storing → parsing → ready`, or `error` from any."""

    PENDING = "pending"
    VALIDATING = "validating"
    STORING = "storing"
    PARSING = "parsing"
    READY = "ready"
    ERROR = "error"
    DELETING = "deleting"


class RunStatus(StrEnum):
    """States of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Trigger(StrEnum):
    """What started a job: the door the package came through, or a replay."""

    PRESIGNED = "presigned"
    DROP = "drop"
    API = "api"
    REPLAY = "replay"


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _sha256(column: str) -> CheckConstraint:
    # A regular expression says the same and takes ten times as long, for each of 10,000 rows.
    return CheckConstraint(
        f"octet_length({column}) = 64 AND encode(decode({column}, 'hex'), 'hex') = {column}",
        name=f"{column}_is_sha256",
    )


def _now() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


post_packages = Table(
    "post_packages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("platform", Text, nullable=False, server_default="camworks"),
    Column("machine_type", Text),
    Column("controller_type", Text),
    Column("status", Text, nullable=False, server_default=Status.PENDING),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("error_detail", Text),
    Column("problems", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("file_count", Integer, nullable=False, server_default=text("0")),
    Column("section_count", Integer),
    Column("size_bytes", BigInteger),
    Column("content_hash", Text),
    Column("duplicate_of", Uuid, ForeignKey("post_packages.id", ondelete="SET NULL")),
    Column("source_bucket", Text, nullable=False),
    Column("source_key", Text, nullable=False),
    Column("source_version", Text),
    Column("s3_prefix", Text, nullable=False),
    Column("created_by", Text),
    _now(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ready_at", DateTime(timezone=True)),
    UniqueConstraint("source_bucket", "source_key", "source_version"),
    _one_of("status", Status),
    _sha256("content_hash"),
    CheckConstraint("status <> 'error' OR error_code IS NOT NULL", name="error_has_a_code"),
    CheckConstraint("error_code IS NULL OR error_message IS NOT NULL", name="error_has_a_message"),
    CheckConstraint(
        "status <> 'ready' OR (ready_at IS NOT NULL AND content_hash IS NOT NULL)", name="ready_is_whole"
    ),
    CheckConstraint("jsonb_typeof(problems) = 'array'", name="problems_is_a_list"),
    CheckConstraint("file_count >= 0 AND section_count >= 0 AND size_bytes >= 0", name="counts"),
    CheckConstraint("char_length(name) BETWEEN 1 AND 1024", name="name_length"),
    CheckConstraint("s3_prefix = 'packages/' || id::text || '/'", name="s3_prefix"),
    Index("ix_post_packages_newest", text("created_at DESC"), text("id DESC")),
    Index("ix_post_packages_content_hash", "content_hash"),
    Index("ix_post_packages_duplicate_of", "duplicate_of"),
)

# In the collation "C" only ASCII is folded, whatever the server's locale: the platform's rules, which fold
# more, have then always refused first what the unique index would.
_FOLDED_FILENAME = 'lower(filename COLLATE "C")'

post_files = Table(
    "post_files",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("package_id", Uuid, ForeignKey("post_packages.id", ondelete="CASCADE"), nullable=False),
    Column("filename", Text, nullable=False),
    Column("original_path", Text, nullable=False),
    Column("file_extension", Text, nullable=False),
    Column("s3_key", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("content_hash", Text, nullable=False),
    _now(),
    Index("uq_post_files_package_id_filename", "package_id", text(_FOLDED_FILENAME), unique=True),
    _sha256("content_hash"),
    CheckConstraint("size_bytes >= 0", name="size_bytes"),
    CheckConstraint("position('/' in filename) = 0 AND filename <> ''", name="filename_is_flat"),
    CheckConstraint("s3_key = 'packages/' || package_id::text || '/' || filename", name="s3_key"),
)

ingest_runs = Table(
    "ingest_runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("package_id", Uuid, ForeignKey("post_packages.id", ondelete="CASCADE"), nullable=False),
    # The attempt is also the fencing value: whoever takes a job over raises it, and every write checks it.
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("trigger", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=RunStatus.QUEUED),
    Column("lease_until", DateTime(timezone=True)),
    _now(),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("files", Integer),
    Column("bytes", BigInteger),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("request_id", Text),
    _one_of("trigger", Trigger),
    _one_of("status", RunStatus),
    CheckConstraint("attempt >= 0", name="attempt"),
    CheckConstraint("(status = 'running') = (lease_until IS NOT NULL)", name="running_has_a_lease"),
    Index("ix_ingest_runs_package_id_created_at", "package_id", text("created_at DESC")),
    Index("ix_ingest_runs_lease_until", "lease_until", postgresql_where=text("status = 'running'")),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("prefix", Text, nullable=False),
    Column("key_hash", Text, nullable=False),
    Column("client_name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    _now(),
    Column("last_used_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    UniqueConstraint("key_hash"),
    _sha256("key_hash"),
    CheckConstraint("scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0", name="scopes"),
    Index("ix_api_keys_prefix", "prefix"),
)
