"""Git upstreams: listings of refs, pins of versions, keys of hosts."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "git_listings",
        sa.Column("origin_id", sa.Integer(), nullable=False),
        sa.Column("repository", sa.String(), nullable=False),
        sa.Column("listed_at", UtcDateTime(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("object_format", sa.String(), nullable=False),
        sa.Column("refs", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["origin_id"], ["origins.id"], name=op.f("fk_git_listings_origin_id_origins")
        ),
        sa.PrimaryKeyConstraint("origin_id", "repository", name=op.f("pk_git_listings")),
    )
    op.create_table(
        "git_pins",
        sa.Column("origin_id", sa.Integer(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("repository", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("commit_id", sa.String(), nullable=False),
        sa.Column("pinned_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["origin_id"], ["origins.id"], name=op.f("fk_git_pins_origin_id_origins")
        ),
        sa.PrimaryKeyConstraint("origin_id", "module", "version", name=op.f("pk_git_pins")),
    )
    op.create_index(op.f("ix_git_pins_repository"), "git_pins", ["repository"], unique=False)
    with op.batch_alter_table("route_upstreams") as batch:
        batch.add_column(sa.Column("host_keys", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("route_upstreams") as batch:
        batch.drop_column("host_keys")
    op.drop_table("git_pins")
    op.drop_table("git_listings")
