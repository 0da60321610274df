"""Tenants and the module proxy."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "downloads",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "tenant", "token", "module", "version", name=op.f("pk_downloads")
        ),
    )
    with op.batch_alter_table("downloads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_downloads_module"), ["module"], unique=False)

    op.create_table(
        "origins",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_origins")),
        sa.UniqueConstraint("key", name=op.f("uq_origins_key")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("default_effect", sa.String(), nullable=False),
        sa.Column("anonymous_read", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("max_streams", sa.Integer(), nullable=True),
        sa.Column("max_cold", sa.Integer(), nullable=True),
        sa.Column("max_rate", sa.Integer(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_credentials_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_credentials_tenant_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "module_answers",
        sa.Column("origin_id", sa.Integer(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("query", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("fetched_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["origin_id"], ["origins.id"], name=op.f("fk_module_answers_origin_id_origins")
        ),
        sa.PrimaryKeyConstraint("origin_id", "module", "query", name=op.f("pk_module_answers")),
    )
    op.create_table(
        "module_conflicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin_id", sa.Integer(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("recorded", sa.String(), nullable=False),
        sa.Column("seen", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["origin_id"], ["origins.id"], name=op.f("fk_module_conflicts_origin_id_origins")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_module_conflicts")),
        sa.UniqueConstraint(
            "origin_id",
            "module",
            "version",
            "kind",
            "seen",
            name=op.f("uq_module_conflicts_origin_id"),
        ),
    )
    op.create_table(
        "module_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin_id", sa.Integer(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("h1", sa.String(), nullable=False),
        sa.Column("go_mod_h1", sa.String(), nullable=False),
        sa.Column("log_state", sa.String(), nullable=False),
        sa.Column("stored_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["blob_sha256"], ["blobs.sha256"], name=op.f("fk_module_files_blob_sha256_blobs")
        ),
        sa.ForeignKeyConstraint(
            ["origin_id"], ["origins.id"], name=op.f("fk_module_files_origin_id_origins")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_module_files")),
        sa.UniqueConstraint(
            "origin_id", "module", "version", "kind", name=op.f("uq_module_files_origin_id")
        ),
    )
    with op.batch_alter_table("module_files", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_module_files_blob_sha256"), ["blob_sha256"], unique=False
        )

    op.create_table(
        "owned_prefixes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_owned_prefixes_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owned_prefixes")),
        sa.UniqueConstraint("prefix", name=op.f("uq_owned_prefixes_prefix")),
    )
    with op.batch_alter_table("owned_prefixes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_owned_prefixes_tenant_id"), ["tenant_id"], unique=False
        )

    op.create_table(
        "routes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("pattern", sa.String(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("off", sa.Boolean(), nullable=False),
        sa.Column("forks", sa.Boolean(), nullable=False),
        sa.Column("ttl_s", sa.Integer(), nullable=False),
        sa.Column("log_policy", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_routes_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routes")),
        sa.UniqueConstraint("tenant_id", "pattern", name=op.f("uq_routes_tenant_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=True),
        sa.Column("effect", sa.String(), nullable=False),
        sa.Column("pattern", sa.String(), nullable=False),
        sa.Column("versions", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_rules_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rules")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rules_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "tenant_hosts",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_tenant_hosts_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_tenant_hosts")),
    )
    with op.batch_alter_table("tenant_hosts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tenant_hosts_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "prefix_grants",
        sa.Column("prefix_id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prefix_id"],
            ["owned_prefixes.id"],
            name=op.f("fk_prefix_grants_prefix_id_owned_prefixes"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_prefix_grants_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("prefix_id", "tenant_id", name=op.f("pk_prefix_grants")),
    )
    op.create_table(
        "route_upstreams",
        sa.Column("route_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("origin_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("credential_id", sa.Integer(), nullable=True),
        sa.Column("on_absent", sa.String(), nullable=False),
        sa.Column("redirect_to", sa.String(), nullable=False),
        sa.Column("connect_s", sa.Double(), nullable=False),
        sa.Column("metadata_s", sa.Double(), nullable=False),
        sa.Column("zip_s", sa.Double(), nullable=False),
        sa.Column("ca_pem", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credentials.id"],
            name=op.f("fk_route_upstreams_credential_id_credentials"),
        ),
        sa.ForeignKeyConstraint(
            ["origin_id"], ["origins.id"], name=op.f("fk_route_upstreams_origin_id_origins")
        ),
        sa.ForeignKeyConstraint(
            ["route_id"], ["routes.id"], name=op.f("fk_route_upstreams_route_id_routes")
        ),
        sa.PrimaryKeyConstraint("route_id", "position", name=op.f("pk_route_upstreams")),
    )
    with op.batch_alter_table("route_upstreams", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_route_upstreams_credential_id"), ["credential_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_route_upstreams_origin_id"), ["origin_id"], unique=False
        )

    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.alter_column("scope", new_column_name="scopes", existing_type=sa.String())
        batch_op.add_column(sa.Column("tenant_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("last_used_on", sa.Date(), nullable=True))
        batch_op.create_index(batch_op.f("ix_tokens_tenant_id"), ["tenant_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_tokens_tenant_id_tenants"), "tenants", ["tenant_id"], ["id"]
        )


def downgrade() -> None:
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.alter_column("scopes", new_column_name="scope", existing_type=sa.String())
        batch_op.drop_constraint(batch_op.f("fk_tokens_tenant_id_tenants"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_tokens_tenant_id"))
        batch_op.drop_column("last_used_on")
        batch_op.drop_column("tenant_id")

    with op.batch_alter_table("route_upstreams", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_route_upstreams_origin_id"))
        batch_op.drop_index(batch_op.f("ix_route_upstreams_credential_id"))

    op.drop_table("route_upstreams")
    op.drop_table("prefix_grants")
    with op.batch_alter_table("tenant_hosts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tenant_hosts_tenant_id"))

    op.drop_table("tenant_hosts")
    with op.batch_alter_table("rules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rules_tenant_id"))

    op.drop_table("rules")
    op.drop_table("routes")
    with op.batch_alter_table("owned_prefixes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_owned_prefixes_tenant_id"))

    op.drop_table("owned_prefixes")
    with op.batch_alter_table("module_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_module_files_blob_sha256"))

    op.drop_table("module_files")
    op.drop_table("module_conflicts")
    op.drop_table("module_answers")
    op.drop_table("credentials")
    op.drop_table("tenants")
    op.drop_table("origins")
    with op.batch_alter_table("downloads", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_downloads_module"))

    op.drop_table("downloads")
