"""Digests of the tars in archives, and image indexes that were handed out."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "image_indexes",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_image_indexes")),
    )
    with op.batch_alter_table("derived_files") as batch:
        batch.add_column(sa.Column("tar_sha256", sa.String(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("derived_files") as batch:
        batch.drop_column("tar_sha256")
    op.drop_table("image_indexes")
