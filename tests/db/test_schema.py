"""Migrations on real SQLite files, and the refusals of databases that don't fit this program."""

import multiprocessing
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from app.core.errors import DatabaseBusyError, SchemaError
from app.db import schema
from app.db.base import Base
from app.db.engine import Database, make_engine
from app.db.generation import current_generation
from app.db.schema import check_schema, needed_revision, present_revision, upgrade
from app.db.sqlite import sqlite_url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = make_engine(url)
    yield made
    made.dispose()


@contextmanager
def also_open(url: str) -> Iterator[Engine]:
    made = make_engine(url)
    try:
        yield made
    finally:
        made.dispose()


def dump(engine: Engine) -> list[str]:
    """Return what tells one schema from another."""
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
    if engine.dialect.name == "postgresql":
        query = (
            "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable)"
            " FROM information_schema.columns WHERE table_schema = 'public'"
        )
    with engine.connect() as connection:
        return sorted(connection.execute(text(query)).scalars())


def words(constraint: Mapping[str, Any]) -> str:
    """Return what inspection tells of a constraint; the condition of an index as its text."""
    options = {name: str(value) for name, value in constraint.get("dialect_options", {}).items()}
    return repr({**constraint, "dialect_options": options})


def set_revision(engine: Engine, revision: str, oldest: str) -> None:
    """Let a newer program have migrated the database, which serves programs from `oldest` on."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        connection.execute(text("UPDATE installation SET oldest_program = :o"), {"o": oldest})


@pytest.fixture
def one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This program as if it had one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_one_more.py").write_text(
        f'from alembic import op\n\nrevision = "9999"\ndown_revision = "{needed_revision()}"\n'
        "def upgrade():\n"
        '    op.execute("CREATE TABLE more (id INTEGER)")\n'
        '    op.execute("UPDATE generation SET value = 7")\n'
    )
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    yield


@pytest.mark.both_shapes
def test_the_migrations_build_every_table_of_the_metadata(engine: Engine) -> None:
    assert upgrade(engine) == (None, needed_revision())
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


@pytest.mark.both_shapes
def test_autogenerate_finds_no_difference_to_the_metadata(engine: Engine) -> None:
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.only_sqlite
def test_the_constraints_are_those_of_the_metadata(engine: Engine, tmp_path: Path) -> None:
    """Autogenerate compares neither nullability of keys nor every constraint on SQLite."""
    upgrade(engine)
    with also_open(sqlite_url(tmp_path / "direct.db")) as direct:
        Base.metadata.create_all(direct)
        built, declared = inspect(engine), inspect(direct)
        for table in Base.metadata.tables:
            for ask in ("get_foreign_keys", "get_unique_constraints", "get_indexes"):
                actual, expected = (
                    sorted(map(words, getattr(inspector, ask)(table)))
                    for inspector in (built, declared)
                )
                assert actual == expected, f"{table}: {ask}"
            assert built.get_pk_constraint(table) == declared.get_pk_constraint(table)
            nullable, expected = (
                {c["name"]: c["nullable"] for c in inspector.get_columns(table)}
                for inspector in (built, declared)
            )
            assert nullable == expected, table


def test_a_second_upgrade_changes_nothing(engine: Engine) -> None:
    upgrade(engine)
    before = dump(engine)
    assert upgrade(engine) == (needed_revision(), needed_revision())
    assert dump(engine) == before
    with engine.connect() as connection:
        for table in ("generation", "index_status"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 1


def test_a_database_at_the_needed_schema_passes(engine: Engine) -> None:
    upgrade(engine)
    check_schema(engine)


@pytest.mark.both_shapes
def test_an_empty_database_is_refused_and_stays_empty(engine: Engine) -> None:
    with pytest.raises(SchemaError, match=r"is empty; run `moorage migrate`"):
        check_schema(engine)
    assert dump(engine) == []


def test_an_older_database_is_refused_with_both_revisions(engine: Engine, one_more: None) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0001')"))
    with pytest.raises(
        SchemaError, match=r"older schema 0001 .* needs 9999; run `moorage migrate`"
    ):
        check_schema(engine)


def test_an_older_database_is_upgraded_with_its_rows(
    engine: Engine, request: pytest.FixtureRequest
) -> None:
    old = upgrade(engine)[1]
    request.getfixturevalue("one_more")
    assert upgrade(engine) == (old, "9999")
    check_schema(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT value FROM generation")).scalar_one() == 7


@pytest.mark.parametrize("ask", [check_schema, upgrade], ids=["check", "upgrade"])
def test_a_newer_database_is_refused_and_left_alone(engine: Engine, ask: object) -> None:
    upgrade(engine)
    set_revision(engine, "9998", oldest="9997")
    before = dump(engine)
    with pytest.raises(SchemaError, match=r"schema 9998, .* from 9997 on, .* is too old: a newer"):
        ask(engine)  # type: ignore[operator]
    assert (dump(engine), present_revision(engine)) == (before, "9998")


@pytest.mark.both_shapes
def test_a_newer_schema_that_only_adds_is_served_and_left_alone(engine: Engine) -> None:
    needed = upgrade(engine)[1]
    set_revision(engine, "9998", oldest=needed)
    check_schema(engine)
    assert upgrade(engine) == ("9998", "9998")


@pytest.mark.both_shapes
def test_a_failing_migration_leaves_the_schema_as_it_was(
    engine: Engine, request: pytest.FixtureRequest
) -> None:
    old = upgrade(engine)[1]
    before = dump(engine)
    request.getfixturevalue("one_more")
    versions = schema.MIGRATIONS / "versions" / "9999_one_more.py"
    versions.write_text(versions.read_text() + "    raise LookupError('half way')\n")
    with pytest.raises(LookupError, match="half way"):
        upgrade(engine)
    assert (dump(engine), present_revision(engine)) == (before, old)


def test_a_file_that_is_no_database_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "bad.db"
    path.write_bytes(b"not a database" * 500)
    with also_open(sqlite_url(path)) as engine, pytest.raises(DatabaseBusyError):
        check_schema(engine)


def _upgrade_in_a_process(url: str, start: Barrier) -> None:
    engine = make_engine(url)
    start.wait(30)
    upgrade(engine)
    engine.dispose()


@pytest.mark.both_shapes
def test_processes_that_upgrade_at_once_all_succeed(url: str, engine: Engine) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(3)
    processes = [spawn.Process(target=_upgrade_in_a_process, args=(url, start)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    check_schema(engine)


def test_threads_that_upgrade_at_once_all_succeed(url: str, engine: Engine) -> None:
    def run(_: int) -> None:
        with also_open(url) as own:
            upgrade(own)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    check_schema(engine)


async def test_the_first_migration_sets_the_generation(url: str) -> None:
    with closing(Database(url)) as database:
        upgrade(database.engine)
        assert await database.read(current_generation) == 1
