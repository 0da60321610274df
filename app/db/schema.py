"""Upgrading a database to the schema of this program, or refusing to use the database.

The revisions are in `migrations/`; this file runs them and compares revisions.
"""

import logging
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

import app.db.audit
import app.db.channels
import app.db.credentials
import app.db.denials
import app.db.derived
import app.db.enroltokens
import app.db.fleetkeys
import app.db.generation
import app.db.githooks
import app.db.gits
import app.db.grants
import app.db.imageindexes
import app.db.installation
import app.db.jobs
import app.db.keyrings
import app.db.leases
import app.db.moduleanswers
import app.db.moduleconflicts
import app.db.modules
import app.db.nodeevents
import app.db.nodes
import app.db.origins
import app.db.ownership
import app.db.published
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
import app.db.withdrawals
from app.core.errors import SchemaError
from app.db.installation import InstallationRow
from app.db.postgresql import WITHOUT_LIMITS
from app.db.sqlite import only_value
from app.db.transactions import error_of

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
    return _revisions(MIGRATIONS)[0]


@lru_cache
def _revisions(migrations: Path) -> tuple[str, frozenset[str]]:
    """Return the newest revision in a folder, and all of them."""
    scripts = ScriptDirectory.from_config(alembic_config())
    head = scripts.get_current_head()
    if head is None:
        raise SchemaError(f"no migrations in {migrations}: the installation is incomplete")
    return head, frozenset(script.revision for script in scripts.walk_revisions())


def present_revision(engine: Engine) -> str | None:
    """Return the revision that the database is at; None if it is empty.

    Raises:
        DatabaseBusyError: the database can't be opened.
    """
    try:
        with engine.connect() as connection:
            return _revision(connection)
    except DBAPIError as error:
        raise error_of(error) from error


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def is_needed_file(path: Path) -> bool:
    """Whether an SQLite file is at the needed revision, so that `upgrade` has nothing to do.

    Raises:
        DatabaseBusyError: the file can't be read.
    """
    if not path.exists() or not path.stat().st_size:
        return False
    return only_value(path, "alembic_version", "version_num") == needed_revision()


def check_schema(engine: Engine) -> None:
    """Accept a database that this program can serve; see `require_schema`.

    Raises:
        SchemaError: the database is empty, too old or too new; the message says what to do.
        DatabaseBusyError: the database can't be opened.
    """
    try:
        with engine.connect() as connection:
            require_schema(connection)
    except DBAPIError as error:
        raise error_of(error) from error


def require_schema(connection: Connection) -> None:
    """Accept the schema that this program needs, and newer ones that it can serve.

    A migration only adds, so that replicas of the release before go on while replicas of a newer
    one start. A migration that takes something away names in the database the oldest program that
    can do without.

    Raises:
        SchemaError: the database is empty, too old or too new; the message says what to do.
    """
    needed, known = _revisions(MIGRATIONS)
    present = _revision(connection)
    if present == needed:
        return
    if present is None:
        raise SchemaError(f"the database is empty; run `moorage migrate` (to {needed})")
    if present in known:
        raise SchemaError(
            f"the database is at the older schema {present} and this program needs {needed}; "
            "run `moorage migrate`"
        )
    oldest = connection.execute(select(InstallationRow.oldest_program)).scalar_one()
    # Revisions are numbers of four digits.
    if needed < oldest:
        raise SchemaError(
            f"the database is at schema {present}, which serves programs from {oldest} on, and "
            f"this program (at {needed}) is too old: a newer Moorage has migrated it; run that "
            "version, or restore a backup"
        )


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Upgrade the database to the needed revision; return (before, after).

    Of several at once one upgrades, and the others wait. A database that a newer program has
    migrated and this one can serve stays as it is.

    Raises:
        SchemaError: a newer program has migrated the database, and this one can't serve it.
        DatabaseBusyError: the database can't be opened, or a session holds what would be changed.
    """
    needed, known = _revisions(MIGRATIONS)
    if engine.dialect.name == "sqlite" and present_revision(engine) == needed:
        return needed, needed  # a start: the writer's lock is not needed
    patient = engine.execution_options(**{WITHOUT_LIMITS: True})
    try:
        with patient.begin() as connection:
            before = _revision(connection)
            if before is None or (before in known and before != needed):
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                return before, needed
            require_schema(connection)
            return before, before
    except DBAPIError as error:
        raise error_of(error) from error
