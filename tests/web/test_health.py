"""Liveness, readiness, version, metrics: what operators' tools ask."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import __version__
from app.core.digest import Digest
from app.core.errors import MoorageError
from app.core.principal import OPERATOR
from app.db.engine import Database, Session
from app.db.keyrings import Keyrings
from app.main import running
from app.storage.staging import FreeSpace
from app.web.health import Health
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.web.conftest import Mirror, Put, StartSite
from tests.web.harbour import add_tenant, harbour, settled
from tests.web.wire import Got, Site


def checks(got: Got) -> dict[str, str]:
    states = json_of(got)["checks"]
    assert isinstance(states, dict)
    return states


def json_of(got: Got) -> dict[str, object]:
    document = json.loads(got.body)
    assert isinstance(document, dict)
    return document


async def is_unready_because_of(site: Site, check: str, words: str) -> None:
    """Assert that only this check fails, that it says why, and that the process lives."""
    got = await site.ask("/readyz")
    assert got.status == 503
    assert json_of(got)["status"] == "not ready"
    states = checks(got)
    assert words in states.pop(check)
    assert set(states.values()) <= {"ok"}
    assert (await site.ask("/healthz")).status == 200


async def test_a_started_process_is_alive_and_ready(mirror: Mirror) -> None:
    assert json_of(await mirror.site.ask("/healthz")) == {"status": "ok"}
    got = await mirror.site.ask("/readyz")
    assert (got.status, json_of(got)["status"]) == (200, "ready")
    assert checks(got) == {"database": "ok", "storage": "ok", "keyring": "ok"}
    assert json_of(await mirror.site.ask("/version")) == {"version": __version__}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/metrics"])
async def test_head_works_where_operators_tools_use_it(mirror: Mirror, path: str) -> None:
    got = await mirror.site.ask(path, "HEAD")
    assert (got.status, got.body) == (200, b"")


async def test_upstream_down_does_not_make_it_unready(
    start_site: StartSite, fake: FakeGodev
) -> None:
    fake.stop()
    site = await start_site()
    assert (await site.ask("/dl/")).status >= 500
    assert (await site.ask("/readyz")).status == 200


async def test_liveness_asks_no_database(site: Site) -> None:
    site.services.shared.db.close()
    assert (await site.ask("/healthz")).status == 200
    assert (await site.ask("/version")).status == 200


async def lock_timeout(site: Site, milliseconds: int) -> None:
    """Let our writer give up on a lock sooner than after its five seconds."""

    def work(session: Session) -> None:
        session.connection().exec_driver_sql(f"PRAGMA busy_timeout={milliseconds}")

    await site.services.shared.db.write(work)


@pytest.mark.only_sqlite  # its file is locked; tests/db/test_postgresql.py has the other lock
async def test_F94_a_locked_database_makes_it_unready_until_the_lock_is_gone(site: Site) -> None:
    await lock_timeout(site, 50)
    path = site.services.shared.settings.data_dir / "moorage.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await is_unready_because_of(site, "database", "locked")
        other.execute("ROLLBACK")
    assert (await site.ask("/readyz")).status == 200


async def test_an_unreachable_database_makes_it_unready(site: Site, tmp_path: Path) -> None:
    services = site.services
    database = Database(f"sqlite:///{tmp_path}/no/such/folder/moorage.db")
    try:
        states = await Health(
            database, services.shared.store, services.releases.keyring
        ).readiness()
    finally:
        database.close()
    assert "unable to open" in states.pop("database")
    assert set(states.values()) == {"ok"}


async def test_F88_a_full_store_makes_it_unready(site: Site) -> None:
    folder = site.services.shared.settings.data_dir
    site.services.shared.store._room = FreeSpace(folder, 1.0)
    await is_unready_because_of(site, "storage", "floor")
    site.services.shared.store._room = FreeSpace(folder, 0.0)
    assert (await site.ask("/readyz")).status == 200


async def test_F89_a_store_that_cannot_be_written_makes_it_unready(site: Site) -> None:
    tmp = site.services.shared.settings.data_dir / "tmp"
    kept = tmp.rename(tmp.with_name("tmp-away"))
    tmp.write_bytes(b"in the way")
    got = await site.ask("/readyz")
    tmp.unlink()
    kept.rename(tmp)
    assert got.status == 503
    assert checks(got)["storage"] not in ("", "ok")
    assert checks(got)["database"] == "ok"


async def test_a_keyring_that_gpg_cannot_load_makes_it_unready(site: Site) -> None:
    junk, now = b"no key at all", site.services.shared.now()
    await site.services.shared.db.write(
        lambda s: Keyrings(s).add(Digest.of(junk), "refresh", junk, now)
    )
    got = await site.ask("/readyz")
    assert got.status == 503
    assert checks(got)["keyring"] not in ("", "ok")
    assert (await site.ask("/healthz")).status == 200


async def test_a_draining_process_is_alive_and_unready_and_still_serves(
    start_site: StartSite, put: Put
) -> None:
    name, data = put("go1.99.1")
    cold, _ = put("go1.99.2")
    site = await start_site()
    await site.ask(f"/dl/{name}")
    site.application.begin_drain()
    got = await site.ask("/readyz")
    assert (got.status, checks(got)) == (503, {"process": "shutting down"})
    assert (await site.ask("/healthz")).status == 200
    assert (await site.ask(f"/dl/{name}")).body == data
    refused = await site.ask(f"/dl/{cold}")
    assert (refused.status, bool(refused.header("retry-after"))) == (503, True)


async def test_a_check_that_hangs_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.health._CHECK_S", 0.05)

    class Hanging:
        async def probe(self) -> int:
            await asyncio.Event().wait()
            raise AssertionError

    services = site.services
    health = Health(services.shared.db, Hanging(), services.releases.keyring)
    assert "no answer within" in (await health.readiness())["storage"]


async def test_readiness_leaves_no_trace_in_the_store(mirror: Mirror) -> None:
    tmp = mirror.site.services.shared.settings.data_dir / "tmp"
    before = sorted(tmp.rglob("*"))
    for _ in range(3):
        assert (await mirror.site.ask("/readyz")).status == 200
    assert sorted(tmp.rglob("*")) == before


async def test_metrics_are_prometheus_text_with_build_info(mirror: Mirror) -> None:
    await mirror.site.ask("/dl/nothing")
    got = await mirror.site.ask("/metrics")
    assert (got.header("content-type") or "").startswith("text/plain; version=")
    families = {f.name: f for f in text_string_to_metric_families(got.text)}
    build = families["moorage_build_info"].samples
    assert [(s.labels["version"], s.value) for s in build] == [(__version__, 1)]
    seen = {
        tuple(sorted(s.labels.items())): s.value
        for s in families["moorage_http_requests"].samples
        if s.name.endswith("_total")
    }
    labels = (("method", "GET"), ("status", "404"), ("surface", "downloads"))
    assert seen[labels] >= 1
    assert "moorage_index_age_seconds" in families
    states = {s.labels["state"] for s in families["moorage_releases_files"].samples}
    assert {"verified", "sha256-only", "pending-signature", "quarantined", "known"} <= states


async def test_no_metric_has_a_label_that_a_client_chose(mirror: Mirror) -> None:
    await mirror.site.ask("/dl/chosen-by-me", "PROPFIND")
    await mirror.site.ask("/api/v1/chosen-by-me?chosen-by-me", headers={"X-A": "chosen-by-me"})
    text = (await mirror.site.ask("/metrics")).text
    assert "chosen-by-me" not in text
    assert "PROPFIND" not in text


async def test_the_application_can_be_embedded_without_a_server(mirror: Mirror) -> None:
    """`running` is what other programs use."""
    settings = mirror.site.services.shared.settings
    async with running(settings) as application:
        assert set((await application.health.readiness()).values()) == {"ok"}


async def test_a_schema_that_is_missing_stops_the_start(mirror: Mirror, tmp_path: Path) -> None:
    settings = mirror.site.services.shared.settings.model_copy(update={"data_dir": tmp_path})
    with pytest.raises(MoorageError, match="moorage migrate"):
        async with running(settings):
            pass


async def test_metrics_name_no_upstream_that_no_route_leads_to_any_more(tmp_path: Path) -> None:
    with FakeGoproxy([module("example.com/x", "v1.0.0")]) as fake:
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme", fake)
            assert (await site.ask("/goproxy/acme/example.com/x/@v/v1.0.0.mod")).status == 200
            named = f'moorage_upstream_requests_total{{origin="{fake.base_url}",outcome="ok"}}'
            assert named in (await site.ask("/metrics")).text
            [route] = await site.services.tenants.routes.page("acme", OPERATOR)
            await site.services.tenants.routes.remove("acme", route.id, OPERATOR)
            await settled(site.services)
            assert fake.base_url not in (await site.ask("/metrics")).text
