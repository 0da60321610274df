"""What a start asks an SQLite file before it makes an engine."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from app.core.errors import DatabaseBusyError
from app.db.schema import is_needed_file, needed_revision
from app.db.sqlite import only_value
from app.wiring import migrate
from tests.installation import migrated_url
from tests.web.harbour import proxy_settings


def test_only_value_is_that_of_the_row(tmp_path: Path) -> None:
    path = tmp_path / "moorage.db"
    migrated_url(path)
    assert only_value(path, "alembic_version", "version_num") == needed_revision()
    assert only_value(path, "no_such_table", "version_num") is None


def test_only_value_of_what_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "moorage.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseBusyError):
        only_value(path, "alembic_version", "version_num")
    assert path.read_bytes() == b"no database" * 1000


def test_a_file_is_needed_at_its_revision_alone(tmp_path: Path) -> None:
    path = tmp_path / "moorage.db"
    assert not is_needed_file(path)
    path.touch()
    assert not is_needed_file(path)
    path.unlink()
    migrated_url(path)
    assert is_needed_file(path)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '0001'")
    assert not is_needed_file(path)


@contextmanager
def connections() -> Iterator[list[object]]:
    """Yield the connections that engines open in the context."""
    opened: list[object] = []

    def note(connection: object, _record: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", note)
    try:
        yield opened
    finally:
        event.remove(Pool, "connect", note)


def test_a_start_makes_no_engine_to_see_that_nothing_is_to_be_migrated(tmp_path: Path) -> None:
    settings = proxy_settings(tmp_path)
    with connections() as opened:
        migrate(settings)
        assert opened
    with connections() as opened:
        assert migrate(settings) == (needed_revision(), needed_revision())
        assert not opened
