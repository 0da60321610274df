"""Checksum databases and toolchain modules."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "log_evidence",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("log", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("older", sa.LargeBinary(), nullable=False),
        sa.Column("newer", sa.LargeBinary(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_evidence")),
        sa.UniqueConstraint("log", "sha256", name=op.f("uq_log_evidence_log")),
    )
    op.create_table(
        "log_heads",
        sa.Column("log", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_log_heads")),
    )
    op.create_table(
        "log_lookups",
        sa.Column("log", sa.String(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("record", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("log", "module", "version", name=op.f("pk_log_lookups")),
    )
    op.create_table(
        "log_tiles",
        sa.Column("log", sa.String(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log", "level", "number", name=op.f("pk_log_tiles")),
    )
    op.create_table(
        "tenant_logs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("vkey", sa.String(), nullable=False),
        sa.Column("seed", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_tenant_logs_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant_logs")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_logs_name")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("tenant_logs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tenant_logs_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "log_hashes",
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["tenant_logs.id"], name=op.f("fk_log_hashes_log_id_tenant_logs")
        ),
        sa.PrimaryKeyConstraint("log_id", "place", name=op.f("pk_log_hashes")),
    )
    op.create_table(
        "log_records",
        sa.Column("log_id", sa.Integer(), nullable=False),
        sa.Column("record", sa.BigInteger(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["tenant_logs.id"], name=op.f("fk_log_records_log_id_tenant_logs")
        ),
        sa.PrimaryKeyConstraint("log_id", "record", name=op.f("pk_log_records")),
        sa.UniqueConstraint("log_id", "module", "version", name=op.f("uq_log_records_log_id")),
    )
    with op.batch_alter_table("release_files", schema=None) as batch_op:
        batch_op.add_column(sa.Column("toolchain_time", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("toolchain_log", sa.String(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("release_files", schema=None) as batch_op:
        batch_op.drop_column("toolchain_log")
        batch_op.drop_column("toolchain_time")

    op.drop_table("log_records")
    op.drop_table("log_hashes")
    with op.batch_alter_table("tenant_logs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tenant_logs_tenant_id"))

    op.drop_table("tenant_logs")
    op.drop_table("log_tiles")
    op.drop_table("log_lookups")
    op.drop_table("log_heads")
    op.drop_table("log_evidence")
