"""Blobs that no row names: when each was condemned, and which is being deleted."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("blobs", sa.Column("condemned_at", UtcDateTime(), nullable=True))
    op.add_column("blobs", sa.Column("deleting_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    op.drop_column("blobs", "deleting_at")
    op.drop_column("blobs", "condemned_at")
