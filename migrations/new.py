"""Write the next revision: `.venv/bin/python migrations/new.py "note of a route"`.

Alembic compares the rows in `app/db` with an empty database that the present revisions have built.
The new file is a draft: read it, and correct what Alembic cannot see (renamed columns, moved rows).
"""

import sys
import tempfile
from pathlib import Path

from alembic import command

from app.db.engine import make_engine
from app.db.schema import alembic_config, needed_revision, upgrade
from app.db.sqlite import sqlite_url


def main(message: str) -> None:
    """Write `versions/NNNN_message.py`, where NNNN is the present revision plus one."""
    revision = f"{int(needed_revision()) + 1:04}"
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(sqlite_url(Path(folder) / "empty.db"))
        upgrade(engine)
        config = alembic_config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.revision(config, message, autogenerate=True, rev_id=revision)
        engine.dispose()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: .venv/bin/python migrations/new.py "what the revision does"')
    main(sys.argv[1])
