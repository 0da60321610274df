"""Indexes by which rules, grants and tokens are looked up and listed."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.create_index("ix_rules_tenant_id_pattern", ["tenant_id", "pattern"], unique=False)
    with op.batch_alter_table("prefix_grants", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_prefix_grants_tenant_id"), ["tenant_id"], unique=False)
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.create_index("ix_tokens_created_at_id", ["created_at", "id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_index("ix_tokens_created_at_id")
    with op.batch_alter_table("prefix_grants", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_prefix_grants_tenant_id"))
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.drop_index("ix_rules_tenant_id_pattern")
