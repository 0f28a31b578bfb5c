"""The tables. The rules of the data live here as constraints, and Alembic is the only way to change them.

Core tables, not mapped classes: every statement is written out in `queries`, and a Lambda that never
imports the ORM starts sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects import postgresql
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


class DoctorStatus(StrEnum):
    """States of an examination by `doctor`: `queued` until all of it has been looked at."""

    QUEUED = "queued"
    DONE = "done"


class BundleStatus(StrEnum):
    """States of a package's bundle; one that nobody builds any more has a lease that ran out."""

    BUILDING = "building"
    BUILT = "built"
    FAILED = "failed"


class Sort(StrEnum):
    """Orders of the list of packages; a minus means downwards. Every one has indexes in `post_packages`."""

    NEWEST = "-created"
    OLDEST = "created"
    NAME = "name"
    NAME_DOWN = "-name"
    LAST_UPDATED = "-updated"
    FIRST_UPDATED = "updated"

    @property
    def key(self) -> str:
        """What is sorted by: `created`, `name` or `updated`."""
        return self.value.removeprefix("-")

    @property
    def descending(self) -> bool:
        """Whether the newest, or the last of the alphabet, comes first."""
        return self.value.startswith("-")


class EventKind(StrEnum):
    """What is announced to the outside, by the `detail-type` that EventBridge shows."""

    READY = "PackageReady"
    REFUSED = "PackageRefused"
    FAILED = "PackageFailed"


FINGERPRINT_NUMBERS = 256

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


FOLDED_LENGTH = 200  # characters by which names are told apart in lists


def folded(column: str) -> str:
    """Return the SQL by which names are compared, found and sorted: any case, in the order of code points.

    The locale of the database says what is one letter in two cases. The order does not depend on it: "C" is
    on every server, and only in it an index finds a prefix. Cut, because an entry of a B-tree must stay below
    2,704 bytes. Written letter for letter as the server writes it, so that Alembic can compare the two.
    """
    return f'"left"(lower({column}) COLLATE "C", {FOLDED_LENGTH})'


def _orders_within(name: str, column: str, *, where: str | None = None) -> tuple[Index, ...]:
    """Return the indexes that give each order of the list to the packages that share a value of `column`.

    Without them a filter that few packages match, or only old ones, would walk through all others.
    """
    keys = {"created": "created_at", "name": folded("name"), "updated": "updated_at"}
    return tuple(
        Index(
            f"ix_post_packages_{name}_{order}",
            text(column),
            text(key),
            "id",
            postgresql_where=None if where is None else text(where),
        )
        for order, key in keys.items()
    )


def words_of(expression: str) -> str:
    """Return the SQL of the words in a name: `START_OF_TAPE` has three, `VF-4` two, and case is ignored.

    What an index is made of and what is searched must be written alike. The parser of Postgres would take
    `MILL/TURN` for a path and `-4` for a number, so such marks become blanks first.
    """
    return f"to_tsvector('simple', translate({expression}, '_-./\\@+~&<>', '{' ' * 11}'))"


PACKAGE_WORDS = words_of(
    "(((name || ' ') || coalesce(machine_type, '')) || ' ') || coalesce(controller_type, '')"
)
NAME_WORDS = words_of("name")

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
    # Every file extension that occurs in the package, as `post_files` has it; empty until it is ready.
    Column("extensions", postgresql.ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("content_hash", Text),
    Column("duplicate_of", Uuid, ForeignKey("post_packages.id", ondelete="SET NULL")),
    Column("source_bucket", Text, nullable=False),
    Column("source_key", Text, nullable=False),
    Column("source_version", Text),
    Column("s3_prefix", Text, nullable=False),
    Column("created_by", Text),
    Column("landed_at", DateTime(timezone=True)),
    # After this the sweeper removes what lies below the prefix and has no row: a worker that lost its lease
    # may write for as long as it can run.
    Column("clean_up_after", DateTime(timezone=True)),
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
    # The list in each of its orders, read forwards or backwards; the id decides between equals.
    Index("ix_post_packages_newest", text("created_at DESC"), text("id DESC")),
    Index("ix_post_packages_name", text(folded("name")), "id"),
    Index("ix_post_packages_updated", "updated_at", "id"),
    *_orders_within("status", "status"),
    *_orders_within("platform", "platform"),
    *_orders_within("machine", folded("machine_type"), where="machine_type IS NOT NULL"),
    *_orders_within("controller", folded("controller_type"), where="controller_type IS NOT NULL"),
    # On the package rather than on its files, of which there may be 10,000. On 100,000 packages the planner
    # made good plans of both (common extensions by the list's order, rare ones by their own index), but a
    # page that looked at the files read 5 to 50 times as many blocks.
    Index("ix_post_packages_extensions", "extensions", postgresql_using="gin"),
    Index("ix_post_packages_content_hash", "content_hash", "created_at", "id"),
    Index("ix_post_packages_duplicate_of", "duplicate_of"),
    Index(
        "ix_post_packages_clean_up_after",
        "clean_up_after",
        postgresql_where=text("clean_up_after IS NOT NULL"),
    ),
    Index("ix_post_packages_deleting", "updated_at", postgresql_where=text("status = 'deleting'")),
    Index("ix_post_packages_words", text(PACKAGE_WORDS), postgresql_using="gin"),
)

# The whole package as one ZIP, for each that somebody has asked for. It is of one outcome of the package: the
# one that was `ready` at `package_ready_at`.
bundles = Table(
    "bundles",
    metadata,
    Column("package_id", Uuid, ForeignKey("post_packages.id", ondelete="CASCADE"), primary_key=True),
    Column("package_ready_at", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False, server_default=BundleStatus.BUILDING),
    # As for jobs: whoever builds raises it, and only the highest may write.
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("lease_until", DateTime(timezone=True)),
    Column("object_version", Text),
    Column("size_bytes", BigInteger),
    Column("error_detail", Text),
    _now(),
    Column("finished_at", DateTime(timezone=True)),
    _one_of("status", BundleStatus),
    CheckConstraint("(status = 'building') = (lease_until IS NOT NULL)", name="building_has_a_lease"),
    CheckConstraint("(status = 'built') = (object_version IS NOT NULL)", name="built_has_an_object"),
    CheckConstraint("attempt > 0 AND size_bytes >= 0", name="counts"),
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


def _of_a_file() -> list[Column[object]]:
    """Return the columns of what a file says; such rows are replaced with the file rows, and go with them."""
    return [
        # Both, because reads ask by package; that they agree is the business of whoever inserts.
        Column("package_id", Uuid, nullable=False),
        Column("file_id", Uuid, ForeignKey("post_files.id", ondelete="CASCADE"), nullable=False),
        Column("ordinal", Integer, nullable=False),  # the place within the package
        Column("kind", Text, nullable=False),  # one of the platform's words
        Column("name", Text, nullable=False),
        Column("first_line", Integer, nullable=False),
        Column("last_line", Integer, nullable=False),
    ]


post_sections = Table(
    "post_sections",
    metadata,
    Column("id", Uuid, primary_key=True),
    *_of_a_file(),
    Column("parameters", ARRAY(Text), nullable=False),
    Column("calls", ARRAY(Text), nullable=False),
    Column("template_lines", Integer, nullable=False),
    Column("calculation_lines", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    # A line at or before the first, and the byte of the file at which it begins: where to start reading.
    Column("seek_line", Integer, nullable=False),
    Column("seek_offset", BigInteger, nullable=False),
    Index("uq_post_sections_package_id_ordinal", "package_id", "ordinal", unique=True),
    Index("ix_post_sections_package_id_name", "package_id", text(folded("name")), "ordinal"),
    Index("ix_post_sections_file_id", "file_id"),
    Index("ix_post_sections_words", text(NAME_WORDS), postgresql_using="gin"),
    CheckConstraint("ordinal >= 0", name="ordinal"),
    CheckConstraint(
        "seek_line >= 1 AND seek_line <= first_line AND first_line <= last_line AND seek_offset >= 0",
        name="lines",
    ),
    CheckConstraint("template_lines >= 0 AND calculation_lines >= 0", name="counts"),
    CheckConstraint("octet_length(digest) = 32", name="digest"),
)

post_attributes = Table(
    "post_attributes",
    metadata,
    *_of_a_file(),
    Column("value", Text),
    Column("details", JSONB, nullable=False),  # pairs of name and value, in order
    PrimaryKeyConstraint("package_id", "ordinal"),
    Index("ix_post_attributes_file_id", "file_id"),
    Index("ix_post_attributes_words", text(NAME_WORDS), postgresql_using="gin"),
    CheckConstraint("ordinal >= 0", name="ordinal"),
    CheckConstraint("first_line >= 1 AND first_line <= last_line", name="lines"),
    CheckConstraint("jsonb_typeof(details) = 'array'", name="details_is_a_list"),
)

# What `veripost.fingerprints` makes of a package's sections; none for a package without sections.
post_fingerprints = Table(
    "post_fingerprints",
    metadata,
    Column("package_id", Uuid, ForeignKey("post_packages.id", ondelete="CASCADE"), primary_key=True),
    Column("numbers", ARRAY(REAL), nullable=False),
    CheckConstraint(f"cardinality(numbers) = {FINGERPRINT_NUMBERS}", name="numbers"),
)


class OptionalIndex(NamedTuple):
    """An index that only a server with `extension` can have; without it the same question takes longer."""

    extension: str
    table: str
    sql: str


NEAREST_INDEX = "ix_post_fingerprints_nearest"
TRIGRAM_INDEXES = tuple(
    f"ix_{table}_trigrams" for table in ("post_packages", "post_sections", "post_attributes")
)
# Made by migrations/env.py on every upgrade, so that a server that gets the extension later gets them too.
OPTIONAL_INDEXES: Mapping[str, OptionalIndex] = MappingProxyType(
    {
        NEAREST_INDEX: OptionalIndex(
            "vector",
            "post_fingerprints",
            f"USING hnsw ((numbers::vector({FINGERPRINT_NUMBERS})) vector_cosine_ops)",
        ),
        **{
            name: OptionalIndex("pg_trgm", name[3:-9], "USING gin (name gin_trgm_ops)")
            for name in TRIGRAM_INDEXES
        },
    }
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
    # When the job was last put into the queue, given back to it, or looked after by the sweeper.
    Column("queued_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    _now(),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    # While files are being stored these are raised with each sign of life; the totals are the directory's.
    Column("files", Integer),
    Column("bytes", BigInteger),
    Column("files_total", Integer),
    Column("bytes_total", BigInteger),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("request_id", Text),
    _one_of("trigger", Trigger),
    _one_of("status", RunStatus),
    CheckConstraint("attempt >= 0", name="attempt"),
    CheckConstraint("(status = 'running') = (lease_until IS NOT NULL)", name="running_has_a_lease"),
    Index("ix_ingest_runs_package_id_created_at", "package_id", text("created_at DESC")),
    Index("ix_ingest_runs_lease_until", "lease_until", postgresql_where=text("status = 'running'")),
    Index(
        "ix_ingest_runs_unfinished",
        "package_id",
        postgresql_where=text("status IN ('queued', 'interrupted', 'running')"),
    ),
    Index(
        "ix_ingest_runs_queued_at", "queued_at", postgresql_where=text("status IN ('queued', 'interrupted')")
    ),
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
    # A presented key is looked up by its prefix, so that there is one hash to compare it with, or none.
    UniqueConstraint("prefix"),
    UniqueConstraint("key_hash"),
    _sha256("key_hash"),
    CheckConstraint("scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0", name="scopes"),
    Index("ix_api_keys_newest", text("created_at DESC"), text("id DESC")),
)

# Who holds a request open for `?wait=`. A slot that was not given back is free when its time is over.
waiting_slots = Table(
    "waiting_slots",
    metadata,
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("held_until", DateTime(timezone=True), nullable=False),
    CheckConstraint("slot > 0", name="slot"),
)

# Written in the transaction that changes a package's state, deleted once EventBridge has accepted it.
outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    _now(),
    UniqueConstraint("event_id"),
    _one_of("kind", EventKind),
)

# How far the sweeper has walked through a prefix of the incoming bucket.
sweep_cursors = Table(
    "sweep_cursors",
    metadata,
    Column("prefix", Text, primary_key=True),
    Column("key_marker", Text, nullable=False),
    Column("version_marker", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("key_marker <> ''", name="key_marker"),
)

doctor_runs = Table(
    "doctor_runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("status", Text, nullable=False, server_default=DoctorStatus.QUEUED),
    Column("fix", Boolean, nullable=False),
    Column("deep", Boolean, nullable=False),
    Column("position", Text),
    Column("report", JSONB),
    Column("lease_until", DateTime(timezone=True)),
    _now(),
    Column("finished_at", DateTime(timezone=True)),
    _one_of("status", DoctorStatus),
    Index("ix_doctor_runs_unfinished", "created_at", postgresql_where=text("status = 'queued'")),
)
