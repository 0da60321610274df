"""Indexes of module files, for the passes over checksum databases."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("module_files", schema=None) as batch_op:
        batch_op.create_index("ix_module_files_module_version", ["module", "version"], unique=False)
        batch_op.create_index(batch_op.f("ix_module_files_log_state"), ["log_state"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("module_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_module_files_log_state"))
        batch_op.drop_index("ix_module_files_module_version")
