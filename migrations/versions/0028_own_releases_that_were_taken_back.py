"""Own releases that were taken back: retired, or gone for good."""

import sqlalchemy as sa
from alembic import op

import app.db.base

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "release_withdrawals",
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("changed_at", app.db.base.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("release", name=op.f("pk_release_withdrawals")),
    )


def downgrade() -> None:
    op.drop_table("release_withdrawals")
