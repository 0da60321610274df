"""Channels, their revisions, the keys that sign them, and the channel of a tenant's toolchains."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime, WordSet

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "channels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("tenants", WordSet(), nullable=True),
        sa.Column("edits", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channels")),
        sa.UniqueConstraint("name", name=op.f("uq_channels_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "channel_revisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("current", sa.String(), nullable=False),
        sa.Column("also", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("offered_at", UtcDateTime(), nullable=True),
        sa.Column("manifest", sa.LargeBinary(), nullable=True),
        sa.Column("signed_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("fk_channel_revisions_channel_id_channels")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel_revisions")),
        sa.UniqueConstraint("channel_id", "number", name=op.f("uq_channel_revisions_channel_id")),
    )
    for state in ("current", "candidate"):
        is_it = sa.text(f"state = '{state}'")
        op.create_index(
            f"uq_channel_revisions_{state}",
            "channel_revisions",
            ["channel_id"],
            unique=True,
            sqlite_where=is_it,
            postgresql_where=is_it,
        )
    op.create_table(
        "fleet_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("vkey", sa.String(), nullable=False),
        sa.Column("seed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet_keys")),
        sa.UniqueConstraint("vkey", name=op.f("uq_fleet_keys_vkey")),
        sqlite_autoincrement=True,
    )
    # Not as a batch, for the reason in 0009.
    op.add_column("tenants", sa.Column("toolchains", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("tenants", "toolchains")
    op.drop_table("fleet_keys")
    op.drop_table("channel_revisions")
    op.drop_table("channels")
