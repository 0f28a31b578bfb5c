"""Packages, their files and jobs, and API keys.

Revision: 0001, after None
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("client_name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("key_hash ~ '^[0-9a-f]{64}$'", name=op.f("ck_api_keys_key_hash_is_sha256")),
        sa.CheckConstraint(
            "scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0",
            name=op.f("ck_api_keys_scopes"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_index("ix_api_keys_prefix", "api_keys", ["prefix"], unique=False)
    op.create_table(
        "post_packages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), server_default="camworks", nullable=False),
        sa.Column("machine_type", sa.Text(), nullable=True),
        sa.Column("controller_type", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("problems", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("file_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("section_count", sa.Integer(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.Column("duplicate_of", sa.Uuid(), nullable=True),
        sa.Column("source_bucket", sa.Text(), nullable=False),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("source_version", sa.Text(), nullable=True),
        sa.Column("s3_prefix", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status <> 'error' OR error_code IS NOT NULL", name=op.f("ck_post_packages_error_has_a_code")
        ),
        sa.CheckConstraint(
            "content_hash ~ '^[0-9a-f]{64}$'", name=op.f("ck_post_packages_content_hash_is_sha256")
        ),
        sa.CheckConstraint(
            "jsonb_typeof(problems) = 'array'", name=op.f("ck_post_packages_problems_is_a_list")
        ),
        sa.CheckConstraint(
            "s3_prefix = 'packages/' || id::text || '/'", name=op.f("ck_post_packages_s3_prefix")
        ),
        sa.CheckConstraint(
            "status <> 'ready' OR (ready_at IS NOT NULL AND content_hash IS NOT NULL)",
            name=op.f("ck_post_packages_ready_is_whole"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'validating', 'storing', 'parsing', 'ready', 'error', 'deleting')",
            name=op.f("ck_post_packages_status"),
        ),
        sa.CheckConstraint("char_length(name) BETWEEN 1 AND 1024", name=op.f("ck_post_packages_name_length")),
        sa.CheckConstraint(
            "error_code IS NULL OR error_message IS NOT NULL",
            name=op.f("ck_post_packages_error_has_a_message"),
        ),
        sa.CheckConstraint(
            "file_count >= 0 AND section_count >= 0 AND size_bytes >= 0", name=op.f("ck_post_packages_counts")
        ),
        sa.ForeignKeyConstraint(
            ["duplicate_of"],
            ["post_packages.id"],
            name=op.f("fk_post_packages_duplicate_of"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_post_packages")),
        sa.UniqueConstraint(
            "source_bucket",
            "source_key",
            "source_version",
            name=op.f("uq_post_packages_source_bucket_source_key_source_version"),
        ),
    )
    op.create_index("ix_post_packages_content_hash", "post_packages", ["content_hash"], unique=False)
    op.create_index("ix_post_packages_duplicate_of", "post_packages", ["duplicate_of"], unique=False)
    op.create_index(
        "ix_post_packages_newest",
        "post_packages",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "ingest_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("files", sa.Integer(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(status = 'running') = (lease_until IS NOT NULL)",
            name=op.f("ck_ingest_runs_running_has_a_lease"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'refused', 'failed', 'interrupted')",
            name=op.f("ck_ingest_runs_status"),
        ),
        sa.CheckConstraint(
            "trigger IN ('presigned', 'drop', 'api', 'replay')", name=op.f("ck_ingest_runs_trigger")
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_ingest_runs_attempt")),
        sa.ForeignKeyConstraint(
            ["package_id"], ["post_packages.id"], name=op.f("fk_ingest_runs_package_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingest_runs")),
    )
    op.create_index(
        "ix_ingest_runs_lease_until",
        "ingest_runs",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "ix_ingest_runs_package_id_created_at",
        "ingest_runs",
        ["package_id", sa.literal_column("created_at DESC")],
        unique=False,
    )
    op.create_table(
        "post_files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("original_path", sa.Text(), nullable=False),
        sa.Column("file_extension", sa.Text(), nullable=False),
        sa.Column("s3_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "content_hash ~ '^[0-9a-f]{64}$'", name=op.f("ck_post_files_content_hash_is_sha256")
        ),
        sa.CheckConstraint(
            "position('/' in filename) = 0 AND filename <> ''", name=op.f("ck_post_files_filename_is_flat")
        ),
        sa.CheckConstraint(
            "s3_key = 'packages/' || package_id::text || '/' || filename", name=op.f("ck_post_files_s3_key")
        ),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_post_files_size_bytes")),
        sa.ForeignKeyConstraint(
            ["package_id"], ["post_packages.id"], name=op.f("fk_post_files_package_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_post_files")),
    )
    op.create_index(
        "uq_post_files_package_id_filename",
        "post_files",
        ["package_id", sa.literal_column('lower(filename COLLATE "C")')],
        unique=True,
    )


def downgrade() -> None:
    op.drop_index("uq_post_files_package_id_filename", table_name="post_files")
    op.drop_table("post_files")
    op.drop_index("ix_ingest_runs_package_id_created_at", table_name="ingest_runs")
    op.drop_index(
        "ix_ingest_runs_lease_until", table_name="ingest_runs", postgresql_where=sa.text("status = 'running'")
    )
    op.drop_table("ingest_runs")
    op.drop_index("ix_post_packages_newest", table_name="post_packages")
    op.drop_index("ix_post_packages_duplicate_of", table_name="post_packages")
    op.drop_index("ix_post_packages_content_hash", table_name="post_packages")
    op.drop_table("post_packages")
    op.drop_index("ix_api_keys_prefix", table_name="api_keys")
    op.drop_table("api_keys")
