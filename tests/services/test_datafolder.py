"""A data folder belongs to one database: another one is refused before anything is repaired."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.errors import UnfitDatabaseError
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.installation import database_uid
from app.services.clock import utc_now
from app.services.fsck import FsckProblem
from app.settings import Settings
from app.wiring import migrate
from tests.conftest import MakeSettings
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


def test_another_database_than_the_folders_is_not_migrated(make_settings: MakeSettings) -> None:
    settings = make_settings()
    migrate(settings)
    (settings.data_dir / "database.id").write_text(f"{OTHER}\n")
    with pytest.raises(UnfitDatabaseError, match="belongs to another database"):
        migrate(settings)


@pytest.mark.only_sqlite
def test_no_new_database_is_made_in_the_place_of_a_lost_one(make_settings: MakeSettings) -> None:
    settings = make_settings()
    settings.data_dir.mkdir(mode=0o700)
    (settings.data_dir / "database.id").write_text(f"{OTHER}\n")
    with pytest.raises(UnfitDatabaseError, match="is empty: name that database"):
        migrate(settings)
    assert not (settings.data_dir / "moorage.db").exists()
    migrate(settings, bind=True)
    assert (settings.data_dir / "moorage.db").exists()
    migrate(settings)


@pytest.mark.only_sqlite
async def test_a_new_folder_without_the_blobs_of_its_database_is_refused(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings()
    async with running(settings) as services:
        digest = await services.shared.store.put(b"a blob")
        await services.shared.db.write(lambda s: Blobs(s).record(digest, 6, utc_now()))
    (settings.data_dir / "database.id").unlink()
    async with running(settings):  # the blobs are there: the mark alone was lost
        pass
    (settings.data_dir / "database.id").unlink()
    shutil.rmtree(settings.data_dir / "blobs")
    with pytest.raises(UnfitDatabaseError, match="has none of 1 that were looked for"):
        async with running(settings):
            pass
    assert not (settings.data_dir / "database.id").exists()
    await asyncio.to_thread(migrate, settings, bind=True)
    async with running(settings):
        pass
