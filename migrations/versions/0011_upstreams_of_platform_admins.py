"""Whether a platform admin wrote the URL of an upstream.

What is recorded counts as written by one: routes to the own network go on working.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("is_platforms", sa.Boolean(), nullable=False, server_default=sa.true())
    op.add_column("route_upstreams", column)


def downgrade() -> None:
    op.drop_column("route_upstreams", "is_platforms")
