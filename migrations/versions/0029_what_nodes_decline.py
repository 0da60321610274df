"""What nodes decline: a release that was rolled back by hand, and whom an operator released."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("declined_version", sa.String(), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("declined_revision", sa.Integer(), server_default="0", nullable=False)
        )
        batch_op.add_column(
            sa.Column("released_revision", sa.Integer(), server_default="0", nullable=False)
        )


def downgrade() -> None:
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.drop_column("released_revision")
        batch_op.drop_column("declined_revision")
        batch_op.drop_column("declined_version")
