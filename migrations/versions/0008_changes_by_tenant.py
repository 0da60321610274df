"""When each tenant's policy changed last."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_changes")),
    )
    with op.batch_alter_table("changes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_changes_generation"), ["generation"], unique=False)
    # 0 is behind every generation: what changed before is unknown, so the next change says so.
    with op.batch_alter_table("generation", schema=None) as batch_op:
        batch_op.add_column(sa.Column("scoped", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("generation", schema=None) as batch_op:
        batch_op.alter_column("scoped", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("generation", schema=None) as batch_op:
        batch_op.drop_column("scoped")
    with op.batch_alter_table("changes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_changes_generation"))
    op.drop_table("changes")
