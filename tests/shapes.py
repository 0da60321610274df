"""The shape that a test runs in: which database its installations have.

Every function of the tests that makes settings takes `place_of` its folder. So a test follows its
mark `both_shapes`, and all tests follow `MOORAGE_TEST_SHAPE`.
"""

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests import postgres


class Shape(StrEnum):
    """Which database a test uses."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


SECRETS_KEY = base64.b64encode(b"k" * 32).decode()
"""What replicas that share a database are given."""
DEFAULT_SHAPE = Shape(os.environ.get("MOORAGE_TEST_SHAPE", Shape.SQLITE))

_shapes = [DEFAULT_SHAPE]
_databases: dict[Path, str] = {}


@contextmanager
def shaped(shape: Shape) -> Iterator[None]:
    """Return a context in which `place_of` is about a shape."""
    _shapes.append(shape)
    try:
        yield
    finally:
        _shapes.pop()


def place_of(folder: Path) -> dict[str, Any]:
    """Return the settings of the database of an installation in a folder.

    None on SQLite, whose file is in the data directory. On PostgreSQL the folder has a migrated
    database of its own, the same one at each call.
    """
    if _shapes[-1] is Shape.SQLITE:
        return {}
    if folder not in _databases:
        _databases[folder] = postgres.cluster().create(postgres.migrated_template())
    return _place(_databases[folder])


def copied_place(original: Path, folder: Path) -> dict[str, Any]:
    """Return the settings of a copy of another folder's database, which nobody may have open."""
    if original in _databases:
        _databases[folder] = postgres.cluster().create(_databases[original])
    return place_of(folder)


def drop_databases(below: Path) -> None:
    """Remove the databases of the folders below a folder, and of the folder itself."""
    for folder in [folder for folder in _databases if folder.is_relative_to(below)]:
        postgres.cluster().drop(_databases.pop(folder))


def _place(name: str) -> dict[str, Any]:
    return {"database_url": postgres.cluster().url(name), "secrets_key": SECRETS_KEY}
