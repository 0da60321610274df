"""What a job is about, and how far it is."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = sa.Column("names", sa.String(), nullable=False, server_default="")
    op.add_column("jobs", names)
    op.add_column("jobs", sa.Column("progress", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "progress")
    op.drop_column("jobs", "names")
