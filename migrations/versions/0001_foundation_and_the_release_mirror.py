"""Foundation and the release mirror."""

import sqlalchemy as sa
from alembic import op

from app.db.base import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("object", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("prev_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("damaged", sa.Boolean(), nullable=False),
        sa.Column("stored_at", UtcDateTime(), nullable=False),
        sa.Column("checked_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_table(
        "generation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("result", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_table(
        "keyrings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("armored", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keyrings")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tokens_sha256")),
    )
    op.create_table(
        "index_documents",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("first_read_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name=op.f("fk_index_documents_sha256_blobs")
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_index_documents")),
    )
    op.create_table(
        "index_conflicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("recorded_sha256", sa.String(), nullable=False),
        sa.Column("recorded_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("seen_sha256", sa.String(), nullable=False),
        sa.Column("seen_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("index_sha256", sa.String(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["index_sha256"],
            ["index_documents.sha256"],
            name=op.f("fk_index_conflicts_index_sha256_index_documents"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_index_conflicts")),
        sa.UniqueConstraint(
            "filename", "seen_sha256", "seen_size_bytes", name=op.f("uq_index_conflicts_filename")
        ),
    )
    op.create_table(
        "index_status",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("read_at", UtcDateTime(), nullable=True),
        sa.Column("tried_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["document"],
            ["index_documents.sha256"],
            name=op.f("fk_index_status_document_index_documents"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_index_status")),
    )
    op.create_table(
        "release_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("stable", sa.Boolean(), nullable=False),
        sa.Column("os", sa.String(), nullable=False),
        sa.Column("arch", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("index_sha256", sa.String(), nullable=False),
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.Column("blob_sha256", sa.String(), nullable=True),
        sa.Column("ingested_at", UtcDateTime(), nullable=True),
        sa.Column("source_url", sa.String(), nullable=True),
        sa.Column("signature", sa.LargeBinary(), nullable=True),
        sa.Column("toolchain_version", sa.String(), nullable=True),
        sa.Column("toolchain_h1", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["blob_sha256"], ["blobs.sha256"], name=op.f("fk_release_files_blob_sha256_blobs")
        ),
        sa.ForeignKeyConstraint(
            ["index_sha256"],
            ["index_documents.sha256"],
            name=op.f("fk_release_files_index_sha256_index_documents"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_files")),
        sa.UniqueConstraint("filename", name=op.f("uq_release_files_filename")),
    )
    with op.batch_alter_table("release_files", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_release_files_sha256"), ["sha256"], unique=False)
        batch_op.create_index(batch_op.f("ix_release_files_version"), ["version"], unique=False)

    op.create_table(
        "release_verdicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("file_id", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("subkey", sa.String(), nullable=True),
        sa.Column("primary", sa.String(), nullable=True),
        sa.Column("signed_at", UtcDateTime(), nullable=True),
        sa.Column("keyring_sha256", sa.String(), nullable=False),
        sa.Column("gpg_version", sa.String(), nullable=False),
        sa.Column("judged_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["release_files.id"],
            name=op.f("fk_release_verdicts_file_id_release_files"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_verdicts")),
    )
    with op.batch_alter_table("release_verdicts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_release_verdicts_file_id"), ["file_id"], unique=False)
    op.execute("INSERT INTO generation (id, value) VALUES (1, 1)")
    op.execute("INSERT INTO index_status (id, error) VALUES (1, '')")


def downgrade() -> None:
    with op.batch_alter_table("release_verdicts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_release_verdicts_file_id"))

    op.drop_table("release_verdicts")
    with op.batch_alter_table("release_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_release_files_version"))
        batch_op.drop_index(batch_op.f("ix_release_files_sha256"))

    op.drop_table("release_files")
    op.drop_table("index_status")
    op.drop_table("index_conflicts")
    op.drop_table("index_documents")
    op.drop_table("tokens")
    op.drop_table("leases")
    op.drop_table("keyrings")
    op.drop_table("jobs")
    op.drop_table("generation")
    op.drop_table("blobs")
    op.drop_table("audit")
