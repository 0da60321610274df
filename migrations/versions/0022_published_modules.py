"""Published modules: who published which version, and whether it is offered."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "published_versions",
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("publisher", sa.String(), nullable=False),
        sa.Column("published_at", UtcDateTime(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("h1", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("module", "version", name=op.f("pk_published_versions")),
    )
    with op.batch_alter_table("published_versions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_published_versions_tenant"), ["tenant"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("published_versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_published_versions_tenant"))

    op.drop_table("published_versions")
