"""Upgrading a database to the schema of this program, or refusing to use the database.

The revisions are in `migrations/`; this file runs them and compares revisions.
"""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

import app.db.audit
import app.db.channels
import app.db.credentials
import app.db.denials
import app.db.derived
import app.db.fleetkeys
import app.db.generation
import app.db.gits
import app.db.grants
import app.db.imageindexes
import app.db.installation
import app.db.jobs
import app.db.keyrings
import app.db.leases
import app.db.moduleanswers
import app.db.modules
import app.db.nodes
import app.db.origins
import app.db.ownership
import app.db.releaseindex
import app.db.releases
import app.db.rollouts
import app.db.routes
import app.db.rules
import app.db.sumdb
import app.db.tenantlogs
import app.db.tenants
import app.db.tokens
import app.db.usage
import app.db.webhooks
from app.core.errors import DatabaseBusyError, SchemaError

_PACKAGED = Path(app.__file__).parent / "_migrations"
_SOURCE_TREE = Path(app.__file__).parents[1] / "migrations"
# At INFO, Alembic logs the dialect each time a revision is read.
logging.getLogger("alembic").setLevel(logging.WARNING)
MIGRATIONS = _PACKAGED if _PACKAGED.is_dir() else _SOURCE_TREE


def alembic_config() -> Config:
    """Return Alembic's configuration; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def needed_revision() -> str:
    """Return the revision that this program needs."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise SchemaError(f"no migrations in {MIGRATIONS}: the installation is incomplete")
    return head


def present_revision(engine: Engine) -> str | None:
    """Return the revision that the database is at; None if it is empty.

    Raises:
        DatabaseBusyError: the database can't be opened.
    """
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise DatabaseBusyError(
            f"the database can't be opened: {' '.join(str(error.orig).split())[:300]}"
        ) from error


def check_schema(engine: Engine) -> None:
    """Accept a database that has exactly the schema that this program needs.

    Raises:
        SchemaError: the database is empty, older or newer; the message says what to do.
    """
    needed, present = needed_revision(), present_revision(engine)
    if present == needed:
        return
    if present is None:
        raise SchemaError(f"the database is empty; run `moorage migrate` (to {needed})")
    known = {
        script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()
    }
    if present in known:
        raise SchemaError(
            f"the database is at the older schema {present} and this program needs {needed}; "
            "run `moorage migrate`"
        )
    raise SchemaError(
        f"the database is at schema {present}, which this program (at {needed}) "
        "does not know: a newer Moorage has migrated it; run that version, or restore a backup"
    )


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Upgrade the database to the needed revision; return (before, after).

    Raises:
        SchemaError: a newer program has migrated the database.
    """
    before, needed = present_revision(engine), needed_revision()
    if before == needed:
        return before, needed
    config = alembic_config()
    if before is not None:
        known = {s.revision for s in ScriptDirectory.from_config(config).walk_revisions()}
        if before not in known:
            check_schema(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, needed
