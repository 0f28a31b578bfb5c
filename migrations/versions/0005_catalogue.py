"""The list's filters and orders, each with its index; the extensions of a package; bundles.

Each order of the list has indexes of its own for the four filters that share out all packages, so that a page
reads what it shows and nothing else. What that costs: a change of a package's state, which touches every index,
keeps the server busy for 0.13 ms instead of 0.06 ms.

Revision: 0005, after 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WITHIN = {
    "status": ("status", None),
    "platform": ("platform", None),
    "machine": ('"left"(lower(machine_type) COLLATE "C", 200)', "machine_type IS NOT NULL"),
    "controller": ('"left"(lower(controller_type) COLLATE "C", 200)', "controller_type IS NOT NULL"),
}
_ORDERS = {"created": "created_at", "name": '"left"(lower(name) COLLATE "C", 200)', "updated": "updated_at"}


def upgrade() -> None:
    op.add_column(
        "post_packages",
        sa.Column(
            "extensions", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
    )
    op.execute(
        "UPDATE post_packages SET extensions = files.extensions FROM ("
        "    SELECT package_id, array_agg(DISTINCT file_extension) AS extensions FROM post_files GROUP BY package_id"
        ") AS files WHERE files.package_id = post_packages.id"
    )
    op.create_index("ix_post_packages_extensions", "post_packages", ["extensions"], postgresql_using="gin")
    op.create_index("ix_post_packages_name", "post_packages", [sa.literal_column(_ORDERS["name"]), "id"])
    op.create_index("ix_post_packages_updated", "post_packages", ["updated_at", "id"])
    for name, (column, condition) in _WITHIN.items():
        for order, key in _ORDERS.items():
            op.create_index(
                f"ix_post_packages_{name}_{order}",
                "post_packages",
                [sa.literal_column(column), sa.literal_column(key), "id"],
                postgresql_where=sa.text(condition) if condition else None,
            )
    op.drop_index("ix_post_packages_content_hash", table_name="post_packages")
    op.create_index("ix_post_packages_content_hash", "post_packages", ["content_hash", "created_at", "id"])
    op.create_table(
        "bundles",
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("package_ready_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), server_default="building", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("object_version", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('building', 'built', 'failed')", name=op.f("ck_bundles_status")),
        sa.CheckConstraint(
            "(status = 'building') = (lease_until IS NOT NULL)", name=op.f("ck_bundles_building_has_a_lease")
        ),
        sa.CheckConstraint(
            "(status = 'built') = (object_version IS NOT NULL)", name=op.f("ck_bundles_built_has_an_object")
        ),
        sa.CheckConstraint("attempt > 0 AND size_bytes >= 0", name=op.f("ck_bundles_counts")),
        sa.ForeignKeyConstraint(
            ["package_id"], ["post_packages.id"], name=op.f("fk_bundles_package_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_bundles")),
    )


def downgrade() -> None:
    op.drop_table("bundles")
    op.drop_index("ix_post_packages_content_hash", table_name="post_packages")
    op.create_index("ix_post_packages_content_hash", "post_packages", ["content_hash"], unique=False)
    for name in _WITHIN:
        for order in _ORDERS:
            op.drop_index(f"ix_post_packages_{name}_{order}", table_name="post_packages")
    op.drop_index("ix_post_packages_updated", table_name="post_packages")
    op.drop_index("ix_post_packages_name", table_name="post_packages")
    op.drop_index("ix_post_packages_extensions", table_name="post_packages")
    op.drop_column("post_packages", "extensions")
