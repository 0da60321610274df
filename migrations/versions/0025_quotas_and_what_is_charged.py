"""Quotas of tenants, and for which tenant each module file was brought in."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("quota_bytes", sa.BigInteger(), nullable=True))
    op.add_column("module_files", sa.Column("tenant_id", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_module_files_tenant_id"), "module_files", ["tenant_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_module_files_tenant_id"), table_name="module_files")
    op.drop_column("module_files", "tenant_id")
    op.drop_column("tenants", "quota_bytes")
