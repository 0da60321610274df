"""Messages of git hosts that were taken."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "git_hook_deliveries",
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_git_hook_deliveries_tenant_id_tenants"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "body_sha256", name=op.f("pk_git_hook_deliveries")),
    )
    with op.batch_alter_table("git_hook_deliveries", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_git_hook_deliveries_received_at"), ["received_at"], unique=False
        )


def downgrade() -> None:
    with op.batch_alter_table("git_hook_deliveries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_git_hook_deliveries_received_at"))

    op.drop_table("git_hook_deliveries")
