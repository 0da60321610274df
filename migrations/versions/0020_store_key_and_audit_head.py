"""The store that has the blobs, a canary of the key, and whether an audit head was ever kept."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("installation") as batch:
        batch.add_column(sa.Column("store", sa.String(), nullable=True))
        batch.add_column(sa.Column("key_canary", sa.LargeBinary(), nullable=True))
        batch.add_column(sa.Column("audit_head_kept", sa.Boolean(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("installation") as batch:
        batch.drop_column("audit_head_kept")
        batch.drop_column("key_canary")
        batch.drop_column("store")
