"""Hosts in the own network that the upstreams of a tenant may have; none to begin with.

Not as a batch: SQLite would copy the table, and the copy would give ids of removed tenants again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("private_hosts", sa.String(), nullable=False, server_default="")
    op.add_column("tenants", column)


def downgrade() -> None:
    op.drop_column("tenants", "private_hosts")
