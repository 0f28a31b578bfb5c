"""What API keys and long polls need: one key per prefix, totals to compare progress with, slots to wait in.

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_api_keys_prefix", table_name="api_keys")
    op.create_unique_constraint(op.f("uq_api_keys_prefix"), "api_keys", ["prefix"])
    op.create_index(
        "ix_api_keys_newest", "api_keys", [sa.text("created_at DESC"), sa.text("id DESC")], unique=False
    )
    op.add_column("ingest_runs", sa.Column("files_total", sa.Integer(), nullable=True))
    op.add_column("ingest_runs", sa.Column("bytes_total", sa.BigInteger(), nullable=True))
    op.create_table(
        "waiting_slots",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("slot > 0", name=op.f("ck_waiting_slots_slot")),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_waiting_slots")),
    )


def downgrade() -> None:
    op.drop_table("waiting_slots")
    op.drop_column("ingest_runs", "bytes_total")
    op.drop_column("ingest_runs", "files_total")
    op.drop_index("ix_api_keys_newest", table_name="api_keys")
    op.drop_constraint(op.f("uq_api_keys_prefix"), "api_keys", type_="unique")
    op.create_index("ix_api_keys_prefix", "api_keys", ["prefix"], unique=False)
