"""Which files of module versions each tenant was answered."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "module_uses",
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "module", "version", "kind", name=op.f("pk_module_uses")
        ),
    )
    # Whoever downloads a zip with `go` has asked for the other two files before.
    op.execute(
        "INSERT INTO module_uses (tenant_id, module, version, kind) "
        "SELECT DISTINCT tenants.id, downloads.module, downloads.version, kinds.kind "
        "FROM downloads JOIN tenants ON tenants.name = downloads.tenant CROSS JOIN "
        "(SELECT 'info' AS kind UNION SELECT 'mod' UNION SELECT 'zip') AS kinds"
    )


def downgrade() -> None:
    op.drop_table("module_uses")
