"""A data folder belongs to one database: another one is refused before anything is repaired."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.errors import SettingsError, UnfitDatabaseError
from app.db.engine import Database
from app.db.installation import database_uid
from app.services.datafolder import require_key
from app.services.fsck import FsckProblem
from app.services.secrets import SecretBox
from app.settings import Settings
from app.wiring import build, migrate
from tests.conftest import MakeSettings
from tests.fakes.s3 import FakeS3, storage_of
from tests.installation import running

OTHER = "f" * 32


def make_other(settings: Settings) -> None:
    """Give the database another identity, as another database has."""
    with (
        closing(Database(settings.resolved_database_url)) as database,
        database.engine.begin() as connection,
    ):
        connection.execute(text("UPDATE installation SET uid = :uid"), {"uid": OTHER})


async def test_a_folder_without_a_mark_gets_that_of_its_database(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings()
    async with running(settings) as services:
        uid = await services.shared.db.read(database_uid)
        assert (settings.data_dir / "database.id").read_text() == f"{uid}\n"
        assert len(uid) == 32
    async with running(settings):
        pass


async def test_F80_the_folder_of_another_database_is_refused_until_an_operator_binds_it(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings()
    async with running(settings) as services:
        await services.shared.store.put(b"a blob of this database")
    make_other(settings)
    with pytest.raises(UnfitDatabaseError, match="moorage migrate --bind") as refused:
        async with running(settings):
            pass
    assert "\n" not in str(refused.value)


def test_binding_is_audited_and_done_once(make_settings: MakeSettings) -> None:
    settings = make_settings()
    migrate(settings)
    (settings.data_dir / "database.id").write_text(f"{OTHER}\n")
    for _ in range(2):
        migrate(settings, bind=True)
    with (
        closing(Database(settings.resolved_database_url)) as database,
        database.reader.connect() as connection,
    ):
        [(uid,)] = connection.execute(text("SELECT uid FROM installation"))
        query = "SELECT actor, object, detail FROM audit WHERE action = 'database.bind'"
        rows = [tuple(row) for row in connection.execute(text(query))]
    assert rows == [("cli", f"database:{uid}", f"the folder had '{OTHER}'")]
    assert (settings.data_dir / "database.id").read_text() == f"{uid}\n"


@pytest.mark.only_sqlite
def test_two_databases_have_two_identities(make_settings: MakeSettings, tmp_path: Path) -> None:
    uids = set()
    for name in ("one", "two"):
        settings = make_settings(data_dir=tmp_path / name)
        migrate(settings)
        with closing(sqlite3.connect(settings.data_dir / "moorage.db")) as connection:
            uids.add(connection.execute("SELECT uid FROM installation").fetchone())
    assert len(uids) == 2


@pytest.mark.only_sqlite
async def test_F80_fsck_begins_with_the_database_and_looks_no_further_if_that_is_malformed(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings()
    async with running(settings) as services:
        digest = await services.shared.store.put(b"an orphan")
        path = settings.data_dir / "moorage.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [(page,)] = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'audit'"
            ).fetchall()
            [(size,)] = connection.execute("PRAGMA page_size").fetchall()
        with path.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
        report = await services.upkeep.fsck.run(deep=False, repair=True)
        [finding] = report.findings
        assert (finding.problem, finding.harmful) == (FsckProblem.DATABASE, True)
        assert "malformed" in finding.action
        assert finding.result == "nothing: restore a backup"
        assert digest in [blob.digest for blob in services.shared.store.walk()]


async def test_a_bucket_belongs_to_one_database(
    make_settings: MakeSettings, tmp_path: Path, s3: FakeS3
) -> None:
    storage = storage_of(s3.place("moorage"))
    async with running(make_settings(storage=storage)):
        pass
    other = make_settings(storage=storage, data_dir=tmp_path / "other")
    migrate(other)
    make_other(other)
    with pytest.raises(UnfitDatabaseError, match="belongs to another database"):
        async with running(other):
            pass
    await asyncio.to_thread(migrate, other, bind=True)
    async with running(other):
        pass
    with pytest.raises(UnfitDatabaseError, match="belongs to another database"):
        async with running(make_settings(storage=storage)):
            pass


async def test_a_database_belongs_to_one_bucket(make_settings: MakeSettings, s3: FakeS3) -> None:
    async with running(make_settings(storage=storage_of(s3.place()))):
        pass
    other = make_settings(storage=storage_of(s3.place()))
    with pytest.raises(UnfitDatabaseError, match="in another store"):
        async with running(other):
            pass
    await asyncio.to_thread(migrate, other, bind=True)
    async with running(other):
        pass


async def test_every_replica_has_the_key_of_the_first(database: Database) -> None:
    key, another = SecretBox(b"k" * 32), SecretBox(b"K" * 32)
    await require_key(database, key)
    await require_key(database, key)
    with pytest.raises(UnfitDatabaseError, match="not the key of this database"):
        await require_key(database, another)


def test_a_database_of_several_hosts_needs_a_key_from_outside(make_settings: MakeSettings) -> None:
    settings = make_settings(database_url="postgresql+psycopg://h/x", secrets_key=None)
    with pytest.raises(SettingsError, match="openssl rand"):
        build(settings)
    assert not (settings.data_dir / "keys" / "secrets.key").exists()
