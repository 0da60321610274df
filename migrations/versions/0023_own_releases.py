"""Key exports by which own releases were judged."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "own_keyrings",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("armored", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_own_keyrings")),
    )


def downgrade() -> None:
    op.drop_table("own_keyrings")
