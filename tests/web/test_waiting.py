"""A replica whose database can't be served yet: it lives, is not ready, says why, and waits."""

import asyncio

import httpx
import pytest
from sqlalchemy import text

from app.db.engine import Database
from app.db.schema import needed_revision, upgrade
from app.main import Application
from app.wiring import build
from tests.conftest import MakeSettings
from tests.installation import without_a_pause

pytestmark = pytest.mark.only_postgresql


async def ask(application: Application, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(application)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://moorage") as client:
        return await client.get(path)


async def test_a_replica_waits_for_the_migration_and_then_serves(
    make_settings: MakeSettings, url: str
) -> None:
    application = Application(
        build(make_settings(database_url=url), pause=without_a_pause), leads=False
    )
    database = Database(url)
    await application.start()
    try:
        waiting = await ask(application, "/readyz")
        assert waiting.status_code == 503
        assert "run `moorage migrate`" in waiting.json()["checks"]["database"]
        assert (await ask(application, "/healthz")).status_code == 200
        for path in ("/dl/", "/goproxy/default/example.com/x/@v/list", "/api/v1/tenants", "/"):
            refused = await ask(application, path)
            assert refused.status_code == 503, path
            assert "/readyz says why" in refused.text
        await asyncio.to_thread(upgrade, database.engine)
        while application.health.waiting is not None:
            await asyncio.sleep(0.01)
        assert (await ask(application, "/readyz")).json()["checks"]["database"] == "ok"
        assert (await ask(application, "/dl/?mode=json")).status_code != 503
    finally:
        await application.stop()
        database.close()


async def test_a_replica_says_that_a_newer_one_has_left_it_behind(
    make_settings: MakeSettings, database: Database
) -> None:
    """The schema changes under a running process, which was at the newest one at its start."""
    application = Application(build(make_settings(), pause=without_a_pause), leads=False)
    await application.start()
    try:
        assert (await ask(application, "/readyz")).json()["checks"]["database"] == "ok"
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9998'"))
        assert (await ask(application, "/readyz")).json()["checks"]["database"] == "ok"
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE installation SET oldest_program = '9998'"))
        behind = await ask(application, "/readyz")
        assert behind.status_code == 503
        assert f"this program (at {needed_revision()}) is too old" in behind.text
    finally:
        await application.stop()
