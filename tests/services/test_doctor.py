"""Each check of the doctor can fail, and says what to do."""

import base64
import os
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from app.core.digest import Digest
from app.db.blobs import Blobs
from app.db.engine import Session
from app.services.assembly import Services
from app.services.backup.place import BackupPlace
from app.services.doctor import Doctor, Finding, Level
from app.services.secrets import GivenKeys
from app.storage.objects import LocalObjects
from app.wiring import build
from tests.conftest import MakeServices, MakeSettings


async def looked(services: Services, **more: Any) -> dict[str, Finding]:
    """Return the worst finding of each check."""
    values: dict[str, Any] = {"certificate_expires": None, "backups": lambda: None, **more}
    findings = await Doctor(services, **values).look()
    order = [Level.OK, Level.WARNING, Level.TROUBLE]
    worst: dict[str, Finding] = {}
    for one in findings:
        name = one.about.partition(" ")[0]
        if name == "upstream" and "127.0.0.1" not in one.about:
            continue  # of a default: the tests reach nothing but this machine
        if name not in worst or order.index(one.level) > order.index(worst[name].level):
            worst[name] = one
    return worst


@pytest.fixture
async def services(start_services: MakeServices) -> Services:
    return await start_services()


async def test_a_sound_installation(services: Services) -> None:
    os.chmod(services.shared.settings.data_dir / "keys", 0o700)
    worst = await looked(services)
    assert {name for name, one in worst.items() if one.level is Level.TROUBLE} == set()
    assert {name for name, one in worst.items() if one.level is Level.WARNING} == {
        "backup",
        "index",
        "leader",
    }
    assert all(one.advice for one in worst.values() if one.level is not Level.OK)


@pytest.mark.only_sqlite  # the key is given on PostgreSQL
async def test_what_is_wrong_in_files_and_settings(services: Services) -> None:
    shared = services.shared
    os.chmod(shared.settings.data_dir / "keys" / "secrets.key", 0o644)
    settings = shared.settings.model_copy(update={"host": "0.0.0.0", "workers": 64})
    storage = settings.storage.model_copy(update={"min_free_percent": 100.0})
    settings = settings.model_copy(update={"storage": storage})
    at = shared.now()
    changed = replace(services, shared=replace(shared, settings=settings))
    worst = await looked(changed, certificate_expires=at - timedelta(days=1))
    levels = {name: worst[name].level for name in ("files", "disk", "workers", "listener", "tls")}
    assert levels == {
        "files": Level.TROUBLE,
        "disk": Level.TROUBLE,
        "workers": Level.WARNING,
        "listener": Level.WARNING,
        "tls": Level.TROUBLE,
    }
    soon = await looked(services, certificate_expires=at + timedelta(days=5))
    assert soon["tls"].level is Level.WARNING


async def test_what_is_wrong_in_the_database(services: Services) -> None:
    shared = services.shared
    digest = await shared.store.put(b"damaged")
    await shared.db.write(lambda s: Blobs(s).record(digest, 7, shared.now()))
    await shared.db.write(lambda s: Blobs(s).mark_damaged(digest))
    await services.tenants.tokens.create_first()
    await services.tenants.tenants.create_default()
    await services.sumdb.logs.create("default")
    await services.shared.audit_head.step()
    logs = shared.settings.data_dir / "keys" / "logs"
    (logs / "audit.chain").write_bytes(b"999 " + b"0" * 64 + b"\n")
    services.upkeep.rotation._source = GivenKeys(b"x" * 32)
    worst = await looked(services)
    assert {name: worst[name].level for name in ("store", "secrets", "audit", "tokens")} == {
        "store": Level.TROUBLE,
        "secrets": Level.TROUBLE,
        "audit": Level.TROUBLE,
        "tokens": Level.WARNING,
    }


async def test_blobs_that_are_gone(services: Services) -> None:
    shared = services.shared
    for content in (b"kept", b"lost"):
        digest = await shared.store.put(content)
        await shared.db.write(partial(record, digest, shared.now()))
    assert (await looked(services))["store"].level is Level.OK
    await shared.store.delete(digest)
    store = (await looked(services))["store"]
    assert (store.level, store.text) == (
        Level.TROUBLE,
        f"1 of 2 blobs are missing or short, such as {digest}",
    )


def record(digest: Digest, now: datetime, session: Session) -> None:
    Blobs(session).record(digest, 4, now)


async def test_a_database_out_of_reach_is_told_in_the_words_of_its_driver(
    make_settings: MakeSettings,
) -> None:
    key = base64.b64encode(b"k" * 32).decode()
    url = "postgresql+psycopg://m:hunter2@127.0.0.1:9/m"
    services = build(make_settings(database_url=url, secrets_key=key))
    try:
        database = (await looked(services))["database"]
    finally:
        await services.close()
    assert "Connection refused" in database.text
    assert "hunter2" not in database.text
    assert "MOORAGE_DATABASE_URL" in database.advice


async def test_a_database_that_can_not_be_used_ends_the_look(
    make_settings: MakeSettings, url: str
) -> None:
    services = build(make_settings(database_url=url))  # nobody has migrated it
    try:
        worst = await looked(services)
        assert worst["database"].level is Level.TROUBLE
        assert "store" not in worst
    finally:
        await services.close()


async def test_backups_and_upstreams(services: Services, fake: Any, tmp_path: Any) -> None:
    place = BackupPlace(LocalObjects(tmp_path / "backups"))
    assert (await looked(services, backups=lambda: place))["backup"].level is Level.WARNING
    await services.upkeep.backups.create(place, lambda done, total: None)
    worst = await looked(services, backups=lambda: place)
    assert (worst["backup"].level, worst["upstream"].level) == (Level.OK, Level.OK)
    fake.stop()
    assert (await looked(services))["upstream"].level is Level.WARNING
