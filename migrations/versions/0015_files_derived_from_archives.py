"""Files derived from archives: their tree, the sums of their pieces, their zstd form."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "derived_files",
        sa.Column("archive_sha256", sa.String(), nullable=False),
        sa.Column("archive_bytes", sa.BigInteger(), nullable=False),
        sa.Column("tree_sha256", sa.String(), nullable=False),
        sa.Column("tree_bytes", sa.BigInteger(), nullable=False),
        sa.Column("chunks_sha256", sa.String(), nullable=False),
        sa.Column("zst_sha256", sa.String(), nullable=True),
        sa.Column("zst_bytes", sa.BigInteger(), nullable=True),
        sa.Column("zst_chunks_sha256", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["archive_sha256"], ["blobs.sha256"], name=op.f("fk_derived_files_archive_sha256_blobs")
        ),
        sa.ForeignKeyConstraint(
            ["chunks_sha256"], ["blobs.sha256"], name=op.f("fk_derived_files_chunks_sha256_blobs")
        ),
        sa.ForeignKeyConstraint(
            ["tree_sha256"], ["blobs.sha256"], name=op.f("fk_derived_files_tree_sha256_blobs")
        ),
        sa.ForeignKeyConstraint(
            ["zst_chunks_sha256"],
            ["blobs.sha256"],
            name=op.f("fk_derived_files_zst_chunks_sha256_blobs"),
        ),
        sa.ForeignKeyConstraint(
            ["zst_sha256"], ["blobs.sha256"], name=op.f("fk_derived_files_zst_sha256_blobs")
        ),
        sa.PrimaryKeyConstraint("archive_sha256", name=op.f("pk_derived_files")),
    )


def downgrade() -> None:
    op.drop_table("derived_files")
