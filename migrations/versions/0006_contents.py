"""What the files of a package say: sections, attributes, a fingerprint, and the indexes that find them.

Revision: 0006, after 0007. Indexes that need an extension are made by env.py, wherever the server has it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0007"
branch_labels = None
depends_on = None


def _words(expression: str) -> sa.ColumnElement[object]:
    return sa.literal_column(f"to_tsvector('simple', translate({expression}, '_-./\\@+~&<>', '{' ' * 11}'))")


def upgrade() -> None:
    op.create_table(
        "post_sections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("last_line", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("calls", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("template_lines", sa.Integer(), nullable=False),
        sa.Column("calculation_lines", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("seek_line", sa.Integer(), nullable=False),
        sa.Column("seek_offset", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("ordinal >= 0", name=op.f("ck_post_sections_ordinal")),
        sa.CheckConstraint(
            "seek_line >= 1 AND seek_line <= first_line AND first_line <= last_line AND seek_offset >= 0",
            name=op.f("ck_post_sections_lines"),
        ),
        sa.CheckConstraint(
            "template_lines >= 0 AND calculation_lines >= 0", name=op.f("ck_post_sections_counts")
        ),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("ck_post_sections_digest")),
        sa.ForeignKeyConstraint(
            ["file_id"], ["post_files.id"], name=op.f("fk_post_sections_file_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_post_sections")),
    )
    op.create_index(
        "uq_post_sections_package_id_ordinal", "post_sections", ["package_id", "ordinal"], unique=True
    )
    op.create_index(
        "ix_post_sections_package_id_name",
        "post_sections",
        ["package_id", sa.literal_column('"left"(lower(name) COLLATE "C", 200)'), "ordinal"],
        unique=False,
    )
    op.create_index("ix_post_sections_file_id", "post_sections", ["file_id"], unique=False)
    op.create_index(
        "ix_post_sections_words", "post_sections", [_words("name")], unique=False, postgresql_using="gin"
    )
    op.create_table(
        "post_attributes",
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("last_line", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.CheckConstraint("ordinal >= 0", name=op.f("ck_post_attributes_ordinal")),
        sa.CheckConstraint(
            "first_line >= 1 AND first_line <= last_line", name=op.f("ck_post_attributes_lines")
        ),
        sa.CheckConstraint(
            "jsonb_typeof(details) = 'array'", name=op.f("ck_post_attributes_details_is_a_list")
        ),
        sa.ForeignKeyConstraint(
            ["file_id"], ["post_files.id"], name=op.f("fk_post_attributes_file_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("package_id", "ordinal", name=op.f("pk_post_attributes")),
    )
    op.create_index("ix_post_attributes_file_id", "post_attributes", ["file_id"], unique=False)
    op.create_index(
        "ix_post_attributes_words", "post_attributes", [_words("name")], unique=False, postgresql_using="gin"
    )
    op.create_table(
        "post_fingerprints",
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("numbers", sa.ARRAY(sa.REAL()), nullable=False),
        sa.CheckConstraint("cardinality(numbers) = 256", name=op.f("ck_post_fingerprints_numbers")),
        sa.ForeignKeyConstraint(
            ["package_id"],
            ["post_packages.id"],
            name=op.f("fk_post_fingerprints_package_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_post_fingerprints")),
    )
    op.create_index(
        "ix_post_packages_words",
        "post_packages",
        [_words("(((name || ' ') || coalesce(machine_type, '')) || ' ') || coalesce(controller_type, '')")],
        unique=False,
        postgresql_using="gin",
    )


def downgrade() -> None:
    op.drop_index("ix_post_packages_words", table_name="post_packages")
    op.execute("DROP INDEX IF EXISTS ix_post_packages_trigrams")  # env.py made it
    op.drop_table("post_fingerprints")
    op.drop_table("post_attributes")
    op.drop_table("post_sections")
