"""When an object landed, and an index of the jobs that have not ended: how old the oldest of them is.

Revision: 0007, after 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("post_packages", sa.Column("landed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE post_packages SET landed_at = created_at WHERE source_version IS NOT NULL")
    op.create_index(
        "ix_ingest_runs_unfinished",
        "ingest_runs",
        ["package_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'interrupted', 'running')"),
    )


def downgrade() -> None:
    op.drop_index("ix_ingest_runs_unfinished", table_name="ingest_runs")
    op.drop_column("post_packages", "landed_at")
