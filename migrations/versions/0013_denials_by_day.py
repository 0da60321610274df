"""How often requests of tenants were refused, by day."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "denials",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.Column("last_request", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "tenant", "token", "module", "rule", name=op.f("pk_denials")
        ),
    )


def downgrade() -> None:
    op.drop_table("denials")
