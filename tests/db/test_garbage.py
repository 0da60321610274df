"""A row names a blob by a foreign key and by nothing else: `moorage gc` looks at nothing else."""

import app.db.schema  # noqa: F401 (imports every table)
from app.db.base import Base

NO_NAMES_OF_BLOBS = {
    "blobs.sha256": "the blob itself",
    "derived_files.tar_sha256": "of the tar inside an archive",
    "enrol_tokens.sha256": "of a secret",
    "git_hook_deliveries.body_sha256": "of a message",
    "image_indexes.sha256": "of the row's own body",
    "index_conflicts.recorded_sha256": "evidence without bytes",
    "index_conflicts.seen_sha256": "evidence without bytes",
    "keyrings.sha256": "of the row's own body",
    "log_evidence.sha256": "of the row's own body",
    "module_files.sha256": "of bytes in the row, or of those that blob_sha256 names",
    "nodes.sha256": "of a secret",
    "own_keyrings.sha256": "of the row's own body",
    "published_versions.sha256": "of the zip that the module file names",
    "release_files.sha256": "of the index; blob_sha256 names the bytes",
    "release_verdicts.keyring_sha256": "of a keyring's row",
    "tokens.sha256": "of a secret",
}


def test_every_digest_without_a_foreign_key_is_known_to_name_no_blob() -> None:
    """A column that names a blob needs the foreign key: `moorage gc` looks at nothing else."""
    columns = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if "sha256" in column.name and not column.foreign_keys
    }
    assert columns == NO_NAMES_OF_BLOBS.keys()
