"""Webhooks that get rows of the audit log: which ones, of whom, and how far they have got."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("rollouts", sa.Boolean(), server_default=sa.true(), nullable=False)
        )
        batch_op.add_column(sa.Column("audit", sa.String(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("tenant", sa.String(), nullable=True))
        batch_op.add_column(
            sa.Column("audit_seq", sa.Integer(), server_default="0", nullable=False)
        )


def downgrade() -> None:
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.drop_column("audit_seq")
        batch_op.drop_column("tenant")
        batch_op.drop_column("audit")
        batch_op.drop_column("rollouts")
