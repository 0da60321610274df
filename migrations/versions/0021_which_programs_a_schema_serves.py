"""The oldest program that can serve the schema, and fences that never come again."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("installation") as batch:
        batch.add_column(
            sa.Column("oldest_program", sa.String(), server_default="0017", nullable=False)
        )
    with op.batch_alter_table("leases") as batch:
        batch.alter_column("fence", existing_type=sa.Integer(), type_=sa.BigInteger())


def downgrade() -> None:
    with op.batch_alter_table("leases") as batch:
        batch.alter_column("fence", existing_type=sa.BigInteger(), type_=sa.Integer())
    with op.batch_alter_table("installation") as batch:
        batch.drop_column("oldest_program")
