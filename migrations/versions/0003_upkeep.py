"""What failures and upkeep need: the outbox, the sweeper's cursors, examinations, and what to look at again.

Revision: 0003, after 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('PackageReady', 'PackageRefused', 'PackageFailed')", name=op.f("ck_outbox_kind")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    op.create_table(
        "sweep_cursors",
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_marker", sa.Text(), nullable=False),
        sa.Column("version_marker", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("key_marker <> ''", name=op.f("ck_sweep_cursors_key_marker")),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_sweep_cursors")),
    )
    op.create_table(
        "doctor_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("fix", sa.Boolean(), nullable=False),
        sa.Column("deep", sa.Boolean(), nullable=False),
        sa.Column("position", sa.Text(), nullable=True),
        sa.Column("report", postgresql.JSONB(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('queued', 'done')", name=op.f("ck_doctor_runs_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_doctor_runs")),
    )
    op.create_index(
        "ix_doctor_runs_unfinished",
        "doctor_runs",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.add_column("post_packages", sa.Column("clean_up_after", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_post_packages_clean_up_after",
        "post_packages",
        ["clean_up_after"],
        unique=False,
        postgresql_where=sa.text("clean_up_after IS NOT NULL"),
    )
    op.create_index(
        "ix_post_packages_deleting",
        "post_packages",
        ["updated_at"],
        unique=False,
        postgresql_where=sa.text("status = 'deleting'"),
    )
    op.add_column(
        "ingest_runs",
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.create_index(
        "ix_ingest_runs_queued_at",
        "ingest_runs",
        ["queued_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'interrupted')"),
    )


def downgrade() -> None:
    op.drop_index("ix_ingest_runs_queued_at", table_name="ingest_runs")
    op.drop_column("ingest_runs", "queued_at")
    op.drop_index("ix_post_packages_deleting", table_name="post_packages")
    op.drop_index("ix_post_packages_clean_up_after", table_name="post_packages")
    op.drop_column("post_packages", "clean_up_after")
    op.drop_table("doctor_runs")
    op.drop_table("sweep_cursors")
    op.drop_table("outbox")
