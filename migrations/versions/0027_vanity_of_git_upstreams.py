"""Whether a git upstream's repositories are named by go-import tags."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("route_upstreams") as batch:
        batch.add_column(
            sa.Column("vanity", sa.Boolean(), nullable=False, server_default=sa.false())
        )


def downgrade() -> None:
    with op.batch_alter_table("route_upstreams") as batch:
        batch.drop_column("vanity")
